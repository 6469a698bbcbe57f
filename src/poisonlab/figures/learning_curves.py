"""Learning curves of victims: training loss and measures by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from pydantic import Field

from poisonlab.config.figures import Drawn
from poisonlab.config.measures import Measure
from poisonlab.errors import DataError
from poisonlab.evaluation.choosing import AttackMeasures
from poisonlab.figures.reading import Inputs
from poisonlab.figures.style import PAGE_WIDTH, STYLED, Look, empty, in_legend, label_of, legend_size, looks_of
from poisonlab.figures.wording import listed, number, scale_of, shown, title_of
from poisonlab.files import read_sealed

_LOSS = "train_loss"
_FEW_POINTS = 12


class Spec(Drawn):
    """Settings of the figure."""

    measures: tuple[AttackMeasures, ...] = ()
    """Measures of the attacks; graded ones are drawn if they were measured by epoch."""
    def_epoch: Annotated[int, Field(ge=0)] | None = None
    """The first epoch of friendly noise, if there is any."""


@dataclass(frozen=True)
class History:
    """One victim's training.

    Attributes:
        attack: name of the attack on it.
        victim: name of the victim.
        defense: name of its row of the results.
        seed: its seed.
        epochs: (E,) int64, ascending.
        values: (E,) float64 per quantity (``train_loss``, and measures by name); nan if not measured.
    """

    attack: str
    victim: str
    defense: str
    seed: int
    epochs: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]


def draw(inputs: Inputs, spec: Spec) -> tuple[Figure, str]:
    """Draw from ``victims.<row>`` (the metrics of the row's victims, JSON)."""
    paths = [path for name, files in inputs.items() if name.partition(".")[0] == "victims" for path in files]
    measures = drawn_measures(spec.measures)
    names = [_LOSS, *(measure.name for measure in measures)]
    histories = [history for path in paths if (history := read_history(path, names)) is not None]
    lost = left_out(len(paths) - len(histories), len(paths))
    if not histories:
        return empty(), " ".join(lost)
    figure = learning_curves(histories, measures, spec.def_epoch)
    return figure, " ".join([learning_curves_caption(histories, measures, spec.def_epoch), *lost])


def left_out(diverged: int, every: int) -> list[str]:
    """The caption's sentence about victims that diverged; empty if none did."""
    return [f"Left out: {diverged} of {every} victims, whose training diverged."] if diverged else []


def drawn_measures(attacks: Sequence[AttackMeasures]) -> list[Measure]:
    """The measures drawn besides the training loss: graded ones, which say more about single epochs than events and
    rates."""
    every = {measure.name: measure for each in attacks for measure in reversed(each.measures)}
    return [measure for measure in every.values() if measure.graded]


def read_history(path: Path, names: Sequence[str]) -> History | None:
    """The history in a victim's metrics file; None if its training diverged.

    Raises:
        DataError: the file is missing, damaged, or not metrics.
    """
    content = read_sealed(path)
    if "failed" in content:
        return None
    try:
        entries = sorted(content["history"], key=lambda entry: int(entry["epoch"]))
        values = {name: np.array([_number(entry.get(name)) for entry in entries], dtype=np.float64) for name in names}
        epochs = np.array([int(entry["epoch"]) for entry in entries], dtype=np.int64)
        attack, victim, defense = (str(content[name]) for name in ("attack", "victim", "defense"))
        history = History(attack, victim, defense, int(content["seed"]), epochs, values)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{path} is not a victim's metrics: delete it and run the workflow again") from error
    if len(epochs) == 0 or (np.diff(epochs) == 0).any():
        raise DataError(f"{path} has no history, or an epoch twice: delete it and run the workflow again")
    return history


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


@STYLED
def learning_curves(histories: Sequence[History], measures: Sequence[Measure], def_epoch: int | None = None) -> Figure:
    """Training loss and measures by epoch; a line per defense, a row per attack and victim.

    Args:
        histories: trainings of one or more attacks, victims, defenses and seeds; lines come in order of appearance.
        measures: the measures drawn besides the training loss.
        def_epoch: first epoch of friendly noise, marked by a vertical line.

    Returns:
        The figure. Lines are means over seeds, joined across epochs without a measurement; bands are one standard error
        each way. A quantity that was never measured has no panel.

    Raises:
        DataError: nothing was measured, or two histories are of the same training.
    """
    names = [(history.attack, history.victim, history.defense, history.seed) for history in histories]
    if len(set(names)) != len(names):
        raise DataError("two metrics files are of the same attack, victim, defense and seed: list each once")
    drawn: list[Measure | None] = [
        quantity
        for quantity in (None, *measures)
        if any(np.isfinite(history.values[_name(quantity)]).any() for history in histories)
    ]
    if not drawn:
        raise DataError("the metrics hold no measurement to draw: give those of victims with an outcome")
    groups = _rows(histories)
    defenses = list(dict.fromkeys(history.defense for history in histories))
    looks = looks_of(defenses)
    width = PAGE_WIDTH * min(1, 0.15 + 0.28 * len(drawn))
    called = {defense: in_legend(label_of(defense), width) for defense in defenses}
    begins = [] if def_epoch is None else ["friendly noise begins"]
    columns, lines = legend_size([*called.values(), *begins], width, 5)
    figure = Figure(
        figsize=(width, 1.75 * len(groups) + 0.35 + 0.16 * lines),
        layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.04),
    )
    grid = figure.subplots(len(groups), len(drawn), sharex=True, squeeze=False)
    handles: dict[str, Any] = {}
    letters = iter(range(len(groups) * len(drawn)))
    for (title, group), row in zip(groups.items(), grid, strict=True):
        for axes, quantity in zip(row, drawn, strict=True):
            for defense in defenses:
                line = _line(axes, [one for one in group if one.defense == defense], quantity, looks[defense])
                handles.setdefault(called[defense], line) if line is not None else None
            if def_epoch is not None:
                begin = axes.axvline(def_epoch, color="#555555", linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=1)
                handles["friendly noise begins"] = begin
            axes.set_ylabel("training loss" if quantity is None else "\n".join(wrap(title_of(quantity), 22)))
            axes.grid(axis="y")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.set_title(
                f"({chr(ord('a') + next(letters))})" + (f" {title}" if len(groups) > 1 else ""), loc="left", pad=3
            )
            # Measures that should be low are shown on their whole scale.
            if quantity is not None and (quantity.unit, quantity.better) == ("%", "lower"):
                axes.set_ylim(-3, 103)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    if "friendly noise begins" in handles:
        handles["friendly noise begins"] = handles.pop("friendly noise begins")
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=columns,
        title=_explanation(histories),
        columnspacing=1.2,
        handlelength=2.4,
    )
    return figure


def _name(quantity: Measure | None) -> str:
    return _LOSS if quantity is None else quantity.name


def _rows(histories: Sequence[History]) -> dict[str, list[History]]:
    """The histories by title: the attack, or attack and victim if there are several victims."""
    victims = {(history.attack, history.victim) for history in histories}
    groups: dict[str, list[History]] = {}
    for one in histories:
        several = sum(attack == one.attack for attack, _ in victims) > 1
        groups.setdefault(f"{one.attack} on {one.victim}" if several else one.attack, []).append(one)
    return groups


def learning_curves_caption(
    histories: Sequence[History], measures: Sequence[Measure], def_epoch: int | None = None
) -> str:
    """The caption of ``learning_curves``: the last value of each measure per attack, victim and defense.

    Args:
        histories, measures, def_epoch: as drawn.
    """
    begin = f"; friendly noise begins at epoch {def_epoch}" if def_epoch is not None else ""
    sentences = []
    for title, group in _rows(histories).items():
        rows: dict[str, list[History]] = {}
        for history in group:
            rows.setdefault(history.defense, []).append(history)
        endings = [f"{label_of(name)} (n = {len(row)}) {_ending(row, measures)}" for name, row in rows.items()]
        sentences.append(f"{title}: {'; '.join(endings)}.")
    what = listed(["training loss", *(measure.called for measure in measures)])
    ends = {(one.attack, one.victim, one.defense): set[int]() for one in histories}
    for one in histories:
        ends[one.attack, one.victim, one.defense].add(int(one.epochs[-1]))
    stopped = "; a seed that stopped keeps its last value" if any(len(each) > 1 for each in ends.values()) else ""
    return (
        f"{what[:1].upper()}{what[1:]} by epoch (from 0), means over n seeds with bands of one standard error"
        f"{stopped}{begin}. At the last measurement: {' '.join(sentences)}"
    )


def _ending(group: Sequence[History], measures: Sequence[Measure]) -> str:
    """The last means of the loss and of each measure, as text."""
    endings = []
    for quantity in (None, *measures):
        values = _measured(group, _name(quantity))[1]
        last = float(np.nanmean(values[:, -1])) if values.size else math.nan
        text = "not measured" if math.isnan(last) else number(last) if quantity is None else shown(quantity, last)
        endings.append(f"{'training loss' if quantity is None else quantity.called} {text}")
    return listed(endings)


def _measured(group: Sequence[History], quantity: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(M,) epochs at which any seed was measured, and (seeds, M) values. A seed without a measurement has nan; a seed
    that has stopped keeps its last value, so that means are over all seeds to the end."""
    epochs = np.unique(np.concatenate([one.epochs for one in group])) if group else np.array([], dtype=np.int64)
    values = np.full((len(group), len(epochs)), np.nan)
    for row, one in zip(values, group, strict=True):
        row[np.searchsorted(epochs, one.epochs)] = one.values[quantity]
    values[~np.isfinite(values)] = np.nan
    measured = ~np.isnan(values).all(axis=0)
    epochs, values = epochs[measured], values[:, measured]
    for row in values:
        if (known := np.flatnonzero(~np.isnan(row))).size:
            row[known[-1] :] = row[known[-1]]
    return epochs, values


def _line(axes: Axes, group: Sequence[History], quantity: Measure | None, look: Look) -> Any:
    """Draw the mean over seeds and its standard error; None if there is nothing to draw."""
    epochs, values = _measured(group, _name(quantity))
    if not values.size:
        return None
    values = values * (1 if quantity is None else scale_of(quantity))
    colour, dashes = look
    mean = np.nanmean(values, axis=0)
    if len(group) > 1:
        # The standard error, because ranges of several defenses would hide each other.
        error = np.nanstd(values, axis=0) / np.sqrt(np.maximum(1, (~np.isnan(values)).sum(axis=0) - 1))
        axes.fill_between(
            epochs,
            mean - error,
            mean + error,
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    (line,) = axes.plot(
        epochs,
        mean,
        color=colour,
        linestyle=dashes,
        # A single measurement makes no line, and a line of few hides where they are.
        marker="o" if len(epochs) <= _FEW_POINTS else None,
        markersize=2.5,
    )
    return line


def _explanation(histories: Sequence[History]) -> str:
    groups = [(history.attack, history.victim, history.defense) for history in histories]
    counts = sorted({groups.count(group) for group in groups})
    if counts == [1]:
        return "one seed"
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"line: mean of {seeds} seeds; band: standard error"
