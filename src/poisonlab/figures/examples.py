"""Poisons and friendly noise as images (FRIENDS, figure 1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from poisonlab.config.figures import Drawn as Spec
from poisonlab.errors import DataError
from poisonlab.figures.reading import Inputs, read_tensors
from poisonlab.figures.style import STYLED, picture_rows
from poisonlab.figures.wording import number

_UNSEEN = "The victim is trained on none of these poisons: they were filtered or held out, and have no friendly noise."


def draw(inputs: Inputs, spec: Spec) -> tuple[Figure, str]:
    """Draw from ``poisons`` (a poison set) and ``noise`` (the friendly noise of its training set)."""
    poisons = read_tensors(inputs["poisons"][0], "poison set", ("indices", "images", "base_images"))
    path = inputs["noise"][0]
    friendly = read_tensors(path, "friendly noise", ("noise", "origin", "made"))
    shipped = poisons["images"]
    places = noise_places(poisons["indices"], friendly["origin"])
    trained_on = friendly["made"][places]
    targets = poisons["targets"] if "untriggered" in poisons else None
    # Each column has a poison and, for a backdoor, a test image, so the smaller number limits them. Filtered or
    # held-out poisons are shown only if all were.
    most = spec.drawing.examples if targets is None else min(spec.drawing.examples, len(targets))
    shown = np.flatnonzero(trained_on if trained_on.any() else np.ones_like(trained_on))[:most]
    arrays = (
        poisons["base_images"][shown],
        shipped[shown] if shipped.dtype == np.uint8 else shipped[shown] * 255,
        friendly["noise"][places[shown]].astype(np.float32) * 255,
    )
    figure = examples(*arrays, None if targets is None else targets[: len(shown)])
    caption = examples_caption(*arrays, total=len(places), triggered=targets is not None)
    return figure, caption if trained_on.any() else f"{caption} {_UNSEEN}"


def noise_places(indices: NDArray[Any], origin: NDArray[Any]) -> NDArray[np.int64]:
    """The place of each poison's noise in the friendly noise.

    Args:
        indices: (P,) the training row that each poison replaces; -1 for poisons appended to the training set, in order.
        origin: (N,) the training row that each noise was made for; -1 for appended poisons, in order.

    Raises:
        DataError: a poison has no noise.
    """
    waiting = {row: iter(np.flatnonzero(origin == row).tolist()) for row in set(indices.tolist())}
    try:
        return np.array([next(waiting[row]) for row in indices.tolist()], dtype=np.int64)
    except StopIteration as error:
        raise DataError(
            f"a poison has no noise among the {len(origin)} of the friendly noise: were both made for the same dataset?"
        ) from error


@STYLED
def examples(
    bases: NDArray[Any], poisons: NDArray[Any], noise: NDArray[Any], triggered: NDArray[Any] | None = None
) -> Figure:
    """Figure 1: one column per poison, from its base image to the image with friendly noise.

    Args:
        bases: (E, C, H, W) images before poisoning, in levels [0, 255]; C is 1 or 3.
        poisons: (E, C, H, W) images as shipped, in levels [0, 255].
        noise: (E, C, H, W) friendly noise of the same examples, in levels.
        triggered: (E, C, H, W) test images with the trigger of a backdoor, in levels; they share only the column.

    Returns:
        The figure. Perturbations are shown by magnitude per channel: black for 0, brightest for the row's largest
        value, which is written at the left.

    Raises:
        DataError: the shapes differ, or are not images.
    """
    given = [bases, poisons, noise] + ([] if triggered is None else [triggered])
    arrays = [np.asarray(array, dtype=np.float64) for array in given]
    shape = arrays[0].shape
    if len(shape) != 4 or shape[0] == 0 or shape[1] not in (1, 3):
        raise DataError(f"examples must be (E, 1 or 3, H, W) images, not {shape}")
    if any(array.shape != shape for array in arrays):
        shapes = " and ".join(str(array.shape) for array in arrays)
        raise DataError(f"bases, poisons and friendly noise differ in shape ({shapes}): make them again")
    base, poison, friendly = arrays[:3]
    perturbation, largest_change = _magnitude(poison - base)
    magnitude, largest_noise = _magnitude(friendly)
    rows = [
        ("Base image", base / 255),
        ("Poisoned image", poison / 255),
        (f"Poison perturbation\nbrightest: {largest_change:.3g} levels", perturbation),
        (f"Friendly noise\nbrightest: {largest_noise:.3g} levels", magnitude),
        ("Poison\n+ friendly noise", (poison + friendly) / 255),
    ]
    rows += [("Test image\nwith trigger", targets / 255) for targets in arrays[3:]]
    return picture_rows([(label, images.clip(0, 1)) for label, images in rows])[0]


def examples_caption(
    bases: NDArray[Any], poisons: NDArray[Any], noise: NDArray[Any], total: int, triggered: bool = False
) -> str:
    """The caption of ``examples``, with the sizes of the poisons' changes and of the friendly noise.

    Args:
        bases, poisons, noise: as drawn, (E, C, H, W) in levels.
        total: number of poisons in the set, of which E are drawn.
        triggered: whether test images with a trigger are drawn below.
    """
    change = np.abs(np.asarray(poisons, dtype=np.float64) - bases)
    friendly = np.abs(np.asarray(noise, dtype=np.float64))
    below = "; below, test images with the trigger, which share only the column" if triggered else ""
    return (
        f"After figure 1 of FRIENDS: {len(change)} of the {total} poisons of one run of the attack, one per column. "
        "From above: base image, poisoned image, the change between the two, the friendly noise, and the poisoned "
        f"image with that noise, which the defended victim is trained on{below}. Changes are shown by magnitude per "
        "channel, each row up to its own largest. In what is shown, the poison changes a pixel value by at most "
        f"{number(change.max())} levels (1/255), {number(change.mean())} on average; friendly noise by at most "
        f"{number(friendly.max())} levels, {number(friendly.mean())} on average (mean absolute values)."
    )


def _magnitude(change: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """``change`` by magnitude as a share of the largest, and the largest."""
    size = np.abs(change)
    largest = float(size.max())
    return (size / largest if largest > 0 else size), largest
