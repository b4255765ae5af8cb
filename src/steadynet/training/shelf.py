"""Where a training's large arrays lie: in memory, or in files that go with the process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

STREAM_ABOVE_BYTES = 2 * 1024**3
"""A Parquet file whose cells would take more is read by columns and laid out in files."""


class Shelf:
    """Makes arrays in files without a name, which are gone once nobody holds them.

    They count as memory only as far as the system has memory to spare for them, and a training
    that is killed leaves nothing behind.
    """

    def __init__(self, folder: Path) -> None:
        """Take a folder on a disk with room for the table; it is made once it is needed."""
        self._folder = folder

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array of zeros that lies in a file."""
        if 0 in shape:
            return np.empty(shape, dtype)  # an empty file cannot be mapped
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._folder) as file:
            return np.memmap(file, dtype, mode="w+", shape=shape)
