"""svhn: cropped digits in MATLAB files (http://ufldl.stanford.edu/housenumbers, format 2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poisonlab.config.data.svhn import Svhn as Settings
from poisonlab.data.assembly import assemble
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.matlab import read_matlab
from poisonlab.errors import DataError

_CLASSES = tuple(str(digit) for digit in range(10))


def load(settings: Settings) -> ImageDataset:
    """Read both files; images are (N, 3, H, W) uint8. A class is its digit: label 10 stands for the digit 0.

    Raises:
        DataError: a file is missing, damaged or of another kind, X or y is missing or has the wrong shape or type, or a
            limit cannot be met.
    """
    train, test = (Path(file) for file in settings.files)
    return assemble(*_read(train), *_read(test), class_names=_CLASSES, settings=settings, where=settings.root)


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """X (H, W, C, N) uint8 as (N, C, H, W), and y (N, 1) in 1 ... 10 as (N,) in 0 ... 9."""
    content = read_matlab(path, ("X", "y"))
    for name in ("X", "y"):
        if name not in content:
            raise DataError(f"{path} has no array {name} of numbers: download train_32x32.mat and test_32x32.mat")
    images = content["X"]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] not in (1, 3):
        raise DataError(f"{path} array X is not (H, W, 3, N) uint8: download train_32x32.mat and test_32x32.mat")
    return _channels_first(images), _labels(content["y"], path, images.shape[3])


def _channels_first(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(3, 2, 0, 1)))


def _labels(found: NDArray[Any], path: Path, count: int) -> Tensor:
    if found.shape not in ((count, 1), (1, count)) or not bool(np.isin(found, np.arange(11)).all()):
        raise DataError(f"{path} array y is not ({count}, 1) of labels 1 to 10: download it again")
    return torch.from_numpy(found.reshape(-1).astype(np.int64) % 10)
