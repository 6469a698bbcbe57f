"""Common parts of figures of losses over a plane: surfaces, contours, and sentences about draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.contour import QuadContourSet
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from poisonlab.errors import DataError
from poisonlab.figures.wording import number

LEVELS = ("direction 1 (levels)", "direction 2 (levels)")
_CONTOURS = 16


def axis_of(coordinates: NDArray[Any]) -> NDArray[np.float64]:
    axis = np.asarray(coordinates, dtype=np.float64)
    if axis.ndim != 1 or len(axis) < 3 or not np.isfinite(axis).all() or (np.diff(axis) <= 0).any():
        raise DataError("coordinates must be at least three ascending numbers: make the landscape again")
    return axis


def mean_over_draws(loss: NDArray[Any], coordinates: NDArray[Any], name: str) -> NDArray[np.float64]:
    """The mean over draws: (G, G) of (D, G, G)."""
    grids = np.asarray(loss, dtype=np.float64)
    if grids.ndim != 3 or len(grids) == 0 or grids.shape[1:] != (len(coordinates), len(coordinates)):
        raise DataError(f"{name} is {grids.shape} but there are {len(coordinates)} coordinates: make it again")
    if not np.isfinite(grids).all():
        raise DataError(f"{name} holds values that are not finite: did the training diverge?")
    mean: NDArray[np.float64] = grids.mean(axis=0)
    return mean


def norm_of(grids: Sequence[NDArray[Any]]) -> Normalize:
    low, high = float(min(grid.min() for grid in grids)), float(max(grid.max() for grid in grids))
    # Contour levels must ascend even if the loss is flat.
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    return Normalize(low, high)


def draw_surface(
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
    # Matplotlib sorts whole artists by depth, so markers would otherwise sink into the surface.
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
    # At the ends of two axes, their labels would overlap in the corner.
    inner = [tick for tick in locator.tick_values(*coordinates[[0, -1]]) if abs(tick) < 0.97 * coordinates[-1]]
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        if axis is axes.zaxis:
            axis.set_major_locator(locator)
            axis.set_major_formatter(loss_text)
        else:
            axis.set_ticks(inner)
        axis.pane.set_facecolor("white")
        axis.pane.set_edgecolor("#BBBBBB")
        axis._axinfo["grid"].update(color="#DDDDDD", linewidth=0.4)
    axes.patch.set_alpha(0)


def draw_contour(
    axes: Axes, coordinates: NDArray[Any], loss: NDArray[Any], norm: Normalize, colours: str
) -> QuadContourSet:
    assert norm.vmin is not None
    assert norm.vmax is not None
    levels = np.linspace(norm.vmin, norm.vmax, _CONTOURS + 1)
    filled = axes.contourf(coordinates, coordinates, loss, levels=levels, cmap=colours, norm=norm, extend="neither")
    # In most viewers, neighbouring bands drawn as vectors have hairlines between them.
    filled.set_rasterized(True)
    lines = axes.contour(coordinates, coordinates, loss, levels=levels[1:-1], colors="white", linewidths=0.3)
    lines.set_alpha(0.6)
    axes.set_aspect("equal")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return filled


def loss_text(loss: float, place: int | None = None) -> str:
    """A loss at a tick, as short as the space beside an axis, without a common factor elsewhere."""
    if loss == 0 or 1e-3 <= abs(loss) < 1e4:
        return f"{loss:.4g}"
    factor, exponent = f"{loss:.2e}".split("e")
    return f"{float(factor):g}e{int(exponent)}"


def told_draws(draws: int) -> str:
    """The sentence on how several draws are combined; empty for one draw."""
    if draws == 1:
        return ""
    return (
        f" Surfaces are means over {draws} independent draws of the directions; for numbers that depend on the draw, "
        "the mean over the draws and in brackets their range are given."
    )


def over_draws(values: NDArray[Any], form: Callable[[float], str] = number) -> str:
    """The number of one draw, or mean and range over several."""
    mean = form(float(values.mean()))
    return mean if len(values) == 1 else f"{mean} [{form(float(values.min()))}, {form(float(values.max()))}]"
