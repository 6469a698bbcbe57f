"""How friendly noise and random noise are distributed over pixels (FRIENDS, figure 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from poisonlab.errors import DataError
from poisonlab.figures.style import COLUMN_WIDTH, STYLED, colour_of, label_of

_CHUNK = 2_000_000


@STYLED
def noise_histogram(friendly: NDArray[Any], random: Sequence[tuple[str, float, NDArray[Any]]]) -> Figure:
    """Figure 4: the share of pixel values that each whole level of noise gets, one panel per noise.

    Args:
        friendly: friendly noise of all training examples, any shape, in the unit of [0, 1] pixels.
        random: for each random noise its distribution ("bernoulli", "uniform", "gaussian"), its magnitude mu
            in levels, and values drawn from it, any shape, in levels.

    Returns:
        The figure: the friendly noise on top; all panels share the horizontal axis, in levels of 1/255.

    Raises:
        DataError: the friendly noise is empty or not finite.
    """
    if friendly.size == 0:
        raise DataError("the friendly noise is empty: make it again")
    counts = _counts(friendly)
    panels = [("friendly", label_of("friendly"), counts)]
    used = np.flatnonzero(counts)
    reach = int(np.abs(used - 255).max())
    for distribution, mu, values in random:
        panels.append(
            (distribution, f"{label_of(distribution)}, {_magnitude(distribution, mu)}", _counts(values / 255))
        )
        # The few values in a Gaussian's far tails would squeeze all the others.
        reach = max(reach, math.ceil(np.quantile(np.abs(values), 0.999)))
    reach = min(reach + 2, 255)
    edges = np.arange(-255.5, 256)
    figure = Figure(figsize=(COLUMN_WIDTH, 0.45 + 0.95 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for place, (one, (name, label, count)) in enumerate(zip(axes, panels, strict=True)):
        one.stairs(100 * count / count.sum(), edges, fill=True, color=colour_of(name), linewidth=0)
        one.set_title(f"({chr(ord('a') + place)}) {label}", loc="left", pad=3)
        one.yaxis.set_major_locator(MaxNLocator(3))
        one.grid(axis="y")
    axes[-1].set(xlim=(-reach - 0.5, reach + 0.5), xlabel="noise (levels of 1/255)")
    figure.supylabel("pixel values (% per level)", fontsize=7.5)
    return figure


def _magnitude(distribution: str, mu: float) -> str:
    return {
        "bernoulli": f"\N{PLUS-MINUS SIGN}{mu:g} levels",
        "uniform": f"up to \N{PLUS-MINUS SIGN}{mu:g} levels",
        "gaussian": f"standard deviation {mu:g} levels",
    }[distribution]


def _counts(noise: NDArray[Any]) -> NDArray[np.int64]:
    """(511,) how many values round to each level from -255 to 255."""
    counts = np.zeros(511, dtype=np.int64)
    # In pieces: the noise of a whole dataset in float32 would take as much memory as the training.
    flat = noise.reshape(-1)
    for begin in range(0, flat.size, _CHUNK):
        levels = flat[begin : begin + _CHUNK].astype(np.float32) * 255
        if not np.isfinite(levels).all():
            raise DataError("the noise holds values that are not finite: make it again")
        whole = np.rint(levels).clip(-255, 255).astype(np.int64)
        counts += np.bincount(whole + 255, minlength=511)
    return counts
