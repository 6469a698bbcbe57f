"""How victims learn: training loss, test accuracy and the confidence in the attacker's label, by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from poisonlab.errors import DataError
from poisonlab.figures.style import PAGE_WIDTH, STYLED, colour_of, dashes_of, label_of
from poisonlab.figures.wording import number, percent
from poisonlab.files import read_sealed

_QUANTITIES = (
    ("train_loss", 1, "training loss"),
    ("accuracy", 100, "test accuracy (%)"),
    ("adversarial_confidence", 1, "confidence in the\nadversarial label"),
)
_FEW_POINTS = 12


@dataclass(frozen=True)
class History:
    """One victim's training.

    Attributes:
        attack: name of the attack on it.
        defense: name of its row of the results.
        seed: its seed.
        epochs: (E,) int64, ascending.
        values: (E,) float64 per quantity (``train_loss``, ``accuracy``, ``adversarial_confidence``); nan
            where it was not measured.
    """

    attack: str
    defense: str
    seed: int
    epochs: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]


def read_history(path: Path) -> History | None:
    """The history in a victim's metrics file; None if its training diverged.

    Raises:
        DataError: the file is missing, damaged, or not metrics.
    """
    content = read_sealed(path)
    if "failed" in content:
        return None
    try:
        entries = sorted(content["history"], key=lambda entry: int(entry["epoch"]))
        values = {
            name: np.array([_number(entry.get(name)) for entry in entries], dtype=np.float64)
            for name, _, _ in _QUANTITIES
        }
        epochs = np.array([int(entry["epoch"]) for entry in entries], dtype=np.int64)
        history = History(str(content["attack"]), str(content["defense"]), int(content["seed"]), epochs, values)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{path} is not a victim's metrics: delete it and run the workflow again") from error
    if len(epochs) == 0 or (np.diff(epochs) == 0).any():
        raise DataError(f"{path} has no history, or an epoch twice: delete it and run the workflow again")
    return history


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


@STYLED
def learning_curves(histories: Sequence[History], def_epoch: int | None = None) -> Figure:
    """Training loss, test accuracy and adversarial confidence by epoch; a line per defense, a row per attack.

    Args:
        histories: victims of one or more attacks, defenses and seeds; lines come in order of appearance.
        def_epoch: draws a vertical line where friendly noise begins.

    Returns:
        The figure. Lines are means over seeds, joined across epochs without a measurement; bands are one standard error
        each way. A quantity that was never measured has no panel.

    Raises:
        DataError: nothing was measured, or two histories are of the same victim.
    """
    names = [(history.attack, history.defense, history.seed) for history in histories]
    if len(set(names)) != len(names):
        raise DataError("two metrics files are of the same attack, defense and seed: list each once")
    shown = [
        quantity
        for quantity in _QUANTITIES
        if any(np.isfinite(history.values[quantity[0]]).any() for history in histories)
    ]
    if not shown:
        raise DataError("the metrics hold no measurement to draw: have all victims diverged?")
    attacks = list(dict.fromkeys(history.attack for history in histories))
    defenses = list(dict.fromkeys(history.defense for history in histories))
    width = PAGE_WIDTH * (0.15 + 0.85 * len(shown) / len(_QUANTITIES))
    # Long names need wider columns than the page has room for five of.
    columns = 5 if max(len(label_of(defense)) for defense in defenses) <= 22 else 4
    legend_rows = math.ceil((len(defenses) + (def_epoch is not None)) / columns)
    figure = Figure(
        figsize=(width, 1.75 * len(attacks) + 0.35 + 0.16 * legend_rows),
        layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.04),
    )
    grid = figure.subplots(len(attacks), len(shown), sharex=True, squeeze=False)
    handles: dict[str, Any] = {}
    letters = iter(range(len(attacks) * len(shown)))
    for attack, row in zip(attacks, grid, strict=True):
        for axes, (quantity, scale, label) in zip(row, shown, strict=True):
            for defense in defenses:
                group = [one for one in histories if one.attack == attack and one.defense == defense]
                line = _line(axes, group, quantity, scale)
                handles.setdefault(label_of(defense), line) if line is not None else None
            if def_epoch is not None:
                begin = axes.axvline(def_epoch, color="#555555", linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=1)
                handles["friendly noise begins"] = begin
            axes.set_ylabel(label)
            axes.grid(axis="y")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            title = f"({chr(ord('a') + next(letters))})" + (f" {attack}" if len(attacks) > 1 else "")
            axes.set_title(title, loc="left", pad=3)
            if quantity == "adversarial_confidence":
                axes.set_ylim(-0.03, 1.03)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    if "friendly noise begins" in handles:
        handles["friendly noise begins"] = handles.pop("friendly noise begins")
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=min(len(handles), columns),
        title=_explanation(histories),
        columnspacing=1.2,
        handlelength=2.4,
    )
    return figure


def learning_curves_caption(histories: Sequence[History], def_epoch: int | None = None) -> str:
    """What ``learning_curves`` shows: per attack and defense where accuracy and adversarial confidence end.

    Args:
        histories: as drawn.
        def_epoch: as drawn.
    """
    begin = f"; friendly noise begins at epoch {def_epoch}" if def_epoch is not None else ""
    sentences = []
    for attack in dict.fromkeys(history.attack for history in histories):
        groups: dict[str, list[History]] = {}
        for history in histories:
            if history.attack == attack:
                groups.setdefault(history.defense, []).append(history)
        endings = [f"{label_of(name)} (n = {len(group)}) {_ending(group)}" for name, group in groups.items()]
        sentences.append(f"{attack}: {'; '.join(endings)}.")
    return (
        "Training loss, test accuracy and the confidence in the adversarial label by epoch (from 0), means over n seeds"
        f"{begin}. At the last measurement, as accuracy and confidence in the adversarial label: " + " ".join(sentences)
    )


def _ending(group: Sequence[History]) -> str:
    """Last accuracy and confidence, and when the confidence first is at least one half."""
    accuracy, (epochs, confidence) = _measured(group, "accuracy")[1], _measured(group, "adversarial_confidence")
    last = percent(float(np.nanmean(accuracy[:, -1]))) if accuracy.size else "not measured"
    if not confidence.size:
        return f"{last} and not measured"
    means = np.nanmean(confidence, axis=0)
    above = epochs[means >= 0.5]
    crossing = f"at least 0.5 first at epoch {above[0]}" if len(above) else f"never 0.5, at most {number(means.max())}"
    return f"{last} and {number(means[-1])} ({crossing})"


def _measured(group: Sequence[History], quantity: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(M,) epochs at which any seed was measured, and (seeds, M) the values, nan where a seed was not."""
    epochs = np.unique(np.concatenate([one.epochs for one in group])) if group else np.array([], dtype=np.int64)
    values = np.full((len(group), len(epochs)), np.nan)
    for row, one in zip(values, group, strict=True):
        row[np.searchsorted(epochs, one.epochs)] = one.values[quantity]
    values[~np.isfinite(values)] = np.nan
    measured = ~np.isnan(values).all(axis=0)
    return epochs[measured], values[:, measured]


def _line(axes: Axes, group: Sequence[History], quantity: str, scale: float) -> Any:
    """Draw the mean over seeds and its standard error; None where there is nothing to draw."""
    epochs, values = _measured(group, quantity)
    if not values.size:
        return None
    values = values * scale
    colour = colour_of(group[0].defense)
    mean = np.nanmean(values, axis=0)
    if len(group) > 1:
        # Ranges of several defenses would hide each other.
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
        linestyle=dashes_of(group[0].defense),
        # A single measurement makes no line, and few make one that hides where they are.
        marker="o" if len(epochs) <= _FEW_POINTS else None,
        markersize=2.5,
    )
    return line


def _explanation(histories: Sequence[History]) -> str:
    groups = [(history.attack, history.defense) for history in histories]
    counts = sorted({groups.count(group) for group in groups})
    if counts == [1]:
        return "one seed"
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"line: mean of {seeds} seeds; band: standard error"
