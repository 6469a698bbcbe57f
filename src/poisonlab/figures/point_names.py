"""Names of the points of a scatter plot: beside their markers, and never over a marker or another name.

Each name has some hundred places to choose from, all around its marker and up to an inch away. A place costs what it
covers, and how far from the marker it is. Names are placed one after the other, and moved while that lowers the cost.
Nothing is drawn at random, so equal points give equal figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from numpy.typing import NDArray

MARKER = 4.0
"""Points (1/72 inch): the size of the markers that names keep off."""
_FONT = 6.0
_SPACE = 2.5
"""Points left free between names in a row, so that they do not run together."""
_GAPS = (1.5, 4.0, 7.0, 11.0, 16.0, 22.0, 29.0, 37.0, 46.0, 56.0, 70.0)
"""Points between a marker and its name. Names beyond the second have a leader line."""
_ANGLES = 2 * np.pi * np.arange(16) / 16
_COVERS, _CROSSES, _MEETS, _BAR, _AMBIGUOUS = 1000.0, 100.0, 40.0, 2.0, 30.0
"""Costs, where a point of distance costs 1: to cover a name or a marker; to draw a leader line through a name, or
through a marker or another line; to stand on an error bar; to stand as near to another marker, without a line."""
Bar = tuple[float, float, float, float]
"""An error bar in data coordinates: x and y of one end, then of the other."""
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """A point with a name, in data coordinates."""

    name: str
    x: float
    y: float
    bars: tuple[Bar, ...] = ()
    """Its error bars."""
    colour: str = "black"


@dataclass(frozen=True)
class _Places:
    """The places that a name may take, in points from the figure's corner."""

    boxes: _Array
    """(K, 4) left, bottom, right, top."""
    lines: _Array
    """(K, 2, 2) the leader line from the marker to the name; it ends at the marker where there is none."""
    cost: _Array
    """(K,) whatever the other names do."""


def write_names(axes: Axes, points: Sequence[Point]) -> None:
    """Write the names of points beside them.

    Args:
        axes: with all else drawn, and its limits final; the figure's layout is computed here.
        points: those with a marker of ``MARKER`` points.
    """
    if not points:
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    unit = 72 / figure.dpi
    centres = unit * axes.transData.transform([(point.x, point.y) for point in points])
    bars = [(*unit * axes.transData.transform((bar[:2], bar[2:])).ravel(),) for each in points for bar in each.bars]
    inside = unit * np.array(axes.bbox.extents)
    sizes = [_size(axes, point.name, unit) for point in points]
    every = [_places(place, size, centres, inside, np.reshape(bars, (-1, 4))) for place, size in enumerate(sizes)]
    for point, centre, places, choice in zip(points, centres, every, _chosen(every), strict=True):
        led = bool(np.ptp(places.lines[choice], axis=0).any())
        _write(axes, point, places.boxes[choice] - np.tile(centre, 2), led)


def _write(axes: Axes, point: Point, box: _Array, led: bool) -> None:
    """Write a name in its box (4,), in points from its marker; with a leader line or without."""
    space = np.array([_SPACE / 2, 0])
    low, high = box[:2] + space, box[2:] - space
    line = {
        "arrowstyle": "-",
        "linewidth": 0.6,
        "color": point.colour,
        "patchA": None,
        "shrinkA": 0,
        "shrinkB": MARKER / 2,
        "relpos": tuple((np.clip(0, low, high) - low) / (high - low)),
    }
    axes.annotate(
        point.name,
        (point.x, point.y),
        tuple(low),
        textcoords="offset points",
        verticalalignment="bottom",
        fontsize=_FONT,
        path_effects=[withStroke(linewidth=1.2, foreground="white")],
        arrowprops=line if led else None,
        annotation_clip=False,
    ).set_in_layout(False)


def _size(axes: Axes, name: str, unit: float) -> _Array:
    """(2,) width and height of a name in points."""
    text = axes.text(0, 0, name, fontsize=_FONT)
    width, height = Text.get_window_extent(text).size
    text.remove()
    return np.array([unit * width + _SPACE, unit * height])


def _places(own: int, size: _Array, centres: _Array, inside: _Array, bars: _Array) -> _Places:
    """The places of number ``own``, within the axes ``inside`` (4,) as far as there are any."""
    gaps, angles = (each.ravel() for each in np.meshgrid(_GAPS, _ANGLES, indexing="ij"))
    towards = np.column_stack([np.cos(angles), np.sin(angles)])
    # The side or the corner of the name that is next to its marker.
    middle = centres[own] + (gaps[:, None] + MARKER / 2) * towards + size / 2 * np.clip(1.4 * towards, -1, 1)
    boxes = np.concatenate([middle - size / 2, middle + size / 2], axis=1)
    others = np.delete(centres, own, axis=0)
    nearest = np.clip(centres[own], boxes[:, :2], boxes[:, 2:])
    away = np.linalg.norm(nearest - centres[own], axis=1)
    between = np.linalg.norm(np.clip(others, boxes[:, None, :2], boxes[:, None, 2:]) - others, axis=2)
    led = gaps > _GAPS[1]
    ambiguous = ~led & (between < away[:, None] + MARKER / 2).any(1)
    lines = np.stack(
        [np.broadcast_to(centres[own], nearest.shape), np.where(led[:, None], nearest, centres[own])], axis=1
    )
    markers = np.concatenate([centres - MARKER / 2 - 0.5, centres + MARKER / 2 + 0.5], axis=1)
    # Markers that lie over its own are met by every line.
    apart = np.delete(markers, own, axis=0)[np.abs(others - centres[own]).max(1) > MARKER]
    off = (boxes[:, :2] < inside[:2] + 1).any(1) | (boxes[:, 2:] > inside[2:] - 1).any(1)
    on_bars = _overlap(
        boxes, np.concatenate([np.minimum(bars[:, :2], bars[:, 2:]), np.maximum(bars[:, :2], bars[:, 2:])], axis=1)
    )
    cost = away + 10 * _COVERS * off + _COVERS * _overlap(boxes, markers).sum(1) + _BAR * on_bars.sum(1)
    cost += _MEETS * _through(lines, apart).sum(1) + _AMBIGUOUS * ambiguous
    return _Places(boxes, lines, cost)


def _chosen(every: Sequence[_Places]) -> list[int]:
    """The place of each name: the cheapest of what two orders of placing them come to."""
    tries = []
    for order in (range(len(every)), np.argsort([-each.cost.min() for each in every])):
        chosen: dict[int, int] = {}
        for _ in range(12):
            before = dict(chosen)
            for own in map(int, order):
                chosen.pop(own, None)
                cost = every[own].cost + _among(every[own], [every[other] for other in chosen], list(chosen.values()))
                chosen[own] = int(cost.argmin())
            if chosen == before:
                break
        tries.append((_total(every, chosen), [chosen[own] for own in range(len(every))]))
    return min(tries)[1]


def _among(own: _Places, others: Sequence[_Places], choices: Sequence[int]) -> _Array:
    """(K,) what each place costs beside names that are placed."""
    if not others:
        return np.zeros(len(own.cost))
    boxes, lines = (
        np.stack([getattr(other, what)[choice] for other, choice in zip(others, choices, strict=True)])
        for what in ("boxes", "lines")
    )
    through = _through(own.lines, boxes).sum(1) + _through(lines, own.boxes).sum(0)
    crossed = _cross(own.lines[:, None], lines[None]).sum(1)
    cost: _Array = _COVERS * _overlap(own.boxes, boxes).sum(1) + _CROSSES * through + _MEETS * crossed
    return cost


def _total(every: Sequence[_Places], chosen: dict[int, int]) -> float:
    """What all names cost together; each pair counts twice."""
    total = 0.0
    for own, choice in chosen.items():
        others = {other: place for other, place in chosen.items() if other != own}
        beside = _among(every[own], [every[other] for other in others], list(others.values()))
        total += float(every[own].cost[choice] + beside[choice])
    return total


def _overlap(boxes: _Array, others: _Array) -> NDArray[np.bool_]:
    """(K, N) whether boxes (K, 4) overlap others (N, 4)."""
    one, two = boxes[:, None], others[None]
    along = (one[..., :2] < two[..., 2:]) & (two[..., :2] < one[..., 2:])
    found: NDArray[np.bool_] = along[..., 0] & along[..., 1]
    return found


def _through(lines: _Array, boxes: _Array) -> NDArray[np.bool_]:
    """(K, N) whether lines (K, 2 ends, 2) pass through boxes (N, 4); each line's part between the sides of a box is
    found along x and along y."""
    start, along = lines[:, None, 0], (lines[:, 1] - lines[:, 0])[:, None]
    # A line along one axis has infinite bounds on the other, as it should.
    with np.errstate(divide="ignore", invalid="ignore"):
        one, two = (boxes[:, :2] - start) / along, (boxes[:, 2:] - start) / along
    first, last = np.minimum(one, two).max(-1), np.maximum(one, two).min(-1)
    found: NDArray[np.bool_] = np.maximum(first, 0) < np.minimum(last, 1)
    return found


def _cross(one: _Array, two: _Array) -> NDArray[np.bool_]:
    """Whether segments (..., 2 ends, 2) cross; those with an end in common do not."""

    def side(segment: _Array, ends: _Array) -> _Array:
        along, to = (segment[..., 1, :] - segment[..., 0, :])[..., None, :], ends - segment[..., :1, :]
        turned: _Array = np.sign(along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0]).prod(-1)
        return turned

    found: NDArray[np.bool_] = (side(one, two) < 0) & (side(two, one) < 0)
    return found
