"""Requests that a server has not seen: valid ones, mutated by their grammar or by their bytes.

`Requests(model, columns, seed)` yields them without end, the same for the same seed.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

DATATYPES = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "BYTES", "BF16", "", "fp32", "STRING", "JSON"),
)
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, -(2**31), 2**63, -(2**63), 2**64, 10**400),
    *(0.5, -0.0, 1e308, -1e308, 5e-324, "", " ", "0", "1e400", "NaN", "-Infinity", "null"),
    *("\x00", "\ud83d\ude00", "a" * 5000, "2026-13-45T99:99:99", "9" * 400, [], [[]], {}, {"": {}}),
    *([None], [[1, [2, [3]]]], {"a": {"b": {"c": None}}}, [[]] * 50, list(range(300))),
)
TEXT_TYPES = (pa.string(), pa.large_string(), pa.string_view())
TIME_TYPES = (pa.timestamp("s"), pa.timestamp("s", "Europe/Berlin"), pa.int64(), pa.date64())
NUMBER_TYPES = (
    *(pa.int8(), pa.uint16(), pa.int64(), pa.float16(), pa.float32(), pa.float64()),
    *(pa.decimal128(9, 2), pa.duration("ms")),
)
KINDS = (
    "application/vnd.apache.arrow.stream",
    "application/vnd.apache.arrow.file",
    "application/json",
    "text/csv",
    "application/octet-stream",
    "text/plain",
    "",
    "a/b; c=\x7f",
)


@dataclass
class Sent:
    """One request."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def encode(self) -> bytes:
        """Return it as it goes over the wire."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "host: fuzz"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines.append(f"content-length: {len(self.body)}")
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + self.body


class Requests:
    """Generated requests for one model, whose columns are given by name and datatype."""

    def __init__(self, model: str, columns: Mapping[str, str], seed: int) -> None:
        self._model = model
        self._columns = dict(columns)
        self._random = random.Random(seed)
        self._makers: tuple[Callable[[], Sent], ...] = (
            *(self._infer, self._infer, self._binary, self._invocations, self._csv),
            *(self._arrow, self._feedback, self._looking),
        )

    def __iter__(self) -> Iterator[Sent]:
        """Yield requests without end."""
        while True:
            yield self.next()

    def next(self) -> Sent:
        """Return the next request."""
        draw = self._random
        sent = draw.choice(self._makers)()
        if draw.random() < 0.35:
            sent.body = self._mutate_bytes(sent.body)
        if draw.random() < 0.15:
            self._mutate_headers(sent)
        if draw.random() < 0.03:
            sent.method = draw.choice(["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "POST", "PATCH"])
        return sent

    def _value(self, datatype: str) -> Any:
        draw = self._random
        if draw.random() < 0.1:
            return draw.choice(ODD)
        if datatype == "BYTES":
            return draw.choice(["DE", "FR", "", "2026-01-01T10:00:00", "no such thing"])
        if datatype == "BOOL":
            return draw.random() < 0.5
        return draw.choice([draw.gauss(0, 100), draw.randrange(-9, 9)])

    def _rows(self) -> list[dict[str, Any]]:
        count = self._random.choice([1, 1, 1, 2, 5, 40])
        kinds = self._columns.items()
        return [{name: self._value(kind) for name, kind in kinds} for _ in range(count)]

    def _tensors(self) -> list[dict[str, Any]]:
        rows = self._rows()
        return [
            {
                "name": name,
                "datatype": kind,
                "shape": self._random.choice([[len(rows)], [len(rows), 1]]),
                "data": [row[name] for row in rows],
            }
            for name, kind in self._columns.items()
        ]

    def _json(self, path: str, content: Any) -> Sent:
        draw = self._random
        for _ in range(draw.choice([0, 0, 1, 1, 2, 5])):
            content = self._mutate_tree(content)
        body = json.dumps(content).encode("utf-8", "surrogatepass")
        return Sent("POST", path, {"content-type": "application/json"}, body)

    def _infer_path(self) -> str:
        version = self._random.choice(
            ["", "", "", "/versions/1", "/versions/none", "/versions/%00"]
        )
        return f"/v2/models/{self._model}{version}/infer"

    def _infer(self) -> Sent:
        content: dict[str, Any] = {"inputs": self._tensors()}
        if self._random.random() < 0.3:
            content["outputs"] = [{"name": self._random.choice(["label", "probabilities", "x"])}]
        if self._random.random() < 0.3:
            content["id"] = self._random.choice(["r1", "", " ", 5, "a" * 200, None])
        if self._random.random() < 0.3:
            content["parameters"] = {"sticky_key": self._random.choice(ODD), "other": 1}
        return self._json(self._infer_path(), content)

    def _binary(self) -> Sent:
        draw = self._random
        rows = draw.choice([1, 2, 7])
        inputs, tail = [], b""
        for name, kind in self._columns.items():
            if kind == "BYTES":
                data = b"".join(struct.pack("<I", 2) + b"DE" for _ in range(rows))
            elif kind == "BOOL":
                data = bytes(draw.randrange(2) for _ in range(rows))
            else:
                width = 8 if kind.endswith("64") else 4
                data = draw.randbytes(width * rows)
            size = len(data) if draw.random() < 0.95 else draw.choice([0, -1, 10**9, 3, None, "4"])
            inputs.append(
                {
                    "name": name,
                    "datatype": kind,
                    "shape": [rows, 1],
                    "parameters": {"binary_data_size": size},
                }
            )
            tail += data
        parameters = {"binary_data_output": draw.random() < 0.5}
        sent = self._json(self._infer_path(), {"inputs": inputs, "parameters": parameters})
        length = len(sent.body) if draw.random() < 0.9 else draw.choice([0, 1, 10**12, -1, "x"])
        sent.headers = {
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(length),
        }
        sent.body += tail
        return sent

    def _invocations(self) -> Sent:
        rows, draw = self._rows(), self._random
        names = list(self._columns)
        lists = [[row[name] for name in names] for row in rows]
        content: dict[str, Any] = draw.choice(
            [
                {"dataframe_records": rows},
                {"dataframe_split": {"columns": names, "data": lists}},
                {"instances": rows},
                {"instances": lists},
                {"inputs": {name: [row[name] for row in rows] for name in names}},
                {"inputs": rows, "params": {"a": draw.choice(ODD)}},
            ]
        )
        return self._json(
            draw.choice(["/invocations", f"/models/{self._model}/invocations"]), content
        )

    def _csv(self) -> Sent:
        rows, draw = self._rows(), self._random
        mark = draw.choice([",", ",", ",", ";", "\t"])
        lines = [mark.join(self._columns)]
        lines += [mark.join(str(value) for value in row.values()) for row in rows]
        body = draw.choice(["\n", "\r\n", "\r"]).join(lines).encode("utf-8", "surrogatepass")
        return Sent("POST", "/invocations", {"content-type": "text/csv"}, body)

    def _arrow(self) -> Sent:
        draw = self._random
        rows = draw.choice([1, 2, 40])
        table = pa.table({name: self._array(kind, rows) for name, kind in self._columns.items()})
        form, opened = draw.choice([("stream", pa.ipc.new_stream), ("file", pa.ipc.new_file)])
        sink = pa.BufferOutputStream()
        codec = draw.choice([None, None, "lz4", "zstd"])
        options = pa.ipc.IpcWriteOptions(compression=codec)
        with opened(sink, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=draw.choice([1, 100]))
        body = sink.getvalue().to_pybytes()
        if draw.random() < 0.6:
            body = self._mutate_words(body)
        headers = {"content-type": f"application/vnd.apache.arrow.{form}"}
        if draw.random() < 0.5:
            headers["accept"] = "application/vnd.apache.arrow.stream"
        return Sent("POST", "/invocations", headers, body)

    def _array(self, kind: str, rows: int) -> pa.Array:
        """Return a column of a type that its datatype may come as, or of any."""
        draw = self._random
        texts = ["DE", None, "2026-01-01T10:00:00", "longer than what fits in a view"]
        if draw.random() < 0.1:
            odd: tuple[Any, ...] = ([1], {"a": 1}, b"\xff", 1e300, None)
            return pa.array(([draw.choice(odd), None] * rows)[:rows])
        if kind == "BYTES":
            array = pa.array(draw.choices(texts, k=rows), draw.choice(TEXT_TYPES))
            if array.type != pa.string_view() and draw.random() < 0.3:
                return array.dictionary_encode()
            return array
        if kind == "BOOL":
            return pa.array(draw.choices([True, False, None], k=rows), pa.bool_())
        if kind == "INT64" and draw.random() < 0.6:
            return pa.array(draw.choices([0, 1_767_225_600, None], k=rows), draw.choice(TIME_TYPES))
        return pa.array(draw.choices([0, 5, None, 117], k=rows), draw.choice(NUMBER_TYPES))

    def _mutate_words(self, body: bytes) -> bytes:
        """Return Arrow with some of its numbers changed: offsets, lengths, counts."""
        draw = self._random
        changed = bytearray(body)
        for _ in range(draw.choice([1, 1, 2, 6])):
            width = draw.choice([1, 4, 4, 8])
            at = draw.randrange(len(changed)) // width * width
            word = draw.choice([0, 1, 8, len(body), 2**31 - 1, 2**62, -1, draw.randrange(2**32)])
            changed[at : at + width] = (word % 256**width).to_bytes(width, "little")
        return bytes(changed)

    def _feedback(self) -> Sent:
        draw = self._random
        label: dict[str, Any] = {
            "id": f"r{draw.randrange(99)}",
            "label": draw.choice(["yes", "no"]),
        }
        known: list[Any] = [label, [label] * 3, [], label | {"at": 1.7e9}]
        content = draw.choice(known)
        return self._json("/feedback", content)

    def _looking(self) -> Sent:
        model = f"/v2/models/{self._model}"
        paths = ["/", "/v2", "/ping", "/metrics", "/version", "/v2/health/ready", model]
        paths += [
            f"{model}/ready",
            f"{model}/versions/1",
            "/v2/models/none",
            "/v2/repository/index",
            f"/v2/repository/models/{self._model}/unload",
        ]
        path = self._random.choice(paths)
        if self._random.random() < 0.3:
            junk = self._random.choice(["%00", "/..", "?a=b&" * 9, "/" * 50, "%c3%28", "a" * 3000])
            path += junk
        return Sent("GET", path)

    def _mutate_tree(self, content: Any) -> Any:
        """Return a JSON value with one place in it changed."""
        draw = self._random
        if isinstance(content, dict) and content and draw.random() < 0.85:
            name = draw.choice(list(content))
            changed = dict(content)
            what = draw.random()
            if what < 0.08:
                del changed[name]
            elif what < 0.14:
                changed[draw.choice(["", "inputs", "data", "a" * 300, "\x00"])] = changed.pop(name)
            elif name == "datatype" and what < 0.6:
                changed[name] = draw.choice(DATATYPES)
            else:
                changed[name] = self._mutate_tree(changed[name])
            return changed
        if isinstance(content, list) and content and draw.random() < 0.85:
            position = draw.randrange(len(content))
            what = draw.random()
            if what < 0.1:
                return content[:position] + content[position + 1 :]
            if what < 0.2:
                return content + content[position:] * draw.choice([1, 3])
            item = self._mutate_tree(content[position])
            return [*content[:position], item, *content[position + 1 :]]
        if draw.random() < 0.05:
            nested: Any = content
            for _ in range(draw.choice([3, 30, 150])):
                nested = [nested]
            return nested
        return draw.choice(ODD)

    def _mutate_bytes(self, body: bytes) -> bytes:
        draw = self._random
        changed = bytearray(body)
        for _ in range(draw.choice([1, 1, 2, 8])):
            at = draw.randrange(len(changed) + 1)
            what = draw.randrange(6)
            if what == 0:
                changed[at:at] = draw.randbytes(draw.choice([1, 4, 60]))
            elif what == 1:
                del changed[at : at + draw.choice([1, 3, 50])]
            elif what == 2 and at < len(changed):
                changed[at] ^= 1 << draw.randrange(8)
            elif what == 3:
                del changed[at:]
            elif what == 4:
                changed[at:at] = draw.choice(
                    [b"[" * 500, b'{"a":' * 200, b'"', b"\\ud800", b"\xff"]
                )
            else:
                start = draw.randrange(len(changed) + 1)
                changed[at:at] = changed[start : start + draw.choice([5, 200])]
        return bytes(changed) if draw.random() < 0.97 else draw.randbytes(draw.randrange(400))

    def _mutate_headers(self, sent: Sent) -> None:
        draw = self._random
        odd = draw.choice(["", " ", "a" * 2000, "-1", "1e9", "nan", "\xff\xfe", "0", "\x01", "r 1"])
        sent.headers |= draw.choice(
            [
                {"content-type": draw.choice(KINDS)},
                {"content-encoding": draw.choice(["gzip", "identity", "br", odd])},
                {"x-request-id": odd},
                {"x-sticky-key": odd},
                {"x-request-timeout-ms": odd},
                {"inference-header-content-length": odd},
                {"traceparent": odd},
                {"authorization": odd},
                {"accept": odd},
            ]
        )
