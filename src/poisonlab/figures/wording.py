"""Numbers and lists in captions."""

from __future__ import annotations

from collections.abc import Sequence

from poisonlab.config.figures import Drawn
from poisonlab.config.measures import Measure

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
INTERVALS = "95 % intervals (Wilson for events, Gaffke for rates, Student for other values)"
"""The intervals that error bars show, see ``tidy_results``."""


class Beside(Drawn):
    """Settings of a figure that may be compared with a published one."""

    beside: str | None = None
    """The published figure."""

    @property
    def begin(self) -> str:
        """The beginning of the caption."""
        return "" if self.beside is None else f"After {self.beside}. "


def number(value: float) -> str:
    """Three significant digits; from 1000 on a whole number, to avoid exponents."""
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
    """The factor by which a value is multiplied for drawing: shares are drawn in percent."""
    return 100 if measure.unit == "%" else 1


def title_of(measure: Measure) -> str:
    """The title of an axis, with the unit if the measure's name does not have it."""
    return measure.called + (f" ({measure.unit})" if measure.unit not in measure.called else "")


def explained(measure: Measure) -> str:
    """A measure with its meaning."""
    return measure.called + (f" ({measure.meaning})" if measure.meaning else "")


def seeds(counts: Sequence[float]) -> str:
    """The number of seeds of some rows, as ``n = 3`` or ``n = 2 to 4``."""
    few, many = int(min(counts)), int(max(counts))
    return f"n = {few}" if few == many else f"n = {few} to {many}"
