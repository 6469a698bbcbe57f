"""Poisons of whole training sets as one ``.npz`` file, which any program with NumPy reads; ``tensors`` imports it.

===========  =================================================================================================
kind         arrays
===========  =================================================================================================
images       ``images`` (P, C, H, W) uint8, ``labels`` (P,) int64, ``indices`` (P,) int64: the training row that
             each replaces, or -1 if it is appended
changes      ``perturbations`` (P, C, H, W) int16, levels to add to the training rows, ``labels`` and ``indices``;
             for class-wise noise on the whole training set only ``perturbations`` (K, C, H, W), one for each class
===========  =================================================================================================

Neither holds targets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.errors import DataError
from poisonlab.files import atomic_path
from poisonlab.interchange.new_folder import check_channels, check_replacements
from poisonlab.interchange.parts import to_levels

SUFFIX = ".npz"


def write_npz(path: Path, poisons: PoisonSet) -> None:
    """Write images, labels and rows; float images are rounded to the nearest level.

    Raises:
        DataError: the path does not end in ``.npz``, or the format cannot hold these poisons: they have targets, or are
            neither grey nor RGB.
        PoisonlabError: the file cannot be written.
    """
    check_channels(poisons, path)
    _write(path, poisons, {"images": to_levels(poisons.images), "labels": poisons.labels, "indices": poisons.indices})


def write_changes(path: Path, poisons: PoisonSet) -> None:
    """Write the change of each pixel, in levels: one change for each class if these suffice, else one for each image.

    Changes of classes suffice for class-wise noise (``diagnostics["class_noise"]``) on a whole training set. Poisons of
    a part of the set need their rows, which are written with changes of images only.

    Raises:
        DataError: the path does not end in ``.npz``, or the format cannot hold these poisons: they have targets, are
            appended, or are neither grey nor RGB.
        PoisonlabError: the file cannot be written.
    """
    check_replacements(poisons, path)
    noise = poisons.diagnostics.get("class_noise")
    if noise is not None and torch.equal(poisons.indices, torch.arange(len(poisons.indices))):
        _write(path, poisons, {"perturbations": noise})
        return
    changes = to_levels(poisons.images).to(torch.int16) - poisons.base_images
    _write(path, poisons, {"perturbations": changes, "labels": poisons.labels, "indices": poisons.indices})


def _write(path: Path, poisons: PoisonSet, arrays: dict[str, Tensor]) -> None:
    if poisons.goal is not None:
        raise DataError(f"{path}: this format holds no targets, and there are some: export PNGs or tensors (.pth)")
    if path.suffix != SUFFIX:
        raise DataError(f"{path} must end in {SUFFIX}, by which readers know it: choose another name")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{name: tensor.cpu().numpy() for name, tensor in arrays.items()})
