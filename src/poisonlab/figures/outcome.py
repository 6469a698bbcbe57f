"""The results table as dots with intervals: the main and the last measure of every defense."""

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
from poisonlab.config.types import Name, PositiveInt
from poisonlab.errors import DamagedError, DataError
from poisonlab.evaluation.choosing import MEAN, AttackMeasures, Measures
from poisonlab.evaluation.findings import results_findings
from poisonlab.evaluation.layouts import who
from poisonlab.evaluation.outcome_pages import Panel, outcome_pages
from poisonlab.figures.reading import Inputs, read_table
from poisonlab.figures.style import PAGE_HEIGHT, PAGE_WIDTH, STYLED, Look, empty, fitted, label_of, looks_of
from poisonlab.figures.wording import INTERVALS, explained, listed, scale_of, seeds, title_of


class Spec(Drawn):
    """Settings of the figure."""

    measures: tuple[AttackMeasures, ...]
    compare: tuple[Name, ...] = ()
    """The rows with which the caption begins; the first is undefended."""
    page: PositiveInt = 1
    """Number of the page that is drawn."""


_TALL = 6.0
"""Height in inches from which every panel has numbers at its ticks."""
_NAME = 2.3
"""Inches of a row's name before it wraps."""


def draw(inputs: Inputs, spec: Spec) -> tuple[Figure, str]:
    """Draw from ``results`` (the tidy table, CSV)."""
    measures = {each.attack: each.measures for each in spec.measures}
    table = read_results(inputs["results"][0], measures)
    return outcome(table, measures, spec.page), outcome_caption(table, measures, spec.compare, spec.page)


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
        raise DataError(f"{path} has the attack {unknown[0]}, which has no measures here: is it another study's table?")
    if "hit_n" in table:
        table["hit_n"] = pd.to_numeric(table["hit_n"], errors="coerce")
    if table["control"].isna().any():
        raise DamagedError(path, "it does not say which rows are controls")
    if (table[["n", "diverged"]] == 0).all(axis=None):
        raise DataError(f"{path} has nothing to draw: no victim was trained")
    return table


@STYLED
def outcome(table: pd.DataFrame, measures: Measures, page: int = 1) -> Figure:
    """The main and the last measure of each attack, with 95 % intervals, by defense.

    Args:
        table: see ``tidy_results``; bounds may be nan.
        measures: each attack's measures.
        page: from 1, see ``outcome_pages``.

    Returns:
        The figure, at most ``PAGE_HEIGHT`` inches tall: a row of axes per panel, with lines in the table's order. Lines
        in which no victim has an outcome and intervals of nan are left out.

    Raises:
        DataError: the table has no such page.
    """
    parts = _drawn(table, measures, page)
    if not parts:
        return empty()
    counts = sorted({int(n) for _, part in parts for n in part["n"]})
    panels = [_ends(measures[str(part["attack"].iloc[0])]) for _, part in parts]
    heights = [0.19 * len(part) + 0.22 for _, part in parts]
    # A rate of one attack and an event of another share an axis if they have the same name, unit and label.
    alike = len({tuple((each.name, each.unit, each.label) for each in panel) for panel in panels}) == 1
    height = sum(heights) + 0.5 + (0.2 if alike else 0.5) * (len(parts) - 1)
    figure = Figure(
        figsize=(PAGE_WIDTH, min(height, PAGE_HEIGHT)), layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.04)
    )
    columns, looks = max(map(len, panels)), looks_of(table["defense"])
    grid = figure.subplots(len(parts), columns, sharex="col" if alike else False, squeeze=False, height_ratios=heights)
    runs = f", n = {counts[0]}" if len(counts) == 1 else ""
    for place, ((title, part), panel, row) in enumerate(zip(parts, panels, grid, strict=True)):
        for axes, measure in zip(row, panel, strict=False):
            _dots(axes, part, measure, looks)
            axes.set_yticks(range(len(part)), [""] * len(part))
            if not alike or place == len(parts) - 1:
                axes.set_xlabel(f"{title_of(measure)}, 95 % interval{runs}")
            if alike and height > _TALL:  # far from the numbers below
                axes.tick_params(axis="x", labelbottom=True)
        for axes in row[len(panel) :]:
            axes.set_axis_off()
        labels = [
            name + (f" (n = {n:.0f})" if len(counts) > 1 else "")
            for name, n in zip(part["line"], part["n"], strict=True)
        ]
        row[0].set_yticks(range(len(part)), [fitted(label, _NAME, 7) for label in labels])
        for text in row[0].get_yticklabels():
            # Two lines of a label have the room of one.
            text.set_fontsize(5 if "\n" in text.get_text() else 7)
        if panel[0].unit == "%":
            row[0].set_xlim(-3, 103)
        if len(parts) > 1:
            row[0].set_title(fitted(title, 4.5, 8), loc="left", pad=3)
    return figure


def _drawn(table: pd.DataFrame, measures: Measures, page: int) -> list[tuple[str, pd.DataFrame]]:
    """Title and rows of each panel of a page that has rows; the column ``line`` is a row's name."""
    pages = pages_of(table, measures)
    if not 1 <= page <= len(pages):
        raise DataError(f"the results have {len(pages)} pages and no page {page}: are they another study's?")
    table = table.assign(who=who(table))
    table.index = pd.MultiIndex.from_frame(table[["attack", "victim", "defense"]])
    drawn = []
    for panel in pages[page - 1]:
        part = table.loc[list(panel.rows)]
        part = part.assign(line=part["attack"] if panel.joined else part["defense"].map(label_of))
        title = str(part["who"].iloc[0])
        if panel.joined:
            # The title has the form of an attack and its victim.
            title = label_of(panel.rows[0][2]) + title.removeprefix(panel.rows[0][0])
        drawn.append((title, part[part["n"] > 0]))
    return [(title, part) for title, part in drawn if len(part)]


def pages_of(table: pd.DataFrame, measures: Measures) -> list[list[Panel]]:
    """The panels of each page, see ``outcome_pages``."""
    rows = [(str(one), str(two), str(three)) for one, two, three in table[["attack", "victim", "defense"]].to_numpy()]
    return outcome_pages(rows, {name: tuple(m.name for m in _ends(own)) for name, own in measures.items()})


def outcome_caption(table: pd.DataFrame, measures: Measures, compare: Sequence[str], page: int = 1) -> str:
    """The caption of ``outcome``, with the findings below the table.

    Args:
        table, measures, page: as drawn. An attack's sentence is on the page of its own panel, if it has one, else of
            its shared panel.
        compare: the rows with which the sentences begin.
    """
    pages = pages_of(table, measures)
    alone = {row[:2] for panels in pages for panel in panels if not panel.joined for row in panel.rows}
    told = {row[:2] for panel in pages[page - 1] for row in panel.rows if (row[:2] in alone) != panel.joined}
    names = who(table)
    own = pd.Series([key in told for key in zip(table["attack"], table["victim"], strict=True)], index=table.index)
    sentences = results_findings(table, measures, compare, label_of)
    shown = set(names[own])
    table = table[own]
    drawn = table[table["n"] > 0]
    attacks = dict.fromkeys(drawn["attack"])
    every = {measure.name: measure for attack in attacks for measure in reversed(_ends(measures[attack]))}
    ends = reversed(every.values())
    what = listed([explained(measure) for measure in ends])
    each = "one victim each" + (", or all victims each in means over victims" if MEAN in set(drawn["victim"]) else "")
    lost = table[(table["n"] == 0) & (table["diverged"] > 0)]
    if drawn.empty:
        return f"No victim of {listed(list(dict.fromkeys(names[own])))} has an outcome."
    return " ".join(
        [
            f"{what[:1].upper()}{what[1:]} of every defense, with {INTERVALS}; n is the number of seeds, {each} "
            f"({seeds(list(drawn['n']))}).",
            *([f"Page {page} of {len(pages)}."] if len(pages) > 1 else []),
            *(sentence for sentence in sentences if sentence.partition(": ")[0] in shown),
            *(
                f"{whose} under {defense}: all victims diverged."
                for whose, defense in zip(names[lost.index], lost["defense"], strict=True)
            ),
        ]
    )


def _dots(axes: Axes, part: pd.DataFrame, measure: Measure, looks: Mapping[str, Look]) -> None:
    columns = [measure.name, f"{measure.name}_low", f"{measure.name}_high"]
    for place, (defense, *row) in enumerate(part[["defense", *columns]].itertuples(index=False)):
        value, low, high = (scale_of(measure) * float(number) for number in row)
        colour, _ = looks[defense]
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
