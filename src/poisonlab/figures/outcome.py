"""The results table as dots with intervals: poison success and test accuracy of every defense."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from poisonlab.errors import DataError
from poisonlab.figures.style import PAGE_WIDTH, STYLED, colour_of, label_of

_NUMBERS = ("n", "success", "success_low", "success_high", "accuracy", "accuracy_low", "accuracy_high")


def read_results(path: Path) -> pd.DataFrame:
    """The tidy results table: a row per attack and defense, proportions in [0, 1].

    Raises:
        DataError: the file is missing, not CSV, empty, or lacks a column.
    """
    try:
        # By default pandas would take a defense called "null" for a missing value.
        table = pd.read_csv(
            path,
            dtype={"attack": str, "defense": str},
            keep_default_na=False,
            na_values={name: ["", "nan", "NaN"] for name in _NUMBERS},
        )
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run the workflow to make it") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged (not CSV): delete it and run the workflow again") from error
    missing = [name for name in ("attack", "defense", *_NUMBERS) if name not in table.columns]
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}: is it another table?")
    if table.empty:
        raise DataError(f"{path} has no rows: evaluate the victims first")
    try:
        table = table.astype(dict.fromkeys(_NUMBERS, float))
    except ValueError as error:
        raise DataError(f"{path} holds text where numbers belong: delete it and run the workflow again") from error
    for name in ("n", "success", "accuracy"):
        if not np.isfinite(table[name]).all():
            raise DataError(f"{path} has no {name} for some rows: evaluate the victims first")
    return table


@STYLED
def outcome(table: pd.DataFrame) -> Figure:
    """Poison success with its 95 % Wilson interval and test accuracy with its 95 % t interval, by defense.

    Args:
        table: a row per attack and defense with ``n`` and the proportions ``success``, ``success_low``,
            ``success_high``, ``accuracy``, ``accuracy_low``, ``accuracy_high`` in [0, 1]; bounds may be nan.

    Returns:
        The figure: a row of panels per attack, defenses in the table's order; nan intervals are left out.
    """
    attacks = list(dict.fromkeys(table["attack"]))
    counts = sorted(set(table["n"].astype(int)))
    parts = [table[table["attack"] == attack] for attack in attacks]
    heights = [0.19 * len(part) + 0.22 for part in parts]
    figure = Figure(
        figsize=(PAGE_WIDTH, sum(heights) + 0.5 + 0.2 * (len(parts) - 1)),
        layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.04),
    )
    grid = figure.subplots(len(parts), 2, sharex="col", squeeze=False, height_ratios=heights)
    for attack, part, (left, right) in zip(attacks, parts, grid, strict=True):
        _dots(left, part, "success")
        _dots(right, part, "accuracy")
        labels = [
            label_of(name) + (f" (n = {n:.0f})" if len(counts) > 1 else "")
            for name, n in zip(part["defense"], part["n"], strict=True)
        ]
        left.set_yticks(range(len(part)), labels)
        right.set_yticks(range(len(part)), [""] * len(part))
        left.set_xlim(-3, 103)
        if len(parts) > 1:
            left.set_title(attack, loc="left", pad=3)
    runs = f", n = {counts[0]}" if len(counts) == 1 else ""
    grid[-1][0].set_xlabel(f"poison success (%), 95 % interval{runs}")
    grid[-1][1].set_xlabel(f"test accuracy (%), 95 % t interval{runs}")
    return figure


def _dots(axes: Axes, part: pd.DataFrame, quantity: str) -> None:
    columns: Sequence[str] = (quantity, f"{quantity}_low", f"{quantity}_high")
    for place, (defense, *row) in enumerate(part[["defense", *columns]].itertuples(index=False)):
        value, low, high = (100 * float(number) for number in row)
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
