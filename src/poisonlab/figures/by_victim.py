"""An attack's success by victim and defense as bars, published ones beside (after figure 3 of the deep k-NN paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from poisonlab.config.measures import OF_FILTERS, Measure
from poisonlab.config.types import Name, PositiveInt, Settings
from poisonlab.errors import DataError
from poisonlab.evaluation.choosing import Shown, choose_trials, counts_events
from poisonlab.evaluation.published import published
from poisonlab.evaluation.results import tidy_results
from poisonlab.evaluation.successes import hits
from poisonlab.figures.reading import Inputs
from poisonlab.figures.style import PAGE_WIDTH, STYLED, fitted, in_legend, label_of, legend_size
from poisonlab.figures.wording import INTERVALS, Beside, scale_of, seeds, shown, title_of

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#332288")
_HATCH = "////////"
_VICTIMS_IN_ROW = 4
_LEGEND_COLUMNS = 5
_FILLED = 0.84
"""The share of a victim's space that its bars take."""


class RowOf(Settings):
    """A victim's row in the published table."""

    victim: Name
    row: str


class Spec(Shown, Beside):
    """Settings of the figure."""

    defenses: tuple[Name, ...]
    """The bars of each victim."""
    table: PositiveInt | None = None
    rows: tuple[RowOf, ...] = ()


class PublishedNumber(NamedTuple):
    """A published number of a victim under a defense, by our names."""

    victim: str
    defense: str
    measure: Measure
    value: float


@dataclass(frozen=True)
class Bars:
    """The data of the figure.

    Attributes:
        results: the results of one attack, see ``tidy_results``; only rows that have bars.
        measure: the attack's main measure.
        names: the defenses in order, with their names for readers.
        published: published values by victim and defense.
        further: other numbers of the published table on these victims and defenses.
        of_successes: whether only seeds count on which the attack succeeds undefended.
    """

    results: pd.DataFrame
    measure: Measure
    names: Mapping[str, str]
    published: Mapping[tuple[str, str], float]
    further: Sequence[PublishedNumber]
    of_successes: bool


def draw(inputs: Inputs, spec: Spec) -> tuple[Figure, str]:
    """Draw from ``trials`` (the study's and merged ones, CSV) and ``published`` (one table of a paper, CSV)."""
    bars = read_bars(inputs, spec)
    return by_victim(bars), spec.begin + " ".join([by_victim_caption(bars), *further_sentence(bars)])


def read_bars(inputs: Inputs, spec: Spec) -> Bars:
    """Make the bars from the study's trials.

    Raises:
        DataError: a file is missing or damaged, or no victim was trained.
    """
    trials, *_ = choose_trials(spec, inputs["trials"])
    if not trials:
        raise DataError("there is nothing to draw: no victim was trained")
    measure = spec.measures[0].measures[0]
    targets = max((trial.targets for trial in trials if trial.targets is not None), default=None)
    of_some = spec.only_successes and counts_events(measure, targets)
    if of_some:
        trials = hits(trials, spec.by_attack, spec.compare[0])
    results = tidy_results(trials, spec.by_attack, expected=[line.row for line in spec.lines])
    known = {line.defense: line.called for line in spec.lines}
    names = {name: label_of(known.get(name, name)) for name in spec.defenses}
    if len(set(names.values())) < len(names):
        names = {name: label_of(name) for name in names}
    numbers = read_published(inputs["published"][0], spec) if spec.table is not None else []
    published_bars = {(each.victim, each.defense): each.value for each in numbers if each.measure == measure}
    further = [each for each in numbers if each.measure != measure]
    own = results[results["defense"].isin(spec.defenses)]
    return Bars(own, measure, names, published_bars, further, of_some)


def read_published(path: Path, spec: Spec) -> list[PublishedNumber]:
    """The published numbers of the attack's measures and of dropped images, by our names.

    Raises:
        DataError: the table is missing or malformed, or has none of the rows.
    """
    numbers = published(path)
    numbers = numbers[numbers["table"] == spec.table]
    keys = zip(numbers["row"], numbers["defense"], numbers["measure"], strict=True)
    found = dict(zip(keys, numbers["value"].astype(float), strict=True))
    called_so = {line.defense: line.called for line in spec.lines}
    own = spec.measures[0].measures
    result = [
        PublishedNumber(each.victim, defense, measure, found[key])
        for measure in (*own, *OF_FILTERS)
        for each in spec.rows
        for defense in spec.defenses
        if (key := (each.row, called_so.get(defense, ""), measure.name)) in found
    ]
    if spec.rows and not any(each.measure == own[0] for each in result):
        raise DataError(
            f"{path} has no {own[0].name} of {spec.rows[0].row} in table {spec.table}: correct figures.by_victim"
        )
    return result


@STYLED
def by_victim(bars: Bars) -> Figure:
    """Groups of bars, at most four victims in a row: ours filled, with 95 % intervals, and beside them published ones,
    hatched."""
    victims = list(dict.fromkeys(bars.results["victim"]))
    rows = -(-len(victims) // _VICTIMS_IN_ROW)
    in_row = -(-len(victims) // rows)
    handles = [
        Patch(facecolor=_COLOURS[place], label=in_legend(name, PAGE_WIDTH))
        for place, name in enumerate(bars.names.values())
    ]
    if bars.published:
        handles.append(Patch(facecolor="white", edgecolor="#555555", hatch="////", label="hatched: published"))
    columns, lines = legend_size([str(each.get_label()) for each in handles], PAGE_WIDTH, _LEGEND_COLUMNS)
    legend = 0.3 + 0.16 * lines
    figure = Figure(figsize=(PAGE_WIDTH, 1.55 * rows + legend), layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05))
    for place, axes in enumerate(figure.subplots(rows, 1, squeeze=False)[:, 0]):
        some = victims[place * in_row : (place + 1) * in_row]
        for group, victim in enumerate(some):
            _group(axes, group, victim, bars)
        names = [fitted(victim, (PAGE_WIDTH - 0.7) / in_row, 7) for victim in some]
        axes.set_xticks(
            range(len(some)),
            [f"{name}\nn = {_seeds(bars, victim)}" for name, victim in zip(names, some, strict=True)],
        )
        axes.set_xlim(-0.5, in_row - 0.5)
        if bars.measure.unit == "%":
            axes.set_ylim(0, 105)
        if bars.results["n"].sum() == 0:
            # An empty figure must not make the study fail.
            white = {"facecolor": "white", "edgecolor": "none"}
            axes.text(0.5, 0.88, _nothing(bars), ha="center", transform=axes.transAxes, bbox=white)
        axes.set_ylabel(title_of(bars.measure))
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="y")
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, handlelength=1.4)
    return figure


def _nothing(bars: Bars) -> str:
    """Why there is no bar of ours."""
    return "the attack succeeds on no seed undefended" if bars.of_successes else "no victim has an outcome"


def _group(axes: Axes, group: int, victim: str, bars: Bars) -> None:
    """The bars of one victim, around ``group`` on the axis."""
    run = bars.results[(bars.results["victim"] == victim) & (bars.results["n"] > 0)].set_index("defense")
    each, scale, name = _FILLED / len(bars.names), scale_of(bars.measure), bars.measure.name
    width = 0.88 * (each / 2 if bars.published else each)
    for place, defense in enumerate(bars.names):
        colour, at = _COLOURS[place], group - _FILLED / 2 + place * each + width / 2
        if defense in run.index:
            ends = scale * np.array([run[f"{name}{end}"].loc[defense] for end in ("", "_low", "_high")], dtype=float)
            axes.bar(at, ends[0], width, color=colour)
            if np.isfinite(ends).all():
                axes.plot([at, at], ends[1:], color="black", linewidth=0.7)
            if ends[0] == 0:
                _stub(axes, at, width, colour)
        if (victim, defense) in bars.published:
            look: dict[str, Any] = {"facecolor": "white", "edgecolor": colour, "linewidth": 0.7, "hatch": _HATCH}
            axes.bar(at + each / 2, scale * bars.published[victim, defense], width, **look)
            if bars.published[victim, defense] == 0:
                _stub(axes, at + each / 2, width, colour, hollow=True)


def _stub(axes: Axes, at: float, width: float, colour: str, hollow: bool = False) -> None:
    """Mark a bar of height 0, which is a result, too."""
    for line, thickness in ((colour, 2.8), ("white", 1.4)) if hollow else ((colour, 2.8),):
        look: dict[str, Any] = {"color": line, "linewidth": thickness, "clip_on": False, "solid_capstyle": "butt"}
        axes.plot([at - width / 2, at + width / 2], [0, 0], zorder=3, **look)


def _seeds(bars: Bars, victim: str) -> str:
    counts = sorted(set(bars.results.loc[bars.results["victim"] == victim, "n"].astype(int)))
    return f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])


def by_victim_caption(bars: Bars) -> str:
    """The caption of ``by_victim``: each defense's mean over victims, its highest victim, and how the published bars
    compare."""
    run, what = bars.results[bars.results["n"] > 0], bars.measure.called
    if run.empty:
        return f"No {what} to show: {_nothing(bars)}."
    counted = (
        "the seeds on which the attack succeeds undefended with the same victim" if bars.of_successes else "all seeds"
    )
    also = "; hatched bars are published" if bars.published else ""
    sentences = [_sentence(bars, run[run["defense"] == defense], defense) for defense in bars.names]
    return (
        f"{what[:1].upper()}{what[1:]} by victim, of {counted} ({seeds(list(run['n']))}), with {INTERVALS}{also}. "
        f"Unweighted means over the victims: {' '.join(filter(None, sentences))}"
    )


def _sentence(bars: Bars, rows: pd.DataFrame, defense: str) -> str:
    name = bars.measure.name
    values = {str(victim): float(value) for victim, value in zip(rows["victim"], rows[name], strict=True)}
    if not values:
        return ""
    text = f"{bars.names[defense]} {shown(bars.measure, float(np.mean(list(values.values()))))}"
    if len(set(values.values())) > 1:
        highest = max(values, key=lambda victim: values[victim])
        text += f" (at most {shown(bars.measure, values[highest])}, {highest})"
    beside = {victim: bars.published[victim, defense] for victim in values if (victim, defense) in bars.published}
    if not beside:
        return f"{text}."
    bounded = rows[rows[f"{name}_low"].notna()]  # a value of one seed has no interval
    intervals = zip(bounded["victim"], bounded[f"{name}_low"], bounded[f"{name}_high"], strict=True)
    inside = [low <= beside[victim] <= high for victim, low, high in intervals if victim in beside]
    # Means over other victims are not comparable.
    if len(beside) < len(values):
        ours = shown(bars.measure, float(np.mean([values[victim] for victim in beside])))
        text += f"; on {', '.join(beside)} {ours}"
    mean = shown(bars.measure, float(np.mean(list(beside.values()))))
    known = f", {sum(inside)} of {len(inside)} published bars in our intervals" if inside else ""
    return f"{text}, published {mean}{known}."


def further_sentence(bars: Bars) -> list[str]:
    """The sentence about published numbers without a bar, each beside ours; empty if there are none."""
    ours = bars.results.set_index(["victim", "defense"])
    parts = []
    for victim, defense, measure, value in bars.further:
        own = float(ours[measure.name].get((victim, defense), np.nan))
        text = "not measured" if np.isnan(own) else shown(measure, own)
        parts.append(
            f"{measure.called} on {victim} under {bars.names[defense]} {text}, published {shown(measure, value)}"
        )
    return [f"Beside further published numbers: {'; '.join(parts)}."] if parts else []
