"""A model of MLServer, as its pages show a custom runtime: `mlserver start FOLDER`."""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from network import Network


class Bench(MLModel):
    async def load(self) -> bool:
        self.network = Network()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        if self.network.is_matrix:
            feed = {"x": NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)}
        else:
            feed = {}
            for given in payload.inputs:
                if self.network.kinds[given.name] is object:
                    texts = StringCodec.decode_input(given)
                    feed[given.name] = np.array(texts, dtype=object).reshape(-1, 1)
                else:
                    values = NumpyCodec.decode_input(given)
                    feed[given.name] = values.astype(np.float32).reshape(-1, 1)
        label, probabilities = self.network.session.run(["label", "probabilities"], feed)
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                StringCodec.encode_output("label", label.tolist()),
                NumpyCodec.encode_output("probabilities", probabilities),
            ],
        )
