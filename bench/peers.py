"""What steadynet's server is compared with: `python bench/peers.py constant|fastapi PORT [BUNDLE]`.

`constant` is the same HTTP server that reads the body and answers a constant; `fastapi` is
FastAPI with onnxruntime as an engineer writes it on the first day.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn


async def constant(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read the body and answer the same every time."""
    await receive()
    body = (
        b'{"model_name":"bench","model_version":"1","id":"0123456789ab-1234","outputs":[{"name":'
        b'"label","datatype":"BYTES","shape":[1],"data":["yes"]},{"name":"probabilities",'
        b'"datatype":"FP32","shape":[1,2],"data":[0.34567890123456789,0.65432109876543210]}]}'
    )
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", b"0123456789ab-1234"),
        (b"x-model-name", b"bench"),
        (b"x-model-version", b"1"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def fastapi_app(bundle: str) -> Any:
    """Return the plain service: one request, one run."""
    import numpy as np
    import onnxruntime as ort
    from fastapi import FastAPI
    from pydantic import BaseModel, create_model

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(f"{bundle}/model.onnx", options)
    names = [node.name for node in session.get_inputs()]
    texts = {node.name for node in session.get_inputs() if node.type == "tensor(string)"}
    tensor = create_model(
        "Tensor",
        name=(str, ...),
        shape=(list[int], ...),
        datatype=(str, ...),
        data=(list[Any], ...),
    )
    body = create_model("Infer", inputs=(list[tensor], ...))

    def infer(request: BaseModel) -> dict[str, Any]:
        inputs = request.inputs  # type: ignore[attr-defined]
        if len(inputs) == 1 and len(names) > 1:
            matrix = np.array(inputs[0].data, dtype=np.float32).reshape(-1, len(names))
            feed = {name: matrix[:, at : at + 1] for at, name in enumerate(names)}
        else:
            feed = {
                one.name: np.array(
                    one.data, dtype=object if one.name in texts else np.float32
                ).reshape(-1, 1)
                for one in inputs
            }
        label, probabilities = session.run(["label", "probabilities"], feed)
        return {"label": label.tolist(), "probabilities": probabilities.tolist()}

    infer.__annotations__ = {"request": body, "return": dict[str, Any]}
    app = FastAPI()
    app.post("/v2/models/bench/infer")(infer)
    return app


if __name__ == "__main__":
    kind, port = sys.argv[1], int(sys.argv[2])
    app = constant if kind == "constant" else fastapi_app(sys.argv[3])
    uvicorn.run(
        app,
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
    )
