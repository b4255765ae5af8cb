"""steadynet: neural networks that stay right in production."""

from __future__ import annotations

__version__ = "0.1.0"
