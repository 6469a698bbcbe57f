"""Losses of several victims around the poisons, as surfaces and contours (FRIENDS, figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
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
from poisonlab.figures.style import STYLED, SURFACE_COLOURS, fitted, label_of
from poisonlab.figures.wording import PLUS_MINUS, listed, number

_RELATIVE = ("direction 1 (of the weights)", "direction 2 (of the weights)")


def draw(inputs: Inputs, spec: Spec) -> tuple[Figure, str]:
    """Draw from ``landscape`` (losses of the victims, npz)."""
    path = inputs["landscape"][0]
    arrays = read_arrays(path, ("coordinates", "names", "loss", "at_poisons", "directions"))
    names = [str(name) for name in arrays["names"].reshape(-1)]
    coordinates, loss, directions = arrays["coordinates"], arrays["loss"], str(arrays["directions"])
    figure = victim_landscapes(coordinates, names, loss, directions)
    return figure, victim_landscapes_caption(coordinates, names, loss, arrays["at_poisons"], directions)


@STYLED
def victim_landscapes(
    coordinates: NDArray[Any], names: Sequence[str], loss: NDArray[Any], directions: str = "plain"
) -> Figure:
    """Figure 3: training loss of several victims around the poisoned examples, on one scale.

    Args:
        coordinates: (G,) ascending positions along both directions: in levels of 1/255 (root mean square) if the
            poisons are moved, as a share of the filters' norms if the weights are moved.
        names: (V,) the defenses that the victims were trained with.
        loss: (V, D, G, G) mean cross-entropy of the poisons, for D draws of the directions, whose mean is drawn; axis 2
            is direction 2, axis 3 is direction 1.
        directions: "plain": the poisons are moved; "filter-normalised": the weights are moved.

    Returns:
        The figure: a column per victim, surface above contour; limits and colours are the same in all panels.

    Raises:
        DataError: shapes contradict each other or values are not finite.
    """
    coordinates = axis_of(coordinates)
    loss = np.asarray(loss)
    if len(names) == 0 or loss.ndim != 4 or len(loss) != len(names):
        raise DataError(f"{len(names)} victims need a loss of ({len(names)}, D, G, G), not {loss.shape}")
    labels = LEVELS if directions == "plain" else _RELATIVE
    grids = [mean_over_draws(one, coordinates, "loss") for one in loss]
    norm = norm_of(grids)
    column, right, height = 2.1, 0.9, 4.12
    width = column * len(names) + right
    figure = Figure(figsize=(width, height))
    side = 1.52
    for place, (name, grid) in enumerate(zip(names, grids, strict=True)):
        left = place * column
        surface = figure.add_axes((left / width, 2.0 / height, 2.1 / width, 2.1 / height), projection="3d")
        draw_surface(surface, coordinates, grid, norm, SURFACE_COLOURS, "training loss", labels, small=True)
        figure.text(
            (left + 0.5 + side / 2) / width,
            (height - 0.06) / height,
            fitted(f"({chr(ord('a') + place)}) {label_of(name)}", column, 8),
            fontsize=8,
            ha="center",
            va="top",
        )
        contour = figure.add_axes(((left + 0.5) / width, 0.42 / height, side / width, side / height))
        filled = draw_contour(contour, coordinates, grid, norm, SURFACE_COLOURS)
        contour.set(xlabel=labels[0])
        if place == 0:
            contour.set(ylabel=labels[1])
    bar = figure.add_axes(((width - right + 0.12) / width, 0.42 / height, 0.11 / width, side / height))
    figure.colorbar(
        ScalarMappable(norm=norm, cmap=filled.get_cmap()),
        cax=bar,
        label="training loss",
        ticks=MaxNLocator(6),
        format=loss_text,
    )
    return figure


def victim_landscapes_caption(
    coordinates: NDArray[Any],
    names: Sequence[str],
    loss: NDArray[Any],
    at_poisons: NDArray[Any],
    directions: str = "plain",
) -> str:
    """The caption of figure 3: each victim's mean loss at the poisons themselves, and its extremes around them.

    Args:
        coordinates, names, loss, directions: as ``victim_landscapes`` draws them; every draw is counted.
        at_poisons: (V,) mean cross-entropy of the poisons as they are.
    """
    draws = loss.shape[1]
    reach = f"{PLUS_MINUS}{number(coordinates[-1])}"
    moved = (
        f"each poison is moved in pixel space along two random directions of its own, up to {reach} levels (1/255) of "
        "root mean square change along each"
        if directions == "plain"
        else "the victim's weights are moved along two random directions whose filters have the norms of the weights' "
        f"(Li et al. 2018), up to {reach} times these norms along each"
    )
    poisons, highest, lowest = (
        listed([f"{value} ({label_of(name)})" for name, value in zip(names, values, strict=True)])
        for values in (
            [number(value) for value in at_poisons],
            [over_draws(one.max(axis=(1, 2))) for one in loss],
            [over_draws(one.min(axis=(1, 2))) for one in loss],
        )
    )
    return (
        f"After figure 3 of FRIENDS: mean training loss (cross-entropy) over all poisons of one run, as {moved}; the "
        f"same directions and scale in every panel, one victim each.{told_draws(draws)} At the poisons themselves the "
        f"loss is {poisons}; the highest on the grid is {highest}; the lowest is {lowest}."
    )
