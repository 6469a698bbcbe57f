"""Losses around one poison, as surfaces and contours (FRIENDS, figure 2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from poisonlab.config.figures import Drawn as Spec
from poisonlab.errors import DataError
from poisonlab.figures.landscape_plots import (
    LEVELS,
    axis_of,
    draw_contour,
    draw_surface,
    loss_text,
    mean_over_draws,
    norm_of,
    over_draws,
    told_draws,
)
from poisonlab.figures.reading import Inputs, read_arrays
from poisonlab.figures.style import MATCHING_COLOURS, PAGE_WIDTH, STYLED, SURFACE_COLOURS
from poisonlab.figures.wording import PLUS_MINUS, number, percent

_BASE: dict[str, Any] = {
    "marker": "o",
    "color": "white",
    "markeredgecolor": "black",
    "markersize": 5,
    "markeredgewidth": 0.9,
}
_STAR: dict[str, Any] = {
    "marker": "*",
    "color": "#D55E00",
    "markeredgecolor": "white",
    "markersize": 11,
    "markeredgewidth": 0.7,
}


def draw(inputs: Inputs, spec: Spec) -> tuple[Figure, str]:
    """Draw from ``landscape`` (losses around a poison, npz)."""
    path = inputs["landscape"][0]
    drawn = read_arrays(path, ("coordinates", "matching_loss", "training_loss"))
    figure = poison_landscape(**drawn, **read_arrays(path, ("poison",)))
    return figure, poison_landscape_caption(**drawn, **read_arrays(path, ("matching_at", "training_at")))


@STYLED
def poison_landscape(
    coordinates: NDArray[Any], matching_loss: NDArray[Any], training_loss: NDArray[Any], poison: NDArray[Any]
) -> Figure:
    """Figure 2: matching loss and training loss around one base image, in a plane through its poison.

    Args:
        coordinates: (G,) ascending positions along both directions, in levels of 1/255 (root mean square).
        matching_loss: (D, G, G) one minus the cosine of the two gradients, for D draws of the plane, whose mean is
            drawn; axis 1 is direction 2, axis 2 is direction 1.
        training_loss: (D, G, G) cross-entropy of the perturbed example, in the same layout.
        poison: (2,) position of the poison along directions 1 and 2; the base image is at the origin.

    Raises:
        DataError: shapes contradict each other, or values are not finite.
    """
    coordinates = axis_of(coordinates)
    place = np.asarray(poison, dtype=np.float64)
    if place.shape != (2,) or not np.isfinite(place).all():
        raise DataError(f"the poison's position must be two finite numbers, not {place.tolist()}")
    quantities = [
        ("matching loss", mean_over_draws(matching_loss, coordinates, "matching_loss"), MATCHING_COLOURS),
        ("training loss", mean_over_draws(training_loss, coordinates, "training_loss"), SURFACE_COLOURS),
    ]
    figure = Figure(figsize=(PAGE_WIDTH, 5.7))
    letters = iter("abcd")
    for row, (name, loss, colours) in enumerate(quantities):
        norm = norm_of([loss])
        bottom = 0.565 - 0.485 * row
        surface = figure.add_axes((0.0, bottom - 0.045, 0.47, 0.475), projection="3d")
        draw_surface(surface, coordinates, loss, norm, colours, name, LEVELS)
        height = _at(coordinates, loss, place)
        surface.plot([place[0]], [place[1]], [height], linestyle="none", zorder=10, **_STAR)
        contour = figure.add_axes((0.575, bottom + 0.01, 0.30, 0.30 * PAGE_WIDTH / 5.7))
        filled = draw_contour(contour, coordinates, loss, norm, colours)
        contour.set(xlabel=LEVELS[0], ylabel=LEVELS[1])
        (base,) = contour.plot([0], [0], linestyle="none", label="base image", clip_on=False, **_BASE)
        (star,) = contour.plot(
            [place[0]], [place[1]], linestyle="none", label="poison", clip_on=False, zorder=3, **_STAR
        )
        bar = figure.add_axes((0.895, bottom + 0.01, 0.016, 0.30 * PAGE_WIDTH / 5.7))
        figure.colorbar(filled, cax=bar, label=name, ticks=MaxNLocator(6), format=loss_text)
        for left, kind in ((0.03, "surface"), (0.575, "contour")):
            figure.text(left, bottom + 0.39, f"({next(letters)}) {name[0].upper()}{name[1:]}, {kind}", fontsize=8)
    figure.legend(handles=[base, star], loc="lower center", bbox_to_anchor=(0.24, 0.0), ncols=2)
    return figure


def poison_landscape_caption(
    coordinates: NDArray[Any],
    matching_loss: NDArray[Any],
    training_loss: NDArray[Any],
    matching_at: NDArray[Any],
    training_at: NDArray[Any],
) -> str:
    """The caption of figure 2: both losses at the base image and at the poison, and their extremes around these.

    Args:
        coordinates, matching_loss, training_loss: as ``poison_landscape`` draws them; every draw is counted.
        matching_at, training_at: (2,) each loss at the base image and at the poison themselves.
    """
    draws = len(matching_loss)
    plane = "a plane" if draws == 1 else f"{draws} planes"
    lowest, highest = (over_draws(loss) for loss in (matching_loss.min(axis=(1, 2)), training_loss.max(axis=(1, 2))))
    lower = over_draws((matching_loss < matching_at[1]).mean(axis=(1, 2)), percent)
    higher = over_draws((training_loss > training_at[1]).mean(axis=(1, 2)), percent)
    return (
        "After figure 2 of FRIENDS: losses of the attacker's surrogate around one base image, the one whose poison's "
        f"gradient comes closest to the target's, in {plane} through image and poison; up to "
        f"{PLUS_MINUS}{number(coordinates[-1])} levels (1/255) of root mean square change along each direction. "
        "Matching loss is one minus the cosine between the example's gradient and that of the target with the "
        f"adversarial label; training loss is cross-entropy.{told_draws(draws)} "
        f"Matching loss: {number(matching_at[0])} at the base image, {number(matching_at[1])} at the poison; the "
        f"lowest on the grid is {lowest}, and {lower} of the grid points lie lower than the poison. "
        f"Training loss: {number(training_at[0])} at the base image, {number(training_at[1])} at the poison; the "
        f"highest on the grid is {highest}, and {higher} of the grid "
        "points lie higher than the poison. One poison of one run."
    )


def _at(coordinates: NDArray[Any], loss: NDArray[Any], place: NDArray[Any]) -> float:
    """The loss at ``place``, linear between grid points."""
    along = np.array([np.interp(place[0], coordinates, row) for row in loss])
    return float(np.interp(place[1], coordinates, along))
