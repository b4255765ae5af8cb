"""The protobuf wire format, as much of it as a serialized ONNX graph needs.

Serving does not install `onnx`. Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED_8, BYTES, FIXED_4 = 0, 1, 2, 5
"""Wire types."""
_SIGN = 1 << 63


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield field numbers with varints as int and everything else as bytes.

    Raises `ValueError` or `IndexError` for what is no message.
    """
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        field, wire = tag >> 3, tag & 7
        if wire == VARINT:
            number, position = _varint(data, position)
            yield field, number
            continue
        if wire == BYTES:
            length, position = _varint(data, position)
        elif wire in (FIXED_8, FIXED_4):
            length = 8 if wire == FIXED_8 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if position + length > len(data):
            raise ValueError("a field is cut off")
        yield field, data[position : position + length]
        position += length


def integers(value: int | memoryview) -> list[int]:
    """Return the int64 of a repeated field: one, or several that are packed."""
    if isinstance(value, int):
        return [_signed(value)]
    found, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        found.append(_signed(number))
    return found


Parts = list[bytes | memoryview]
"""A message in pieces, so that large ones are copied once: when all are joined."""


def write_field(field: int, value: int | bytes | memoryview | Parts) -> Parts:
    """Return a field that holds a number of at least 0, a text, or a message."""
    if isinstance(value, int):
        return [_encoded(field << 3 | VARINT), _encoded(value)]
    parts = value if isinstance(value, list) else [value]
    length = sum(map(len, parts))
    return [_encoded(field << 3 | BYTES), _encoded(length), *parts]


def _encoded(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _signed(number: int) -> int:
    number &= 2 * _SIGN - 1
    return number - 2 * _SIGN if number >= _SIGN else number


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
    raise ValueError("a varint is too long")
