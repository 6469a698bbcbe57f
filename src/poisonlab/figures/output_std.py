"""The spread of the networks' output around poisons and clean images (after FRIENDS, figure 5c)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from poisonlab.config.figures import Drawn as Spec
from poisonlab.errors import DataError
from poisonlab.figures.reading import Inputs, read_arrays
from poisonlab.figures.style import STYLED, fitted, label_of
from poisonlab.figures.wording import PLUS_MINUS, listed, number, percent

SURROGATE = "surrogate"
"""Name of the attacker's network among the victims."""
GROUPS = ("poisons", "bases", "clean")
_LABELS = ("poisons", "their base images", "other images of the class")
_LINES: tuple[dict[str, Any], ...] = (
    {"color": "#D55E00", "linestyle": "solid", "marker": "o"},
    {"color": "#0072B2", "linestyle": (0, (4, 1.5)), "marker": "s"},
    {"color": "#555555", "linestyle": (0, (1, 1.2)), "marker": "^"},
)
_COLUMN = 1.75
_TICKS = 8
"""Most labels that fit below a panel."""


def draw(inputs: Inputs, spec: Spec) -> tuple[Figure, str]:
    """Draw from ``std`` (standard deviations, npz)."""
    arrays = read_arrays(inputs["std"][0], ("names", "magnitudes", "std", "draws"))
    names = [str(name) for name in arrays["names"].reshape(-1)]
    figure = output_std_figure(arrays["magnitudes"], names, arrays["std"])
    return figure, output_std_caption(arrays["magnitudes"], names, arrays["std"], int(arrays["draws"]))


@STYLED
def output_std_figure(magnitudes: NDArray[Any], names: Sequence[str], std: NDArray[Any]) -> Figure:
    """After figure 5c: standard deviation of the probability of an image's own label against the size of the
    perturbation.

    Args:
        magnitudes: (M,) ascending, in levels of 1/255.
        names: (V,) ``SURROGATE`` or the defenses that the victims were trained with.
        std: (V, 3, P, M) for poisons, their base images and other images of the class; nan where a group has fewer
            images than there are poisons.

    Returns:
        The figure: a column per network, on one vertical scale; lines are medians over images, bands quartiles.

    Raises:
        DataError: shapes contradict each other, or a poison or base has no number.
    """
    magnitudes, std = _checked(magnitudes, names, std)
    figure = Figure(
        figsize=(0.6 + _COLUMN * max(len(names), 2), 2.35), layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.04)
    )
    row = figure.subplots(1, len(names), sharex=True, sharey=True, squeeze=False)[0]
    handles: dict[str, Any] = {}
    for place, (axes, name, groups) in enumerate(zip(row, names, std, strict=True)):
        for group, label, look in zip(groups, _LABELS, _LINES, strict=True):
            if not np.isnan(group).all():
                handles.setdefault(label, _line(axes, magnitudes, group, look))
        axes.set_title(fitted(f"({chr(ord('a') + place)}) {_called(name)}", _COLUMN, 8), loc="left", pad=3)
        axes.set_xscale("log", base=2)
        ticks = _apart(magnitudes)
        axes.set_xticks(ticks, [f"{magnitude:g}" for magnitude in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(f"perturbation ({PLUS_MINUS} levels)")
        axes.grid(axis="y")
    # The axis would hide a line along zero.
    row[0].set_ylim(bottom=-0.03 * row[0].get_ylim()[1])
    row[0].set_ylabel("std of the own label's\nprobability")
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=len(handles),
        title="line: median over images; band: quartiles",
        handlelength=2.6,
    )
    return figure


def output_std_caption(magnitudes: NDArray[Any], names: Sequence[str], std: NDArray[Any], draws: int) -> str:
    """The caption of ``output_std_figure``: medians at a middle and the largest magnitude, and poisons against their
    bases.

    Args:
        magnitudes, names, std: as drawn.
        draws: perturbations per image and magnitude.

    Raises:
        DataError: as ``output_std_figure``.
    """
    magnitudes, std = _checked(magnitudes, names, std)
    chosen = sorted({len(magnitudes) // 2, len(magnitudes) - 1})
    levels = listed([f"{PLUS_MINUS}{number(magnitudes[place])}" for place in chosen])
    sentences = [f"{_called(name)}: {_compared(groups, chosen)}." for name, groups in zip(names, std, strict=True)]
    return (
        "After figure 5c of FRIENDS, whose exact definition is not in the paper's body: standard deviation, over "
        f"{draws} perturbations with every pixel value uniform within {PLUS_MINUS}m levels (1/255) and clamped to "
        f"valid pixels, of the softmax probability of an image's own training label; {_sizes(std)}, one run. Line: "
        f"median over the images, band: quartiles; one network per panel. Medians at {levels} levels: "
        + " ".join(sentences)
    )


def _compared(groups: NDArray[np.float64], chosen: Sequence[int]) -> str:
    parts = [
        f"{listed([number(value) for value in np.nanmedian(group, axis=0)[chosen]])} around {label}"
        for group, label in zip(groups, _LABELS, strict=True)
        if not np.isnan(group).all()
    ]
    shares = listed([percent(share) for share in (groups[0] > groups[1]).mean(axis=0)[chosen]])
    return f"{listed(parts)}; larger at the poison than at its own base for {shares} of the poisons"


def _sizes(std: NDArray[np.float64]) -> str:
    others = int((~np.isnan(std[0, 2, :, 0])).sum())
    return listed([f"{std.shape[2]} {_LABELS[0]}", _LABELS[1]] + ([f"{others} {_LABELS[2]}"] if others else []))


def _called(name: str) -> str:
    return "Attacker's surrogate" if name == SURROGATE else label_of(name)


def _apart(magnitudes: NDArray[Any]) -> list[float]:
    """The magnitudes whose labels do not overlap."""
    octaves, shown = np.log2(magnitudes), [0]
    for place, octave in enumerate(octaves):
        if octave - octaves[shown[-1]] > np.ptp(octaves) / _TICKS:
            shown.append(place)
    return [float(magnitudes[place]) for place in shown]


def _line(axes: Axes, magnitudes: NDArray[Any], group: NDArray[Any], look: dict[str, Any]) -> Any:
    low, median, high = np.nanpercentile(group, (25, 50, 75), axis=0)
    axes.fill_between(magnitudes, low, high, color=look["color"], alpha=0.15, linewidth=0)
    (line,) = axes.plot(magnitudes, median, markersize=2.8, **look)
    return line


def _checked(
    magnitudes: NDArray[Any], names: Sequence[str], std: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    axis, values = np.asarray(magnitudes, dtype=np.float64), np.asarray(std, dtype=np.float64)
    if axis.ndim != 1 or axis.size == 0 or not (axis > 0).all() or (np.diff(axis) <= 0).any():
        raise DataError("magnitudes must be ascending positive numbers: make the numbers of the figure again")
    if values.ndim != 4 or values.shape[:2] != (len(names), len(GROUPS)) or values.shape[3] != axis.size or not names:
        raise DataError(
            f"std is {values.shape}, not ({len(names)} networks, {len(GROUPS)} groups, images, {axis.size} magnitudes)"
        )
    if values.shape[2] == 0 or not np.isfinite(values[:, :2]).all():
        raise DataError("std holds values that are not finite: did the training diverge?")
    return axis, values
