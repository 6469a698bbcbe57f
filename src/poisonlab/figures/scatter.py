"""Two measures of every attack on the accuracy as a whole, one point each (Sandoval-Segura et al. 2022, figures 1 and
2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from adjustText import adjust_text
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke

from poisonlab.config.figures import Drawn
from poisonlab.config.measures import Measure
from poisonlab.config.poison_claims import PoisonClaims
from poisonlab.config.types import Name
from poisonlab.errors import DataError
from poisonlab.evaluation.correlations import Correlation, correlation
from poisonlab.evaluation.intervals import Interval
from poisonlab.evaluation.layouts import p_text
from poisonlab.evaluation.poison_claims import CHANCE, FEWEST, does_not_tell, rises, with_slowest
from poisonlab.figures.reading import Inputs, read_table
from poisonlab.figures.style import PAGE_WIDTH, STYLED, nth_line
from poisonlab.figures.wording import INTERVALS, explained, listed, scale_of, seeds, title_of


class Spec(Drawn):
    """Settings of the figure."""

    x: Measure
    y: Measure
    attacks: tuple[Name, ...]
    """The attacks that are drawn as points, in order."""
    victims: tuple[Name, ...]
    """The victim of each attack whose outcome is drawn."""
    defense: Name
    """The undefended row."""
    claim: Literal["rises", "does not tell"]
    """The paper's claim: y rises with x, or x does not tell y."""
    close: float = PoisonClaims().close
    """As in ``PoisonClaims``."""


def draw(inputs: Inputs, spec: Spec) -> tuple[Figure, str]:
    """Draw from ``results`` (the tidy table, CSV)."""
    points = read_points(inputs, spec)
    return scatter(points, spec.x, spec.y), scatter_caption(points, spec)


def read_points(inputs: Inputs, spec: Spec) -> pd.DataFrame:
    """One row per attack of the spec: ``attack``, ``n``, and each measure with its interval; nan if it has none.

    If y is claimed to rise with x, x is infinite for attacks with a seed that has only y, because it never reached the
    event.

    Raises:
        DataError: the table is missing, damaged or another study's.
    """
    path = inputs["results"][0]
    numbers = [f"{name}{end}" for name in (spec.x.name, spec.y.name) for end in ("", "_low", "_high", "_n")]
    table = read_table(path, ("attack", "victim", "defense"), ("n", *numbers))
    first = table["attack"].map(dict(zip(spec.attacks, spec.victims, strict=True)))
    own = table[(table["victim"] == first) & (table["defense"] == spec.defense)].set_index("attack")
    if own.index.isin(spec.attacks).sum() == 0:
        raise DataError(f"{path} has none of the attacks {', '.join(spec.attacks)}: is it another study's table?")
    points = own.reindex(list(spec.attacks)).rename_axis("attack").reset_index()
    return with_slowest(points, spec.x, spec.y) if spec.claim == "rises" else points


@STYLED
def scatter(points: pd.DataFrame, x: Measure, y: Measure) -> Figure:
    """A named point per attack, with intervals over seeds, if any.

    Args:
        points: see ``read_points``; attacks without a measure are left out. Attacks with an infinite x have an open
            triangle at the right edge.
        x, y: the measures along the axes.
    """
    known = points[np.isfinite(points[x.name]) & points[y.name].notna()]
    edge = scale_of(x) * 1.1 * float(known[x.name].max()) if len(known) else 1.0
    figure = Figure(figsize=(PAGE_WIDTH * 0.75, 3.7), layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.04))
    axes = figure.subplots()
    named: list[tuple[str, float, float]] = []
    for place, (_, point) in enumerate(points.iterrows()):
        if known.empty or math.isnan(point[x.name]) or math.isnan(point[y.name]):
            continue
        colour, _ = nth_line(place)
        late = math.isinf(point[x.name])
        at = [edge if late else scale_of(x) * float(point[x.name]), scale_of(y) * float(point[y.name])]
        errors = [None if late else _error(point, x), _error(point, y)]
        axes.errorbar(
            [at[0]],
            [at[1]],
            xerr=errors[0],
            yerr=errors[1],
            fmt=">" if late else "o",
            markersize=4,
            fillstyle="none" if late else "full",
            color=colour,
            elinewidth=0.7,
            markeredgewidth=0.8 if late else 0,
        )
        named.append((str(point["attack"]), at[0], at[1]))
    if known.empty:
        # An empty figure, for example because no victim's loss ever is low, must not make the study fail.
        axes.text(0.5, 0.5, "no attack has both", ha="center", transform=axes.transAxes)
    axes.set_xlabel(title_of(x))
    axes.set_ylabel(title_of(y))
    axes.grid()
    axes.margins(0.08)
    _write_names(axes, named)
    return figure


def _write_names(axes: Axes, named: Sequence[tuple[str, float, float]]) -> None:
    """Write each name near its point without overlap, with a line to a distant point."""
    if not named:
        return
    _, across, up = zip(*named, strict=True)
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # the layout, as names are moved within the axes as they are
    outline = [withStroke(linewidth=1.2, foreground="white")]
    texts = [axes.text(x, y, name, fontsize=6, path_effects=outline) for name, x, y in named]
    line = {"arrowstyle": "-", "linewidth": 0.5, "color": "0.4"}
    # Limited by steps, not by time, so that equal points give equal figures.
    force = {"force_text": (0.3, 0.4), "force_static": (0.2, 0.3)}
    adjust_text(texts, across, up, ax=axes, iter_lim=500, expand=(1.2, 1.3), min_arrow_len=3, arrowprops=line, **force)
    for text in texts:
        text.set_in_layout(False)


def _error(point: Any, measure: Measure) -> list[list[float]] | None:
    """The interval's extent below and above the value, in the units of the axis; None without an interval."""
    low, value, high = (float(point[f"{measure.name}{end}"]) for end in ("_low", "", "_high"))
    if not np.isfinite([low, high]).all():
        return None
    return [[scale_of(measure) * (value - low)], [scale_of(measure) * (high - value)]]


def scatter_caption(points: pd.DataFrame, spec: Spec) -> str:
    """The caption of ``scatter``: the correlations with their intervals, and the verdict on the paper's claim.

    Args:
        points: as drawn.
        spec: the measures and the claim.
    """
    known = points.dropna(subset=[spec.x.name, spec.y.name])
    if not np.isfinite(known[spec.x.name]).any():
        return f"No attack under {spec.defense} has both {spec.x.called} and {spec.y.called} with every seed."
    found = correlation(list(known[spec.x.name]), list(known[spec.y.name]))
    absent = [str(name) for name in points["attack"] if name not in set(known["attack"])]
    late = [str(name) for name in known[np.isinf(known[spec.x.name])]["attack"]]
    left = (
        f" Open triangles have no {spec.x.called} with some seed; they are last in rank and not in Pearson's: "
        f"{listed(late)}."
        if late
        else ""
    )
    left += f" Left out, without one of the two: {listed(absent)}." if absent else ""
    several = list(dict.fromkeys(spec.victims))
    if len(several) > 1:
        left += f" Attacks differ in their victims, too: each is shown with its first of {listed(several)}."
    ends = known[[f"{name}_low" for name in (spec.x.name, spec.y.name)]]
    bars = f"Bars are {INTERVALS}. " if np.isfinite(ends).any(axis=None) else ""
    what = f"{explained(spec.y)} against {explained(spec.x)}"
    return (
        f"{what[:1].upper()}{what[1:]} of {len(known)} attacks under {spec.defense} ({seeds(list(known['n']))} each). "
        f"{bars}Over attacks, with bootstrap intervals (95 %): "
        f"Pearson's correlation {_text(found.pearson)}, Spearman's {_text(found.spearman)}{_by_chance(found)}. "
        f"{verdict(found, spec.claim, spec.close)}{left}"
    )


def verdict(found: Correlation, claim: str, close: float) -> str:
    """A sentence on whether Spearman's interval confirms or contradicts the paper's claim."""
    low, high = found.spearman.low, found.spearman.high
    if math.isnan(low):
        return "Without a correlation, the paper's claim is undecided."
    if found.spearman.n < FEWEST:
        return f"The paper's claim is undecided: fewer than {FEWEST} attacks settle nothing."
    if claim == "rises":
        where = "above 0" if low > 0 else "below 0" if high < 0 else "around 0"
        where += "" if found.p < CHANCE else f", and p is not below {CHANCE:g}"
        return f"The paper's claim that one rises with the other is {rises(found)}: the interval lies {where}."
    return (
        f"The paper's claim that one does not tell the other is {does_not_tell(found, close)}: confirmed "
        f"means that the interval of Spearman's correlation lies between {-close:g} and {close:g}."
    )


def _by_chance(found: Correlation) -> str:
    return "" if math.isnan(found.p) else f" (p {p_text(found.p)} by permutation)"


def _text(interval: Interval) -> str:
    if math.isnan(interval.estimate):
        return "unknown"
    return f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
