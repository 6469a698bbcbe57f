"""Learning curves of several attacks' victims: training loss and test accuracy by epoch, groups of attacks side by side
(Sandoval-Segura et al. 2022, figure 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from poisonlab.config.figures import Drawn
from poisonlab.config.figures_of_attacks import CurveGroup
from poisonlab.config.types import PositiveFloat
from poisonlab.figures.learning_curves import History, left_out, read_history
from poisonlab.figures.reading import Inputs
from poisonlab.figures.style import PAGE_WIDTH, STYLED, empty, fitted, in_legend, legend_size, nth_line
from poisonlab.figures.wording import listed, percent

CONTROL = "clean data"
QUANTITIES = ("train_loss", "accuracy")


class Spec(Drawn):
    """Settings of the figure."""

    groups: tuple[CurveGroup, ...]
    low_loss: tuple[PositiveFloat, ...]
    """The levels of the training loss to mark: those of the attacks."""


Curves = Mapping[str, Sequence[History]]
"""Trainings of several seeds by attack; those on clean data have the name ``CONTROL``."""


def draw(inputs: Inputs, spec: Spec) -> tuple[Figure, str]:
    """Draw from ``victims.<attack>`` (the metrics of its undefended victims, JSON) and ``control`` (of victims trained
    on clean data)."""
    curves: dict[str, list[History]] = {}
    for name, paths in inputs.items():
        kind, _, attack = name.partition(".")
        found = [history for path in paths if (history := read_history(path, QUANTITIES)) is not None]
        if found:
            curves[CONTROL if kind == "control" else attack] = found
    groups = [
        (group.title, {name: curves[name] for name in (CONTROL, *group.attacks) if name in curves})
        for group in spec.groups
    ]
    shown = [(title, group) for title, group in groups if group.keys() - {CONTROL}]
    every = sum(map(len, inputs.values()))
    lost = left_out(every - sum(map(len, curves.values())), every)
    if not shown:
        return empty(), " ".join(lost)
    return poison_curves(shown, spec.low_loss), " ".join([poison_curves_caption(curves, spec.low_loss), *lost])


@STYLED
def poison_curves(groups: Sequence[tuple[str, Curves]], low_loss: Sequence[float]) -> Figure:
    """Training loss above, test accuracy below, a column per group and a line per attack, the mean over seeds.

    Args:
        groups: title and trainings of each column; the control is a black line in each.
        low_loss: training losses that get a dotted line.
    """
    width = PAGE_WIDTH / len(groups)
    called = [[in_legend(name, width) for name in group] for _, group in groups]
    columns = min(legend_size(names, width, 2)[0] for names in called)
    longest = max(legend_size(names, width, columns)[1] for names in called)
    figure = Figure(figsize=(PAGE_WIDTH, 3.7 + 0.2 * longest), layout=ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.04))
    grid = figure.subplots(2, len(groups), sharex=True, sharey="row", squeeze=False)
    for column, (title, group) in enumerate(groups):
        handles: dict[str, Any] = {}
        lines = map(nth_line, count())
        for name, histories in group.items():
            colour, dashes = ("black", "solid") if name == CONTROL else next(lines)
            for axes, quantity in zip(grid[:, column], QUANTITIES, strict=True):
                epochs, values = mean_curve(histories, quantity)
                scale = 100 if quantity == "accuracy" else 1
                (handles[name],) = axes.plot(epochs + 1, scale * values, color=colour, linestyle=dashes, linewidth=1.0)
        for level in low_loss:
            grid[0, column].axhline(level, color="#555555", linewidth=0.7, linestyle=(0, (1, 1.5)), zorder=1)
        lettered = f"({chr(ord('a') + column)}) {title}"
        grid[0, column].set_title(fitted(lettered, width, 8), loc="left", pad=3)
        grid[1, column].legend(
            list(handles.values()),
            called[column],
            loc="upper center",
            bbox_to_anchor=(0.5, -0.22),
            ncols=columns,
            handlelength=2.0,
            columnspacing=0.8,
        )
        grid[1, column].set_xlabel("epoch")
        for axes in grid[:, column]:
            axes.grid(axis="y")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    grid[0, 0].set_ylabel("training loss")
    grid[1, 0].set_ylabel("test accuracy (%)")
    return figure


def mean_curve(histories: Sequence[History], quantity: str) -> tuple[Any, Any]:
    """(M,) epochs (from 0) at which every seed was measured, and the means over seeds."""
    by_epoch: dict[int, list[float]] = {}
    for history in histories:
        for epoch, value in zip(history.epochs.tolist(), history.values[quantity].tolist(), strict=True):
            if np.isfinite(value):
                by_epoch.setdefault(epoch, []).append(value)
    complete = sorted(epoch for epoch, values in by_epoch.items() if len(values) == len(histories))
    return np.array(complete, dtype=np.int64), np.array([np.mean(by_epoch[epoch]) for epoch in complete])


def poison_curves_caption(curves: Curves, low_loss: Sequence[float]) -> str:
    """The caption of ``poison_curves``: for each attack the peak of the mean accuracy, its epoch, and the last value.
    Victims are named if attacks differ in them.

    Args:
        curves, low_loss: as drawn.
    """
    victims: dict[str, list[str]] = {}
    for name, histories in curves.items():
        victims.setdefault(histories[0].victim, []).append(name)
    several = "; ".join(f"{victim} ({', '.join(names)})" for victim, names in victims.items())
    differ = f" Attacks differ in their victims, too: {several}." if len(victims) > 1 else ""
    sentences = []
    for name, histories in curves.items():
        epochs, values = mean_curve(histories, "accuracy")
        if len(values):
            best = int(values.argmax())
            peak, end = percent(float(values[best])), percent(float(values[-1]))
            sentences.append(f"{name} (n = {len(histories)}) {peak} at epoch {epochs[best] + 1}, {end} at the end")
    dotted = f"; dotted, a low training loss ({listed([f'{level:g}' for level in low_loss])})" if low_loss else ""
    return (
        f"Training loss and test accuracy by epoch (from 1) of undefended victims, means over n seeds{dotted}. Peak of "
        f"the mean test accuracy: {listed(sentences)}.{differ}"
    )
