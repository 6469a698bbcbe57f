"""The largest size that compressed data may claim to have."""

from __future__ import annotations

_ALWAYS = 1 << 28
_DENSEST = 100


def most_bytes(stored: int) -> int:
    """Largest size in bytes that ``stored`` compressed bytes may claim; a larger claim is damage or an attack."""
    return max(_ALWAYS, _DENSEST * stored)
