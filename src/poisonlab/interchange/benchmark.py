"""The public poisoning benchmark's folders of pickles, which FRIENDS, EPIC and Sleeper Agent also read or write.

=======================  ============================================================================================
``poisons.pickle``       list of (PIL RGB image, label)
``base_indices.pickle``  training row of each poison, in the same order: array, list or tensor
``target.pickle``        (PIL image, label), or (PIL image, label, patch, [startx, starty]) for a backdoor
``source.pickle``        list of (patched PIL image, label), or one such pair: a backdoor's test images
``unpatched.pickle``     list of (PIL image, label): the same images without the patch; only poisonlab writes it
=======================  ============================================================================================

A patch covers the columns from startx and the rows from starty.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.errors import DataError
from poisonlab.interchange import parts
from poisonlab.interchange.allowed_pickle import RgbImage, load
from poisonlab.interchange.imported_poisons import ImportedPoisons
from poisonlab.interchange.new_folder import check_replacements, new_folder

POISONS = "poisons.pickle"
INDICES = "base_indices.pickle"
TARGET = "target.pickle"
SOURCE = "source.pickle"
UNPATCHED = "unpatched.pickle"
_PROTOCOL = 4


@dataclass(frozen=True)
class _Targets:
    """Targets as evaluated, (T, 3, H, W) uint8, their labels (T,) int64, and the targets without a patch."""

    images: Tensor
    labels: Tensor
    unpatched: Tensor | None = None


def read_benchmark(folder: Path) -> ImportedPoisons:
    """Read a folder of the benchmark; no code in its pickles is run.

    Targets come from ``source.pickle`` if it exists, else from ``target.pickle``; without both, there are no targets.
    If ``target.pickle`` holds a patch, it is put on the target, truncated to whole levels as the benchmark does.

    Returns:
        uint8 poisons with labels and indices, without an adversarial label: see ``imported.complete``.

    Raises:
        DataError: a file is missing, damaged, hostile, or its content contradicts the rest.
    """
    images, labels = parts.pairs(load(folder / POISONS), _pair, str(folder / POISONS))
    targets = _read_targets(folder)
    return ImportedPoisons(
        images=images,
        labels=labels,
        indices=parts.indices(load(folder / INDICES), str(folder / INDICES)),
        targets=targets.images if targets else None,
        target_labels=targets.labels if targets else None,
        unpatched_targets=targets.unpatched if targets else None,
        source=str(folder),
    )


def _read_targets(folder: Path) -> _Targets | None:
    if (folder / SOURCE).exists():
        found = load(folder / SOURCE)
        targets = _Targets(*parts.pairs([found] if isinstance(found, tuple) else found, _pair, str(folder / SOURCE)))
    elif (folder / TARGET).exists():
        targets = _target(load(folder / TARGET), str(folder / TARGET))
    else:
        return None
    if (folder / UNPATCHED).exists():
        where = str(folder / UNPATCHED)
        unpatched, labels = parts.pairs(load(folder / UNPATCHED), _pair, where)
        if not torch.equal(labels, targets.labels):
            raise DataError(
                f"{where} has other labels than the targets: it must hold the same images in the same order"
            )
        return _Targets(targets.images, targets.labels, unpatched)
    return targets


def _pair(entry: Any, where: str) -> tuple[Tensor, int]:
    if not isinstance(entry, list | tuple) or len(entry) != 2 or not isinstance(entry[0], RgbImage):
        raise DataError(f"{where} is not a pair of PIL image and label: save a list of (image, label)")
    return entry[0].pixels, parts.label(entry[1], f"{where}: label")


def _target(entry: Any, where: str) -> _Targets:
    if not isinstance(entry, list | tuple) or len(entry) not in (2, 4):
        raise DataError(f"{where} is neither (image, label) nor (image, label, patch, [startx, starty])")
    image, found = _pair(tuple(entry[:2]), where)
    labels = torch.tensor([found])
    if len(entry) == 2:
        return _Targets(image[None], labels)
    return _Targets(_patched(image, entry[2], entry[3], where)[None], labels, image[None])


def _patched(image: Tensor, patch: Any, start: Any, where: str) -> Tensor:
    """``image`` (3, H, W) uint8 with ``patch`` on it."""
    levels = _patch_levels(patch, where)
    corner = parts.indices(start, f"{where}: place of the patch").tolist()
    if len(corner) != 2:
        raise DataError(f"{where}: the place of the patch is not [startx, starty]")
    column, row = corner
    _, height, width = levels.shape
    if min(row, column) < 0 or row + height > image.shape[1] or column + width > image.shape[2]:
        raise DataError(
            f"{where}: a patch of {width}x{height} pixels at column {column}, row {row} does not fit on an image of "
            f"{image.shape[2]}x{image.shape[1]}"
        )
    patched = image.clone()
    patched[:, row : row + height, column : column + width] = levels
    return patched


def _patch_levels(patch: Any, where: str) -> Tensor:
    """A patch of floats in [0, 1] as (3, p, p) uint8."""
    found = torch.from_numpy(patch) if isinstance(patch, np.ndarray) else patch
    if not isinstance(found, Tensor) or not found.is_floating_point() or found.ndim != 3 or found.shape[0] != 3:
        raise DataError(f"{where}: the patch is not a (3, p, p) tensor of floats in [0, 1]")
    # Written so that a NaN fails as well.
    if found.numel() == 0 or not (float(found.min()) >= 0 and float(found.max()) <= 1):
        raise DataError(f"{where}: the patch is empty or leaves [0, 1]: save it before normalising")
    # Truncated in float32, as ToTensor and ToPILImage do in the benchmark.
    return (found.float() * 255).to(torch.uint8)


def write_benchmark(folder: Path, poisons: PoisonSet) -> None:
    """Write ``poisons`` as a new folder that the programs of the benchmark, FRIENDS and EPIC read.

    Always written: ``poisons.pickle``, ``base_indices.pickle`` and ``target.pickle`` (the first target). With
    several targets also ``source.pickle`` with all of them, which FRIENDS and EPIC read with ``--backdoor``. Triggers
    are already on the targets, so no patch is written beside them. Indices are a list of plain integers, because an
    array pickled by numpy 2 cannot be read by the numpy 1 those programs need. Floats are rounded to whole levels, and
    grey images are written as RGB, which those programs expect. A backdoor's targets without the trigger are in
    ``unpatched.pickle``, which those programs ignore.

    Raises:
        DataError: the folder is not empty, or the format cannot hold these poisons: they are appended, have no goal, or
            the first poison's label is not the adversarial one, which readers take from it.
        PoisonlabError: the folder cannot be written.
    """
    check_replacements(poisons, folder)
    if (goal := poisons.goal) is None:
        raise DataError(f"{folder}: this format needs a target, and there is none: export PNGs or tensors (.pth)")
    if bool((goal.adversarial_labels != poisons.labels[0]).any()):
        raise DataError(
            f"{folder}: readers of this format take the first poison's label {int(poisons.labels[0])} for the "
            f"adversarial one, which is {parts.plain_labels(goal.adversarial_labels)}: export PNGs or tensors (.pth)"
        )
    targets = _entries(goal.targets, goal.target_labels)
    with new_folder(folder) as temporary:
        _dump(temporary / POISONS, _entries(poisons.images, poisons.labels))
        _dump(temporary / INDICES, poisons.indices.tolist())
        _dump(temporary / TARGET, targets[0])
        if len(targets) > 1:
            _dump(temporary / SOURCE, targets)
        if goal.untriggered is not None:
            _dump(temporary / UNPATCHED, _entries(goal.untriggered, goal.target_labels))


def _entries(images: Tensor, labels: Tensor) -> list[tuple[Image.Image, int]]:
    levels = parts.to_levels(images).expand(-1, 3, -1, -1)
    return [(parts.pil_image(image), found) for image, found in zip(levels, labels.tolist(), strict=True)]


def _dump(path: Path, value: int | Sequence[Any]) -> None:
    with path.open("wb") as file:
        pickle.dump(value, file, protocol=_PROTOCOL)
