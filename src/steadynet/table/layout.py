"""The tensors that a table becomes: what the feature graph makes and a network takes."""

from __future__ import annotations

import msgspec


class FeatureLayout(msgspec.Struct, frozen=True, kw_only=True):
    """Names and sizes of the feature graph's two outputs.

    `numbers` is float32 (N, D), finite, roughly in [-3, 3]: scaled numbers, missing indicators,
    booleans and date parts. `categories` is int64 (N, K): entry 0 is "missing", 1 is "unknown",
    2 and on are the known categories.
    """

    numbers: tuple[str, ...]
    """What each of the D columns of `numbers` is, as "age", "age is missing", "paid_at hour"."""
    number_sources: tuple[str, ...]
    """The table's column that each of the D columns comes from."""
    categories: tuple[str, ...]
    """The table's column behind each of the K columns of `categories`."""
    cardinalities: tuple[int, ...]
    """Entries per category column, "missing" and "unknown" included."""
