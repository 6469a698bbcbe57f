"""One image and the change by every attack (Sandoval-Segura et al. 2022, figure 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from poisonlab.config.figures import Drawn as Spec
from poisonlab.errors import DataError
from poisonlab.figures.reading import Inputs, read_tensors
from poisonlab.figures.style import PAGE_WIDTH, STYLED, fitted, picture
from poisonlab.figures.wording import listed, number

_COLUMNS = 9
_LINE, _SIZE = 0.11, 6.5
"""Height in inches and size in points of a title's line."""

Change = NDArray[np.float64]


def draw(inputs: Inputs, spec: Spec) -> tuple[Figure, str]:
    """Draw from ``poisons.<attack>`` (poison sets of one seed)."""
    image, changes = read_changes(inputs)
    return perturbations(image, changes), perturbations_caption(changes)


def read_changes(inputs: Inputs) -> tuple[Change, dict[str, Change]]:
    """The first image that all attacks change, (C, H, W) in levels, and each attack's change, (C, H, W) in levels.

    Raises:
        DataError: a file is missing or damaged, or the attacks have no image in common.
    """
    sets = {name.partition(".")[2]: path for name, paths in inputs.items() for path in paths[:1]}
    # Only one set at a time is in memory, because each may hold the whole training set twice.
    rows = None
    for path in sets.values():
        indices = read_tensors(path, "poison set", ("indices",))["indices"]
        rows = set(indices.tolist()) if rows is None else rows & set(indices.tolist())
    common = sorted(row for row in rows or () if row >= 0)
    if not common:
        raise DataError("the attacks poison no image in common: give them a larger budget")
    image, changes = None, {}
    for name, path in sets.items():
        poisons = read_tensors(path, "poison set", ("indices", "images", "base_images"))
        place = int(np.flatnonzero(poisons["indices"] == common[0])[0])
        image = poisons["base_images"][place].astype(np.float64)
        shipped = poisons["images"][place]
        changes[name] = (shipped if shipped.dtype == np.uint8 else shipped * 255.0).astype(np.float64) - image
    assert image is not None
    return image, changes


def stretched(change: Change) -> Change:
    """A change (C, H, W), scaled so that its lowest value is 0 and its highest 1; grey if it is constant."""
    low, high = change.min(), change.max()
    return np.full_like(change, 0.5) if high == low else (change - low) / (high - low)


@STYLED
def perturbations(image: Change, changes: Mapping[str, Change]) -> Figure:
    """The image and, beside it, each attack's change, stretched from its lowest to its highest value.

    Args:
        image: (C, H, W) in levels; C is 1 or 3.
        changes: (C, H, W) in levels, by attack.
    """
    cells = [("clean", image / 255), *((name, stretched(change)) for name, change in changes.items())]
    columns = min(_COLUMNS, len(cells))
    rows = math.ceil(len(cells) / columns)
    side = PAGE_WIDTH / _COLUMNS
    names = [fitted(name, side, _SIZE) for name, _ in cells]
    title = 0.05 + _LINE * (1 + max(name.count("\n") for name in names))
    width, height = columns * side, rows * (side + title)
    figure = Figure(figsize=(width, height))
    for place, (name, (_, cell)) in enumerate(zip(names, cells, strict=True)):
        row, column = divmod(place, columns)
        bottom = height - (row + 1) * (side + title)
        box = ((column + 0.04) * side / width, bottom / height, 0.92 * side / width, 0.92 * side / height)
        axes = figure.add_axes(box)
        picture(axes, cell.clip(0, 1))
        axes.set_title(name, pad=2, fontsize=_SIZE)
    return figure


def perturbations_caption(changes: Mapping[str, Change]) -> str:
    """The caption of ``perturbations``, with the sizes of the changes.

    Args:
        changes: as drawn.
    """
    sizes = [f"{name} {number(float(np.abs(change).max()))}" for name, change in changes.items()]
    return (
        "One training image and what every attack adds to it, each change stretched from its lowest value to its "
        f"highest. Largest change of a pixel value, in levels: {listed(sizes)}."
    )
