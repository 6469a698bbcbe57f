"""The results table as dots with intervals: the main measure and the last one of every defense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from poisonlab.config.figures import Drawn
from poisonlab.config.measures import Measure
from poisonlab.config.types import Name
from poisonlab.errors import DamagedError, DataError
from poisonlab.evaluation.choosing import AttackMeasures
from poisonlab.evaluation.findings import results_findings
from poisonlab.evaluation.layouts import who
from poisonlab.figures.reading import Inputs, only, read_table
from poisonlab.figures.style import PAGE_WIDTH, STYLED, colour_of, label_of
from poisonlab.figures.wording import called, listed, scale_of, seeds, title_of


class Spec(Drawn):
    """What the figure is told."""

    measures: tuple[AttackMeasures, ...]
    compare: tuple[Name, ...] = ()
    """The rows that the caption begins with; the first is the undefended one."""


Measures = Mapping[str, Sequence[Measure]]
"""Of each attack, its main one first."""


def draw(inputs: Inputs, spec: Spec) -> tuple[Figure, str]:
    """Of ``results`` (the tidy table, CSV)."""
    measures = {each.attack: each.measures for each in spec.measures}
    table = read_results(only(inputs, "results"), measures)
    return outcome(table, measures), outcome_caption(table, measures, spec.compare)


def _ends(measures: Sequence[Measure]) -> list[Measure]:
    return list(dict.fromkeys((measures[0], measures[-1])))


def read_results(path: Path, measures: Measures) -> pd.DataFrame:
    """The tidy results table (see ``tidy_results``).

    Raises:
        DataError: the file is missing, not CSV, empty, lacks a column, or has an attack without measures.
    """
    names = dict.fromkeys(measure.name for own in measures.values() for measure in _ends(own))
    numbers = ["n", "diverged", *(f"{name}{end}" for name in names for end in ("", "_low", "_high"))]
    every = dict.fromkeys(measure.name for own in measures.values() for measure in own)
    verdicts = [f"published_{name}_inside" for name in every]
    table = read_table(path, ("attack", "victim", "defense"), numbers, ("control", *verdicts))
    if unknown := [attack for attack in dict.fromkeys(table["attack"]) if attack not in measures]:
        raise DataError(f"{path} has the attack {unknown[0]}, whose measures nobody told: is it another study's table?")
    if table["control"].isna().any():
        raise DamagedError(path, "it does not say which rows are controls")
    if (table["n"] == 0).all():
        raise DataError(f"{path} has nothing to draw: no victim was trained, or all have diverged")
    return table


@STYLED
def outcome(table: pd.DataFrame, measures: Measures) -> Figure:
    """The main measure of each attack and its last, with 95 % intervals, by defense.

    Args:
        table: see ``tidy_results``; bounds may be nan.
        measures: of each attack.

    Returns:
        The figure: a row of panels per attack and victim, defenses in the table's order; nan intervals are left out,
        and rows without a victim that has an outcome.
    """
    table = table[table["n"] > 0]
    table = table.assign(who=who(table))
    counts = sorted(set(table["n"].astype(int)))
    parts = [part for _, part in table.groupby("who", sort=False)]
    panels = [_ends(measures[str(part["attack"].iloc[0])]) for part in parts]
    heights = [0.19 * len(part) + 0.22 for part in parts]
    alike = all(panel == panels[0] for panel in panels)
    figure = Figure(
        figsize=(PAGE_WIDTH, sum(heights) + 0.5 + (0.2 if alike else 0.5) * (len(parts) - 1)),
        layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.04),
    )
    columns = max(map(len, panels))
    grid = figure.subplots(len(parts), columns, sharex="col" if alike else False, squeeze=False, height_ratios=heights)
    runs = f", n = {counts[0]}" if len(counts) == 1 else ""
    for place, (part, panel, row) in enumerate(zip(parts, panels, grid, strict=True)):
        for axes, measure in zip(row, panel, strict=False):
            _dots(axes, part, measure)
            axes.set_yticks(range(len(part)), [""] * len(part))
            if not alike or place == len(parts) - 1:
                axes.set_xlabel(f"{title_of(measure)}, 95 % interval{runs}")
        for axes in row[len(panel) :]:
            axes.set_axis_off()
        labels = [
            label_of(name) + (f" (n = {n:.0f})" if len(counts) > 1 else "")
            for name, n in zip(part["defense"], part["n"], strict=True)
        ]
        row[0].set_yticks(range(len(part)), labels)
        if panel[0].unit == "%":
            row[0].set_xlim(-3, 103)
        if len(parts) > 1:
            row[0].set_title(part["who"].iloc[0], loc="left", pad=3)
    return figure


def outcome_caption(table: pd.DataFrame, measures: Measures, compare: Sequence[str]) -> str:
    """What ``outcome`` shows, in the words that stand below the table.

    Args:
        table, measures: as drawn.
        compare: the rows that the sentences begin with.
    """
    drawn = table[table["n"] > 0]
    attacks = dict.fromkeys(drawn["attack"])
    every = {measure.name: measure for attack in attacks for measure in reversed(_ends(measures[attack]))}
    names = reversed(every.values())
    what = listed([called(measure) + (f" ({measure.meaning})" if measure.meaning else "") for measure in names])
    lost = table[(table["n"] == 0) & (table["diverged"] > 0)]
    return " ".join(
        [
            f"{what[:1].upper()}{what[1:]} of every defense, with 95 % intervals; n is the number of seeds, one victim "
            f"each ({seeds(list(drawn['n']))}).",
            *results_findings(table, measures, compare, label_of),
            *(f"{row['attack']} under {row['defense']}: all victims diverged." for _, row in lost.iterrows()),
        ]
    )


def _dots(axes: Axes, part: pd.DataFrame, measure: Measure) -> None:
    columns = [measure.name, f"{measure.name}_low", f"{measure.name}_high"]
    for place, (defense, *row) in enumerate(part[["defense", *columns]].itertuples(index=False)):
        value, low, high = (scale_of(measure) * float(number) for number in row)
        colour = colour_of(defense)
        if np.isfinite([low, high]).all():
            axes.plot([low, high], [place, place], color=colour, linewidth=1.4, solid_capstyle="butt")
        axes.plot(
            [value],
            [place],
            marker="o",
            markersize=4.5,
            color=colour,
            markeredgewidth=0,
            clip_on=False,
        )
    axes.set_ylim(len(part) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6))
