"""Time and memory of the filters, against the straightforward way of doing the same.

At the size of CIFAR-10, Deep k-NN row by row takes too long; there its straightforward way is one matrix of all
distances, of 10 GB. The last column is the number of decisions in which the two ways differ. At the size of CIFAR-10 it
is their share, because rounded distances change decisions.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import reference_filters
import torch
from contest import Contest, Contests
from torch import Tensor

from poisonlab.filters.deep_knn import deep_knn
from poisonlab.filters.epic import facility_location, gradient_proxies
from poisonlab.filters.spectral_signatures import spectral_signatures
from poisonlab.randomness import generator

CLASSES = 10


def differing(reference: object, ours: object) -> float:
    return int((cast(Tensor, reference) != cast(Tensor, ours)).sum())


def labelled_features(examples: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Features as wide as ResNet-18's, rectified like them, and their labels, of which 1 % are wrong."""
    stream = generator("cpu", 0, "benchmark", "features")
    truth = torch.randint(CLASSES, (examples,), generator=stream)
    features = torch.randn(examples, 512, generator=stream)
    features += 2 * torch.randn(CLASSES, 512, generator=stream)[truth]
    wrong = torch.rand(examples, generator=stream) < 0.01
    return features.clamp_(min=0).to(device), torch.where(wrong, (truth + 1) % CLASSES, truth).to(device)


def neighbours(examples: int, k: int, device: torch.device) -> Contest:
    """Deep k-NN, against one row at a time."""
    features, labels = labelled_features(examples, device)
    return Contest(
        reference=lambda: reference_filters.deep_knn(features, labels, k),
        ours=lambda: deep_knn(features, labels, k=k).keep.cpu(),
        difference=differing,
        unit="filter",
        reference_on_cpu=True,
    )


def neighbours_at_once(examples: int, k: int, device: torch.device) -> Contest:
    """Deep k-NN, against all distances at once."""
    features, labels = labelled_features(examples, device)
    return Contest(
        reference=lambda: reference_filters.deep_knn_at_once(features, labels, k).cpu(),
        ours=lambda: deep_knn(features, labels, k=k).keep.cpu(),
        difference=lambda reference, ours: differing(reference, ours) / examples,
        unit="filter",
    )


def directions(examples: int, device: torch.device) -> Contest:
    """Spectral signatures, as if 1 % of every class were poisons."""
    features, labels = labelled_features(examples, device)
    expected = examples / CLASSES / 100
    return Contest(
        reference=lambda: reference_filters.spectral_signatures(features, labels, expected),
        ours=lambda: spectral_signatures(features, labels, expected=expected).keep.cpu(),
        difference=differing,
        unit="filter",
        reference_on_cpu=True,
    )


def medoids(examples: int, count: int, device: torch.device) -> Contest:
    """EPIC's choice of medoids in one class."""
    stream = generator("cpu", 0, "benchmark", "logits")
    logits = 2 * torch.randn(examples, CLASSES, generator=stream)
    logits[:, 0] += 5
    points = gradient_proxies(logits, torch.zeros(examples, dtype=torch.int64))
    there = points.to(device)
    return Contest(
        reference=lambda: reference_filters.facility_location(points, count),
        ours=lambda: facility_location(there, count).medoids.cpu(),
        difference=differing,
        unit="selection",
        reference_on_cpu=True,
    )


CONTESTS: Contests = {
    "small": {
        "Deep k-NN, 2000 x 512, k = 40": partial(neighbours, 2000, 40),
        "spectral signatures, 20,000 x 512": partial(directions, 20_000),
        "EPIC, 200 medoids of 2000": partial(medoids, 2000, 200),
    },
    "gpu": {
        "Deep k-NN, 50,000 x 512, k = 1000, against all distances at once": partial(neighbours_at_once, 50_000, 1000),
        "Deep k-NN, 2000 x 512, k = 40": partial(neighbours, 2000, 40),
        "spectral signatures, 20,000 x 512": partial(directions, 20_000),
        "EPIC, 200 medoids of 2000": partial(medoids, 2000, 200),
    },
    "tiny": {
        "Deep k-NN, 200 x 512, k = 4": partial(neighbours, 200, 4),
        "Deep k-NN, 200 x 512, k = 4, against all distances at once": partial(neighbours_at_once, 200, 4),
        "spectral signatures, 1000 x 512": partial(directions, 1000),
        "EPIC, 20 medoids of 200": partial(medoids, 200, 20),
    },
}
