"""Which of the forms of an answer its caller asks for.

Source: RFC 9110, 12.5.1 (Accept); a form that only a wildcard names is not asked for.
"""

from __future__ import annotations

from steadynet.serving.requests import media_type

JSON_RANGES = (b"application/json", b"application/*", b"*/*")


def asks_for(accept: bytes, kind: bytes) -> bool:
    """Return whether a header Accept names a media type, and wants JSON no more than that."""
    if kind not in accept.lower():
        return False
    wanted = _quality(accept, (kind,))
    return wanted > 0 and wanted >= _quality(accept, JSON_RANGES[:1])


def takes_json(accept: bytes) -> bool:
    """Return whether JSON will do too."""
    return _quality(accept, JSON_RANGES) > 0


def _quality(accept: bytes, kinds: tuple[bytes, ...]) -> float:
    """Return the highest weight of one of the media types; 0 where none is listed."""
    weights = [_weight(each) for each in accept.split(b",") if media_type(each) in kinds]
    return max(weights, default=0.0)


def _weight(media_range: bytes) -> float:
    for parameter in media_range.split(b";")[1:]:
        name, _, value = parameter.partition(b"=")
        if name.strip().lower() == b"q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
