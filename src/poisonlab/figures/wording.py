"""How captions write numbers and lists."""

from __future__ import annotations

from collections.abc import Sequence

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


def number(value: float) -> str:
    """Three significant digits; whole from 1000 up, so that no caption has an exponent there."""
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def percent(share: float) -> str:
    """A share in [0, 1] in per cent, three significant digits."""
    return f"{100 * share:.3g} %"


def listed(parts: Sequence[str]) -> str:
    """The parts as in a sentence: a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
