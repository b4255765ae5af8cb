"""Generated messages over gRPC: valid ones, mutated by field or by byte. Used by `fuzz.py`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from fuzz_bodies import DATATYPES
from tritonclient.grpc import service_pb2 as kserve

INFER = "/inference.GRPCInferenceService/ModelInfer"
FIELDS: dict[str, tuple[str, list[Any]]] = {
    "BYTES": ("bytes_contents", [b"DE", b"", b"\xff", b"a" * 500]),
    "BOOL": ("bool_contents", [True, False]),
    "INT64": ("int64_contents", [0, -1, 2**62]),
    "FP32": ("fp32_contents", [0.5, -3.0, 7.25]),
    "FP64": ("fp64_contents", [0.5, -3.0, 1e300]),
}
BAD = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}
NOT_FINITE = "is not finite"


@dataclass
class GrpcReport:
    """What came back."""

    codes: Counter[str] = field(default_factory=Counter)
    not_finite: int = 0
    faults: list[tuple[str, bytes]] = field(default_factory=list)
    """Code and message of each answer that must not be."""


class Messages:
    """Generated messages for one model, whose columns are given by name and datatype."""

    def __init__(self, model: str, columns: Mapping[str, str], seed: int) -> None:
        self._model = model
        self._columns = dict(columns)
        self._random = random.Random(seed)

    def next(self) -> bytes:
        """Return the next message as it goes over the wire."""
        draw = self._random
        message = self._valid()
        for _ in range(draw.choice([0, 1, 2])):
            self._mutate(message)
        data = bytearray(message.SerializeToString())
        if draw.random() < 0.4:
            for _ in range(draw.choice([1, 2, 9])):
                at = draw.randrange(len(data) + 1)
                if draw.random() < 0.5 and at < len(data):
                    data[at] ^= 1 << draw.randrange(8)
                else:
                    data[at : at + draw.choice([0, 1, 9])] = draw.randbytes(draw.choice([0, 1, 5]))
        return bytes(data) if draw.random() < 0.97 else draw.randbytes(draw.randrange(300))

    def _valid(self) -> Any:
        draw = self._random
        rows = draw.choice([1, 1, 3])
        message = kserve.ModelInferRequest(model_name=self._model)
        for name, datatype in self._columns.items():
            field_name, values = FIELDS.get(datatype, FIELDS["FP32"])
            tensor = message.inputs.add(name=name, datatype=datatype, shape=[rows])
            contents = {field_name: [draw.choice(values) for _ in range(rows)]}
            tensor.contents.MergeFrom(kserve.InferTensorContents(**contents))
        return message

    def _mutate(self, message: Any) -> None:
        draw = self._random
        tensor = draw.choice(message.inputs) if message.inputs else message.inputs.add()
        what = draw.randrange(8)
        if what == 0:
            tensor.datatype = draw.choice(DATATYPES)
        elif what == 1:
            tensor.shape[:] = draw.choice([[], [0], [-1], [1, 1], [2**62], [3, -3], [1] * 50])
        elif what == 2:
            tensor.name = draw.choice(["", "none", "a" * 999, "\x00"])
        elif what == 3:
            tensor.ClearField("contents")
        elif what == 4:
            sizes = [0, 4, 8, 9, 500]
            raw = [draw.randbytes(draw.choice(sizes)) for _ in range(draw.choice([1, 3, 10]))]
            message.raw_input_contents.extend(raw)
        elif what == 5:
            message.outputs.add(name=draw.choice(["label", "probabilities", "none", ""]))
        elif what == 6:
            message.model_version = draw.choice(["", "1", "none", "a" * 999])
        else:
            message.id = draw.choice(["", " ", "r1", "a" * 999, "\u2603"])


def fuzz_grpc(
    address: str, model: str, columns: Mapping[str, str], count: int, seed: int
) -> GrpcReport:
    """Send `count` generated messages to a server; return what came back."""
    messages, report = Messages(model, columns, seed), GrpcReport()
    with grpc.insecure_channel(address) as channel:
        infer = channel.unary_unary(INFER)
        for _ in range(count):
            message = messages.next()
            try:
                infer(message, timeout=60)
            except grpc.RpcError as error:
                code = error.code()
                report.codes[code.name] += 1
                if code is grpc.StatusCode.INTERNAL and NOT_FINITE in error.details():
                    report.not_finite += 1
                elif code in BAD:
                    report.faults.append((code.name, message))
            else:
                report.codes["OK"] += 1
    return report
