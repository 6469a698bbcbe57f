"""The filters written straightforwardly, as in their public releases: the lab is timed against them.

Written from a description of the releases, not from their code.
"""

from __future__ import annotations

import torch
from torch import Tensor


def deep_knn(features: Tensor, labels: Tensor, k: int) -> Tensor:
    """The released k-NN filter: a full matrix of distances, one stacked row after another, then a vote loop; (N,) bool.

    Features and matrix are on the CPU, whatever the features' device.
    """
    features, labels = features.cpu(), labels.cpu()
    n = len(features)
    distances = torch.empty(n, n)
    for row in range(n):
        distances[row] = (torch.stack([features[row]] * n) - features).norm(dim=1)
        distances[row, row] = float("inf")
    keep = []
    for row in range(n):
        nearest = distances[row].argsort()[:k]
        votes = 0
        for neighbour in nearest:
            votes += 1 if labels[neighbour] == labels[row] else -1
        keep.append(votes >= 0)
    return torch.tensor(keep)


def deep_knn_at_once(features: Tensor, labels: Tensor, k: int) -> Tensor:
    """The same by one matrix of all distances and one choice of the nearest, on the features' device; (N,) bool."""
    distances = torch.cdist(features, features).fill_diagonal_(float("inf"))
    nearest = distances.topk(k, dim=1, largest=False, sorted=False).indices
    return 2 * (labels[nearest] == labels[:, None]).sum(1) >= k


def spectral_signatures(features: Tensor, labels: Tensor, expected: float) -> Tensor:
    """Class by class: the centred features' whole decomposition, squared projections on the first direction, and the
    highest 1.5 * ``expected`` dropped; (N,) bool. On the CPU, in the features' precision.
    """
    features, labels = features.cpu(), labels.cpu()
    keep = torch.ones(len(labels), dtype=torch.bool)
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        centred = features[rows] - features[rows].mean(0)
        _, _, directions = torch.linalg.svd(centred, full_matrices=False)
        scores = (centred @ directions[0]) ** 2
        keep[rows[scores.argsort(descending=True)[: int(1.5 * expected)]]] = False
    return keep


def facility_location(points: Tensor, count: int) -> Tensor:
    """Greedy medoids (count,) int64, lazily evaluated one candidate at a time on the full matrix of similarities."""
    similar = torch.exp(
        -torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist") / points.shape[1]
    )
    best = torch.zeros(len(points), dtype=similar.dtype)
    bounds = similar.sum(0)
    chosen: list[int] = []
    for _ in range(count):
        fresh: set[int] = set()
        while True:
            candidate = int(bounds.argmax())
            if candidate in fresh:
                break
            bounds[candidate] = (similar[candidate] - best).clamp(min=0).sum()
            fresh.add(candidate)
        chosen.append(candidate)
        best = torch.maximum(best, similar[candidate])
        bounds[candidate] = -1
    return torch.tensor(chosen)
