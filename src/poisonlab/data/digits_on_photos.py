"""digits-on-photos: a small real-image dataset that ships with scikit-learn.

Handwritten digits (``load_digits``: 1,797 scans of 8x8 pixels) are scaled, rotated and shifted, and blended by absolute
difference onto patches of two photographs (``china.jpg`` and ``flower.jpg``). The ``contrast`` of the blend sets the
difficulty: at 1 the digit is plain to see, near 0 it drowns in the photograph. Train and test use disjoint scans and
disjoint tiles of both photographs, dealt like the fields of a chessboard: the splits share no pixel, and their channels
agree within a few levels in mean and standard deviation. The same seed and sizes give the same bytes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor

from poisonlab.config.data.digits_on_photos import DigitsOnPhotos as Settings
from poisonlab.data.dataset import ImageDataset, channel_statistics

_TEST_FRACTION = 0.3
_CHUNK = 1000

_FINE, _COARSE = (4, 6), (2, 4)
"""Rows and columns of tiles in a photograph. Among the chessboards tried, these two have the most equal splits."""

_LARGEST_ON_FINE = 64
"""Largest patch drawn from the fine tiles of 106 pixels; a larger one would have too few places there."""


def load(settings: Settings) -> ImageDataset:
    """Draw the dataset that ``settings`` describes; images are (N, 3, size, size) uint8, ten classes."""
    digits = load_digits()
    scans = torch.from_numpy(digits.images / 16.0).float()
    labels = torch.from_numpy(digits.target).long()
    order = np.random.default_rng([settings.seed, 0]).permutation(len(scans))
    cut = int(len(order) * _TEST_FRACTION)
    photos = load_sample_images().images
    splits = []
    for part, (rows, size) in enumerate(((order[cut:], settings.train_size), (order[:cut], settings.test_size))):
        rng = np.random.default_rng([settings.seed, 1, part])
        tiles = [tile for photo in photos for tile in _tiles_of(photo, part, settings.size)]
        splits.append(_draw_split(scans[rows], labels[rows], tiles, size, settings, rng))
    (train_images, train_labels), (test_images, test_labels) = splits
    mean, std = channel_statistics(train_images)
    return ImageDataset(
        train_images,
        train_labels,
        test_images,
        test_labels,
        class_names=tuple(str(name) for name in digits.target_names),
        mean=mean,
        std=std,
    )


def _tiles_of(photo: NDArray[np.uint8], part: int, size: int) -> list[NDArray[np.uint8]]:
    """The training (``part`` 0) or test tiles (1) of a photograph cut like a chessboard, for patches of ``size``."""
    rows, columns = _FINE if size <= _LARGEST_ON_FINE else _COARSE
    bands = np.array_split(photo, rows, axis=0)
    board = [np.array_split(band, columns, axis=1) for band in bands]
    return [board[row][column] for row in range(rows) for column in range(columns) if (row + column) % 2 == part]


def _draw_split(
    scans: Tensor,
    labels: Tensor,
    tiles: list[NDArray[np.uint8]],
    size: int,
    settings: Settings,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw ``size`` images with balanced classes, in random class order."""
    wanted = rng.permutation(np.arange(size) % 10)
    rows = np.empty(size, dtype=np.int64)
    for digit in range(10):
        pool = np.flatnonzero(labels.numpy() == digit)
        places = np.flatnonzero(wanted == digit)
        rows[places] = pool[rng.integers(len(pool), size=len(places))]
    images = torch.empty(size, 3, settings.size, settings.size, dtype=torch.uint8)
    for start in range(0, size, _CHUNK):
        chunk = slice(start, min(start + _CHUNK, size))
        count = chunk.stop - chunk.start
        strokes = _place_digits(scans[rows[chunk]], settings.size, rng)
        background = _photo_patches(tiles, count, settings.size, rng)
        blended = (background - settings.contrast * strokes[:, None]).abs()
        images[chunk] = (blended.clamp(0, 1) * 255).round().byte()
    return images, torch.from_numpy(wanted.astype(np.int64))


def _place_digits(scans: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """Scale, rotate and shift (n, 8, 8) scans onto (n, size, size) canvases; values in [0, 1]."""
    n = len(scans)
    angle = torch.from_numpy(rng.uniform(-0.25, 0.25, n)).float()
    scale = torch.from_numpy(rng.uniform(0.60, 0.95, n)).float()
    room = 0.25
    shift = torch.from_numpy(rng.uniform(-room, room, (n, 2))).float()
    cos, sin = angle.cos() / scale, angle.sin() / scale
    rotation = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    offset = -(rotation @ shift[:, :, None])
    theta = torch.cat([rotation, offset], dim=2)
    grid = F.affine_grid(theta, [n, 1, size, size], align_corners=False)
    return F.grid_sample(scans[:, None], grid, mode="bilinear", align_corners=False)[:, 0]


def _photo_patches(tiles: list[NDArray[np.uint8]], n: int, size: int, rng: np.random.Generator) -> Tensor:
    """``n`` random patches, equally many per tile, half mirrored, as (n, 3, size, size) float in [0, 1]."""
    which = rng.permutation(np.arange(n) % len(tiles))
    place = rng.random((n, 2))
    mirrored = rng.random(n) < 0.5
    patches = np.empty((n, 3, size, size), dtype=np.uint8)
    for row in range(n):
        tile = tiles[which[row]]
        top = int(place[row, 0] * (tile.shape[0] - size + 1))
        left = int(place[row, 1] * (tile.shape[1] - size + 1))
        patch = tile[top : top + size, left : left + size]
        patches[row] = (patch[:, ::-1] if mirrored[row] else patch).transpose(2, 0, 1)
    return torch.from_numpy(patches).float() / 255
