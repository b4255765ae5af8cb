"""A picture of a bundle: `pictures/<name>.svg`, beside the words that say what it shows."""

from __future__ import annotations

import re

import msgspec

FOLDER = "pictures"
PATTERN = "pictures/*.svg"
"""How the limit of every picture's size is named in `bundle.read.MAX_BYTES`."""
MOST = 32
"""Pictures in a bundle."""
_FILE = re.compile(r"pictures/[a-z][a-z0-9_]{0,60}\.svg")


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """One picture."""

    name: str
    """Lower-case letters, digits and `_`."""
    title: str
    alt: str
    """What is to be seen, for those who do not see it."""
    svg: bytes

    @property
    def file(self) -> str:
        """Its path in the bundle."""
        return f"{FOLDER}/{self.name}.svg"


def is_picture(name: str) -> bool:
    """Return whether a name in a manifest is that of a picture."""
    return _FILE.fullmatch(name) is not None
