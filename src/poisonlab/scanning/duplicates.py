"""Nearest neighbours of every image over both splits, and the images that occur more than once.

Exact duplicates have equal pixels, found by digest. Near-duplicates are neighbours in feature space whose pixels differ
by a root mean square of up to ``near`` levels. The network proposes pairs, as in Barz and Denzler 2020, "Do We Train on
Test Data? Purging CIFAR of Near-Duplicates", and the pixels decide. One image of a pair must be among the other's
nearest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from poisonlab.artifacts.tensors import read_tensors, write_tensors
from poisonlab.errors import DataError
from poisonlab.filters.neighbours import Neighbours
from poisonlab.scanning.scores import COLUMNS, rows_at_once

KIND = "neighbourhood"
_COPIES = 4
"""Batches of images, as float32, that a comparison of pixels holds at once."""


@dataclass(frozen=True)
class Neighbourhood:
    """Neighbours and duplicates. Images are numbered through both splits: training rows first, then test rows.

    Attributes:
        nearest: (A, k) int64: each image's nearest others in feature space, the nearest first; ties by number.
        distances: (A, k) float32, Euclidean.
        pairs: (P, 2) int64: duplicates. If several images are equal, each is paired with the first.
        differences: (P,) float32: root mean square of the pixels' differences, in levels; 0 for exact duplicates.
    """

    nearest: Tensor
    distances: Tensor
    pairs: Tensor
    differences: Tensor

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        names = ("nearest", "distances", "pairs", "differences")
        write_tensors(path, KIND, {name: getattr(self, name) for name in names}, {})

    @classmethod
    def load(cls, path: Path) -> Neighbourhood:
        """Read what ``save`` wrote.

        Raises:
            DataError: the file is missing, damaged, or of another kind.
        """
        tensors, _ = read_tensors(path, KIND)
        try:
            return cls(**tensors)
        except TypeError as error:
            raise DataError(f"{path} lacks parts of a neighbourhood: delete it and run the workflow again") from error


@torch.no_grad()
def neighbourhood(features: Tensor, images: Tensor, *, k: int, near: float, memory: int = 2**29) -> Neighbourhood:
    """Find neighbours and duplicates.

    Args:
        features: (A, D) floating, of all images.
        images: (A, C, H, W) uint8.
        k: neighbours of each; A - 1 if there are fewer images.
        near: root mean square difference up to which images are near-duplicates, in levels of 1/255.
        memory: bytes that distances, or the pixels that are compared, may take.
    """
    nearest, distances = _nearest(features, min(k, len(features) - 1), memory)
    exact = _exact(images)
    close, differences = _close(images, nearest, near, memory)
    return Neighbourhood(
        nearest.cpu(), distances.cpu(), torch.cat([exact, close]), torch.cat([torch.zeros(len(exact)), differences])
    )


def _nearest(features: Tensor, k: int, memory: int) -> tuple[Tensor, Tensor]:
    search = Neighbours(features, columns=COLUMNS)
    found, away = [], []
    everyone = torch.arange(len(features), device=features.device)
    for rows in torch.split(everyone, rows_at_once(memory, len(features))):
        candidates, chosen = search.of(rows, k)
        others = candidates[chosen].view(len(rows), k).sort(dim=1).values
        # Computed from differences in float64, as the search does to decide ties.
        parts = [
            (features[row, None].double() - features[other].double()).square().sum(2).sqrt()
            for row, other in zip(torch.split(rows, 256), torch.split(others, 256), strict=True)
        ]
        distances, order = torch.cat(parts).sort(dim=1, stable=True)
        found.append(others.gather(1, order))
        away.append(distances.float())
    return torch.cat(found), torch.cat(away)


def _exact(images: Tensor) -> Tensor:
    """(P, 2) int64: each image with the pixels of an earlier one, after the first image with these pixels."""
    first: dict[bytes, int] = {}
    pairs = []
    for number, image in enumerate(images.numpy()):
        digest = hashlib.sha256(image.tobytes()).digest()
        if first.setdefault(digest, number) != number:
            pairs.append((first[digest], number))
    return torch.tensor(pairs, dtype=torch.int64).view(-1, 2)


def _close(images: Tensor, nearest: Tensor, near: float, memory: int) -> tuple[Tensor, Tensor]:
    """Pairs (P, 2) int64 of neighbours that differ by at most ``near``, but not 0; the lower number first."""
    one = torch.arange(len(nearest)).repeat_interleave(nearest.shape[1])
    pairs = torch.unique(torch.stack([one, nearest.cpu().flatten()], 1).sort(dim=1).values, dim=0)
    at_once = max(1, memory // (4 * _COPIES * images[0].numel()))
    parts = [
        (images[pair[:, 0]].float() - images[pair[:, 1]].float()).square().flatten(1).mean(1).sqrt()
        for pair in torch.split(pairs, at_once)
    ]
    differences = torch.cat(parts) if parts else torch.zeros(0)
    kept = (differences > 0) & (differences <= near)
    return pairs[kept], differences[kept]
