"""How captions write numbers and lists."""

from __future__ import annotations

from collections.abc import Sequence

from poisonlab.config.figures import Drawn
from poisonlab.config.measures import Measure

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
INTERVALS = "95 % intervals (Wilson's of yes or no, Gaffke's of rates, Student's of values)"
"""What bars of measures are, see ``tidy_results``."""


class Beside(Drawn):
    """What a figure is told that may stand beside a published one."""

    beside: str | None = None
    """That one."""

    @property
    def begin(self) -> str:
        """How the caption begins."""
        return "" if self.beside is None else f"After {self.beside}. "


def number(value: float) -> str:
    """Three significant digits; whole from 1000 up, so that no caption has an exponent there."""
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def percent(share: float) -> str:
    """A share in [0, 1] in per cent, three significant digits."""
    return f"{100 * share:.3g} %"


def listed(parts: Sequence[str]) -> str:
    """The parts as in a sentence: a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def shown(measure: Measure, value: float) -> str:
    """A value of a measure with its unit."""
    return percent(value) if measure.unit == "%" else f"{number(value)} {measure.unit}".rstrip()


def scale_of(measure: Measure) -> int:
    """What a value is multiplied by to be drawn: shares are drawn in percent."""
    return 100 if measure.unit == "%" else 1


def title_of(measure: Measure) -> str:
    """The title of an axis."""
    return measure.called + (f" ({measure.unit})" if measure.unit else "")


def seeds(counts: Sequence[float]) -> str:
    """How many seeds rows have, as ``n = 3`` or ``n = 2 to 4``."""
    few, many = int(min(counts)), int(max(counts))
    return f"n = {few}" if few == many else f"n = {few} to {many}"
