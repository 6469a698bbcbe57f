"""Finds the training rows of the positions of poisons, and reads photos as targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from poisonlab.data.dataset import ImageDataset
from poisonlab.data.decoding import decode
from poisonlab.errors import DataError
from poisonlab.interchange import parts
from poisonlab.interchange.file_content import SUFFIXES, read_content


def read_rows(path: Path) -> Tensor:
    """Training rows (R,) int64 from a file with one list or array of integers.

    Raises:
        DataError: the file is missing, damaged, hostile, or holds anything else.
    """
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} is no file of rows that is read: save them as .npy, .pth or .pickle")
    return parts.indices(read_content(path), str(path))


def last_per_class(labels: Tensor, count: int, moved: int = 0) -> Tensor:
    """The rows of the last ``count`` images of each class, ascending.

    This is the subset "others" in the releases of convex polytope and Bullseye Polytope. Their positions count these
    rows in the order of the training set.

    Args:
        labels: (N,) int64.
        count: images of each class.
        moved: how many of the first of these images were moved to the end of their class (see ``data.set_apart``). The
            result has the new row of each image at its old place.

    Raises:
        DataError: a class has fewer than ``count`` images.
    """
    rows = []
    for label in range(int(labels.max()) + 1):
        own = torch.nonzero(labels == label).flatten()
        if len(own) < count:
            raise DataError(f"rows: class {label} has {len(own)} images, so there are no last {count} of it")
        rows.append(own[-count:])
    found = torch.cat(rows).sort().values
    for own in rows:
        found[torch.isin(found, own)] = own.roll(moved)
    return found


def read_photos(files: Sequence[Path], dataset: ImageDataset) -> Tensor:
    """Image files as targets for a dataset: resized to the size of its images, and grey if these are.

    Returns:
        (T, C, H, W) uint8.

    Raises:
        DataError: a file is missing or no image.
    """
    channels, height, width = dataset.image_shape
    photos = []
    for file in files:
        image = Image.fromarray(decode(file, str(file)).transpose(1, 2, 0))
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.array(image if channels == 3 else image.convert("L")).reshape(height, width, -1)
        photos.append(torch.from_numpy(pixels.transpose(2, 0, 1).copy()))
    return torch.stack(photos)
