"""How far compressed data are believed that say how large they are."""

from __future__ import annotations

_ALWAYS = 1 << 28
_DENSEST = 100


def most_bytes(stored: int) -> int:
    """The most bytes that ``stored`` compressed ones may claim to hold; more is damage or an attack."""
    return max(_ALWAYS, _DENSEST * stored)
