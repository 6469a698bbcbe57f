"""Loss over a plane of perturbations, as surfaces and contours (FRIENDS, figures 2 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from poisonlab.errors import DataError
from poisonlab.figures.style import MATCHING_COLOURS, PAGE_WIDTH, STYLED, SURFACE_COLOURS, label_of

_LEVELS = ("direction 1 (levels)", "direction 2 (levels)")
_RELATIVE = ("direction 1 (of the weights)", "direction 2 (of the weights)")
_CONTOURS = 16
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


@STYLED
def poison_landscape(
    coordinates: NDArray[Any], matching_loss: NDArray[Any], training_loss: NDArray[Any], poison: NDArray[Any]
) -> Figure:
    """Figure 2: matching loss and training loss around one base image, in a plane through its poison.

    Args:
        coordinates: (G,) ascending positions along both directions, in levels of 1/255 (root mean square).
        matching_loss: (D, G, G) one minus the cosine of the two gradients, for D draws of the plane, of which the mean
            is drawn; axis 1 is direction 2, axis 2 is direction 1.
        training_loss: (D, G, G) cross-entropy of the perturbed example, likewise.
        poison: (2,) position of the poison along directions 1 and 2; the base image is at the origin.

    Raises:
        DataError: shapes contradict each other, values are not finite, or the poison lies outside the plane.
    """
    coordinates = _axis(coordinates)
    place = np.asarray(poison, dtype=np.float64)
    if place.shape != (2,) or not np.isfinite(place).all():
        raise DataError(f"the poison's position must be two finite numbers, not {place.tolist()}")
    if (np.abs(place) > np.abs(coordinates[[0, -1]]).min() + 1e-6).any():
        raise DataError(
            f"the poison at ({place[0]:.3g}, {place[1]:.3g}) lies outside the plane of "
            f"+-{coordinates[-1]:.3g} levels: raise figures.landscape.radius"
        )
    quantities = [
        ("matching loss", _mean(matching_loss, coordinates, "matching_loss"), MATCHING_COLOURS),
        ("training loss", _mean(training_loss, coordinates, "training_loss"), SURFACE_COLOURS),
    ]
    figure = Figure(figsize=(PAGE_WIDTH, 5.7))
    letters = iter("abcd")
    for row, (name, loss, colours) in enumerate(quantities):
        norm = _norm([loss])
        bottom = 0.565 - 0.485 * row
        surface = figure.add_axes((0.0, bottom - 0.045, 0.47, 0.475), projection="3d")
        _surface(surface, coordinates, loss, norm, colours, name, _LEVELS)
        height = _at(coordinates, loss, place)
        surface.plot([place[0]], [place[1]], [height], linestyle="none", zorder=10, **_STAR)
        contour = figure.add_axes((0.575, bottom + 0.01, 0.30, 0.30 * PAGE_WIDTH / 5.7))
        filled = _contour(contour, coordinates, loss, norm, colours)
        contour.set(xlabel=_LEVELS[0], ylabel=_LEVELS[1])
        (base,) = contour.plot([0], [0], linestyle="none", label="base image", clip_on=False, **_BASE)
        (star,) = contour.plot(
            [place[0]], [place[1]], linestyle="none", label="poison", clip_on=False, zorder=3, **_STAR
        )
        bar = figure.add_axes((0.895, bottom + 0.01, 0.016, 0.30 * PAGE_WIDTH / 5.7))
        figure.colorbar(filled, cax=bar, label=name, ticks=MaxNLocator(6))
        for left, kind in ((0.03, "surface"), (0.575, "contour")):
            figure.text(left, bottom + 0.39, f"({next(letters)}) {name[0].upper()}{name[1:]}, {kind}", fontsize=8)
    figure.legend(handles=[base, star], loc="lower center", bbox_to_anchor=(0.24, 0.0), ncols=2)
    return figure


@STYLED
def victim_landscapes(
    coordinates: NDArray[Any], names: Sequence[str], loss: NDArray[Any], directions: str = "plain"
) -> Figure:
    """Figure 3: training loss of several victims around the poisoned examples, on one scale.

    Args:
        coordinates: (G,) ascending positions along both directions: in levels of 1/255 (root mean square) if the
            poisons are moved, as a share of the filters' norms if the weights are.
        names: (V,) the defenses that the victims were trained with.
        loss: (V, D, G, G) mean cross-entropy of the poisons, for D draws of the directions, of which the mean is drawn;
            axis 2 is direction 2, axis 3 is direction 1.
        directions: "plain": the poisons are moved; "filter-normalised": the weights are.

    Returns:
        The figure: a column per victim, surface above contour; limits and colours are the same in all panels.

    Raises:
        DataError: shapes contradict each other or values are not finite.
    """
    coordinates = _axis(coordinates)
    loss = np.asarray(loss)
    if len(names) == 0 or loss.ndim != 4 or len(loss) != len(names):
        raise DataError(f"{len(names)} victims need a loss of ({len(names)}, D, G, G), not {loss.shape}")
    labels = _LEVELS if directions == "plain" else _RELATIVE
    grids = [_mean(one, coordinates, "loss") for one in loss]
    norm = _norm(grids)
    column, right, height = 2.1, 0.75, 4.12
    width = column * len(names) + right
    figure = Figure(figsize=(width, height))
    side = 1.52
    for place, (name, grid) in enumerate(zip(names, grids, strict=True)):
        left = place * column
        surface = figure.add_axes((left / width, 2.0 / height, 2.1 / width, 2.1 / height), projection="3d")
        _surface(surface, coordinates, grid, norm, SURFACE_COLOURS, "training loss", labels, small=True)
        figure.text(
            (left + 0.5 + side / 2) / width,
            (height - 0.17) / height,
            f"({chr(ord('a') + place)}) {label_of(name)}",
            fontsize=8,
            ha="center",
        )
        contour = figure.add_axes(((left + 0.5) / width, 0.42 / height, side / width, side / height))
        filled = _contour(contour, coordinates, grid, norm, SURFACE_COLOURS)
        contour.set(xlabel=labels[0])
        if place == 0:
            contour.set(ylabel=labels[1])
    bar = figure.add_axes(((width - right + 0.12) / width, 0.42 / height, 0.11 / width, side / height))
    figure.colorbar(
        ScalarMappable(norm=norm, cmap=filled.get_cmap()),
        cax=bar,
        label="training loss",
        ticks=MaxNLocator(6),
    )
    return figure


def _axis(coordinates: NDArray[Any]) -> NDArray[np.float64]:
    axis = np.asarray(coordinates, dtype=np.float64)
    if axis.ndim != 1 or len(axis) < 3 or not np.isfinite(axis).all() or (np.diff(axis) <= 0).any():
        raise DataError("coordinates must be at least three ascending numbers: make the landscape again")
    return axis


def _mean(loss: NDArray[Any], coordinates: NDArray[Any], name: str) -> NDArray[np.float64]:
    """The mean over draws: (G, G) of (D, G, G)."""
    grids = np.asarray(loss, dtype=np.float64)
    if grids.ndim != 3 or len(grids) == 0 or grids.shape[1:] != (len(coordinates), len(coordinates)):
        raise DataError(f"{name} is {grids.shape} but there are {len(coordinates)} coordinates: make it again")
    if not np.isfinite(grids).all():
        raise DataError(f"{name} holds values that are not finite: did the training diverge?")
    mean: NDArray[np.float64] = grids.mean(axis=0)
    return mean


def _norm(grids: Sequence[NDArray[Any]]) -> Normalize:
    low, high = float(min(grid.min() for grid in grids)), float(max(grid.max() for grid in grids))
    # Contour levels must ascend even where the loss is flat.
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    return Normalize(low, high)


def _surface(
    axes: Any,
    coordinates: NDArray[Any],
    loss: NDArray[Any],
    norm: Normalize,
    colours: str,
    name: str,
    labels: tuple[str, str],
    small: bool = False,
) -> None:
    first, second = np.meshgrid(coordinates, coordinates)
    count = min(len(coordinates), 101)
    # Markers would otherwise sink into the surface: Matplotlib sorts whole artists by depth.
    axes.computed_zorder = False
    axes.plot_surface(
        first,
        second,
        loss,
        cmap=colours,
        norm=norm,
        rcount=count,
        ccount=count,
        linewidth=0,
        antialiased=False,
        rasterized=True,
    )
    axes.set(xlim=coordinates[[0, -1]], ylim=coordinates[[0, -1]], zlim=(norm.vmin, norm.vmax))
    axes.view_init(elev=32, azim=-58)
    axes.set_box_aspect((1, 1, 0.72), zoom=0.84 if small else 0.88)
    size = 6 if small else 7
    axes.tick_params(labelsize=size - 0.5, pad=-3.5 if small else -2)
    axes.set_xlabel(labels[0], labelpad=-7.5 if small else -4, fontsize=size)
    axes.set_ylabel(labels[1], labelpad=-7.5 if small else -4, fontsize=size)
    axes.set_zlabel(name, labelpad=-7.5 if small else -4, fontsize=size)
    locator = MaxNLocator(4 if small else 5)
    # At the ends, the labels of two axes would meet in the corner.
    inner = [tick for tick in locator.tick_values(*coordinates[[0, -1]]) if abs(tick) < 0.97 * coordinates[-1]]
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        if axis is axes.zaxis:
            axis.set_major_locator(locator)
        else:
            axis.set_ticks(inner)
        axis.pane.set_facecolor("white")
        axis.pane.set_edgecolor("#BBBBBB")
        axis._axinfo["grid"].update(color="#DDDDDD", linewidth=0.4)
    axes.patch.set_alpha(0)


def _contour(
    axes: Axes, coordinates: NDArray[Any], loss: NDArray[Any], norm: Normalize, colours: str
) -> QuadContourSet:
    assert norm.vmin is not None
    assert norm.vmax is not None
    levels = np.linspace(norm.vmin, norm.vmax, _CONTOURS + 1)
    filled = axes.contourf(coordinates, coordinates, loss, levels=levels, cmap=colours, norm=norm, extend="neither")
    # As vectors, neighbouring bands show hairlines between them in most viewers.
    filled.set_rasterized(True)
    lines = axes.contour(coordinates, coordinates, loss, levels=levels[1:-1], colors="white", linewidths=0.3)
    lines.set_alpha(0.6)
    axes.set_aspect("equal")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return filled


def _at(coordinates: NDArray[Any], loss: NDArray[Any], place: NDArray[Any]) -> float:
    """The loss at ``place``, linear between grid points."""
    along = np.array([np.interp(place[0], coordinates, row) for row in loss])
    return float(np.interp(place[1], coordinates, along))
