"""Distributions of friendly noise and random noise over pixels (FRIENDS, figure 4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from poisonlab.config.defenses.random_noise import RandomNoise
from poisonlab.config.figures import Drawn
from poisonlab.config.types import PositiveLevels, Settings
from poisonlab.errors import DataError
from poisonlab.figures.reading import Inputs, read_tensors
from poisonlab.figures.style import COLUMN_WIDTH, STYLED, label_of, looks_of
from poisonlab.figures.wording import PLUS_MINUS, number, percent

_CHUNK = 2_000_000
_DRAWS = 1_000_000
_SEED = 0


class Bound(Settings):
    """The bound of the friendly noise."""

    zeta: PositiveLevels


class Spec(Drawn):
    """Settings of the figure."""

    friendly: Bound
    noise: tuple[RandomNoise, ...] = ()
    """Random noises to draw beside the friendly noise."""


def draw(inputs: Inputs, spec: Spec) -> tuple[Figure, str]:
    """Draw from ``noise`` (the friendly noise of a training set)."""
    stored = read_tensors(inputs["noise"][0], "friendly noise", ("noise", "made"))
    noise = stored["noise"][stored["made"]]
    rng = np.random.default_rng(_SEED)
    drawn = [(kind.distribution, kind.mu, _draws(kind, rng)) for kind in spec.noise]
    return noise_histogram(noise, drawn), noise_histogram_caption(noise, spec.friendly.zeta, drawn)


def _draws(kind: RandomNoise, rng: np.random.Generator) -> NDArray[Any]:
    """Values of a random noise in levels, as ``poisonlab.defenses.random_noise`` adds them."""
    match kind.distribution:
        case "gaussian":
            return rng.normal(0, kind.mu, _DRAWS)
        case "bernoulli":
            return kind.mu * rng.choice([-1.0, 1.0], _DRAWS)
        case "uniform":
            return rng.uniform(-kind.mu, kind.mu, _DRAWS)


@STYLED
def noise_histogram(friendly: NDArray[Any], random: Sequence[tuple[str, float, NDArray[Any]]]) -> Figure:
    """Figure 4: the share of pixel values at each whole level of noise, one panel per noise.

    Args:
        friendly: friendly noise of all training examples, any shape, in the unit of [0, 1] pixels.
        random: for each random noise its distribution ("bernoulli", "uniform", "gaussian"), its magnitude mu in levels,
            and values drawn from it, any shape, in levels.

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
        # The few values in the far tails of a Gaussian would squeeze all others.
        reach = max(reach, math.ceil(np.quantile(np.abs(values), 0.999)))
    reach = min(reach + 2, 255)
    edges = np.arange(-255.5, 256)
    figure = Figure(figsize=(COLUMN_WIDTH, 0.45 + 0.95 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    looks = looks_of(name for name, _, _ in panels)
    for place, (one, (name, label, count)) in enumerate(zip(axes, panels, strict=True)):
        one.stairs(100 * count / count.sum(), edges, fill=True, color=looks[name][0], linewidth=0)
        one.set_title(f"({chr(ord('a') + place)}) {label}", loc="left", pad=3)
        one.yaxis.set_major_locator(MaxNLocator(3))
        one.grid(axis="y")
    axes[-1].set(xlim=(-reach - 0.5, reach + 0.5), xlabel="noise (levels of 1/255)")
    figure.supylabel("pixel values (% per level)", fontsize=7.5)
    return figure


def noise_histogram_caption(
    friendly: NDArray[Any], zeta: float, random: Sequence[tuple[str, float, NDArray[Any]]]
) -> str:
    """The caption of ``noise_histogram``, with the shares at the friendly noise's bound and of each noise near zero.

    Args:
        friendly: as drawn, in the unit of [0, 1] pixels.
        zeta: bound of the friendly noise, in levels.
        random: as drawn.
    """
    drawn = f", and over {random[0][2].size:,} drawn from each random noise" if random else ""
    sentences = [
        "After figure 4 of FRIENDS: the share of pixel values at each whole level (1/255) of noise, over the "
        f"{friendly.size:,} of one run's friendly noise{drawn}. Friendly noise: "
        f"{percent(_share(friendly, zeta - 0.5, 255))} of the values lie at the bound of {PLUS_MINUS}{number(zeta)} "
        f"levels (within half a level), {_spread(friendly)}."
    ]
    for distribution, mu, values in random:
        sentences.append(f"{label_of(distribution)} ({_magnitude(distribution, mu)}): {_spread(values / 255)}.")
    return " ".join(sentences)


def _spread(noise: NDArray[Any]) -> str:
    sums = np.zeros(3)
    for levels in _pieces(noise):
        sums += levels.sum(), np.abs(levels).sum(), np.square(levels).sum()
    mean, size, square = sums / noise.size
    deviation = math.sqrt(max(0.0, square - mean**2))
    return (
        f"{percent(_share(noise, 0, 1))} within one level of zero; mean absolute value {number(size)}, standard "
        f"deviation {number(deviation)} levels"
    )


def _share(noise: NDArray[Any], low: float, high: float) -> float:
    """The share of values with a magnitude from ``low`` to ``high`` levels."""
    # In half precision, 1/255 is a little too large or too small.
    counts = [int(((abs(part) >= low - 0.01) & (abs(part) <= high + 0.01)).sum()) for part in _pieces(noise)]
    return sum(counts) / noise.size


def _magnitude(distribution: str, mu: float) -> str:
    return {
        "bernoulli": f"\N{PLUS-MINUS SIGN}{mu:g} levels",
        "uniform": f"up to \N{PLUS-MINUS SIGN}{mu:g} levels",
        "gaussian": f"standard deviation {mu:g} levels",
    }[distribution]


def _counts(noise: NDArray[Any]) -> NDArray[np.int64]:
    """(511,) number of values that round to each level from -255 to 255."""
    counts = np.zeros(511, dtype=np.int64)
    for levels in _pieces(noise):
        whole = np.rint(levels).clip(-255, 255).astype(np.int64)
        counts += np.bincount(whole + 255, minlength=511)
    return counts


def _pieces(noise: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """The noise in levels, in pieces, because a whole dataset's noise at once would take as much memory as the
    training."""
    flat = noise.reshape(-1)
    for begin in range(0, flat.size, _CHUNK):
        levels = flat[begin : begin + _CHUNK].astype(np.float64) * 255
        if not np.isfinite(levels).all():
            raise DataError("the noise holds values that are not finite: make it again")
        yield levels
