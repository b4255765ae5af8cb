"""Raw tensor contents: what the binary extension over HTTP and `raw_input_contents` in gRPC hold.

Row-major elements, little-endian, without padding; a BOOL is one byte, 0 or 1; an element of BYTES
is its length as four bytes and then the bytes, which must be UTF-8 here.

Source: the binary tensor data extension of the Open Inference Protocol, as Triton documents it
(https://github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md).
"""

from __future__ import annotations

import numpy as np

from steadynet.errors import InputError
from steadynet.serving.tensors import DTYPES

LENGTH_BYTES = 4


def decode_tensor(
    name: str, datatype: str, count: int, raw: bytes | memoryview
) -> np.ndarray | list[str]:
    """Return `count` elements as an array over `raw` itself, or a list of texts for BYTES.

    Raises `InputError` where the bytes are too few, too many or not what the datatype allows.
    """
    if datatype == "BYTES":
        return _decode_texts(name, count, bytes(raw))
    dtype = DTYPES[datatype]
    if count * dtype.itemsize != len(raw):
        raise _wrong_size(name, f"{count} elements of {datatype}, {count * dtype.itemsize}", raw)
    if datatype != "BOOL":
        array = np.frombuffer(raw, dtype)
        # The JSON part before it may end anywhere.
        return array if array.flags.aligned else array.copy()
    flags = np.frombuffer(raw, np.uint8)
    if count and flags.max() > 1:
        raise InputError(
            f"input {name!r} has a value that is no BOOL",
            column=name,
            expected="bytes that are 0 or 1",
            got="another byte",
        )
    return flags.view(np.bool_)


def encode_tensor(array: np.ndarray) -> bytes:
    """Return an output's elements; object arrays of `str` as BYTES."""
    if array.dtype.kind == "O":
        parts = []
        for text in array.ravel().tolist():
            encoded = text.encode()
            parts.append(len(encoded).to_bytes(LENGTH_BYTES, "little"))
            parts.append(encoded)
        return b"".join(parts)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _decode_texts(name: str, count: int, raw: bytes) -> list[str]:
    texts = []
    at, end = 0, len(raw)
    # A count that lies ends at the end of the bytes.
    for _ in range(count):
        start = at + LENGTH_BYTES
        if start > end:
            raise _wrong_size(name, f"{count} elements of BYTES, more", raw)
        at = start + int.from_bytes(raw[at:start], "little")
        if at > end:
            raise _wrong_size(name, f"{count} elements of BYTES, more", raw)
        try:
            texts.append(raw[start:at].decode())
        except UnicodeDecodeError:
            raise InputError(
                f"input {name!r} has text that is not UTF-8", column=name, expected="UTF-8"
            ) from None
    if at != end:
        raise _wrong_size(name, f"{count} elements of BYTES, {at}", raw)
    return texts


def _wrong_size(name: str, expected: str, raw: bytes | memoryview) -> InputError:
    return InputError(
        f"input {name!r} has another size than its shape says",
        column=name,
        expected=f"{expected} bytes",
        got=f"{len(raw)} bytes",
    )
