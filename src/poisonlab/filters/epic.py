"""EPIC: drop the examples of small clusters in gradient space.

Yang, Liu, Mirzasoleiman 2022, "Not All Poisons are Created Equal: Robust Training against Data Poisoning", section 4
and algorithm 1. Every class is covered by medoids, chosen greedily to maximise the facility location function
sum_i max_m s_im over the gradients of the last layer. As released, s_ij = exp(-|g_i - g_j| / D_g), where a gradient has
D_g numbers. Every example joins its most similar medoid, and small clusters are dropped whole, as released. By default
these are clusters that consist only of their medoid. A medoid that equals an earlier one joins the earlier one's
cluster; its own cluster is empty and drops nothing.

Similarities are rounded to multiples of 2^-24, as float32 does on [0.5, 1]. Sums and differences of such numbers are
exact in float64, so the gains can be updated without drift. A new medoid changes them only through the examples that it
covers better than all earlier ones. The result is the plain greedy choice at a small part of its cost, independent of
chunks and of the order of summation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from poisonlab.errors import SettingsError
from poisonlab.filters.per_class import check_examples, check_fraction, class_rows, share_to_drop
from poisonlab.filters.verdict import Verdict

_UNIT = 2.0**24


@dataclass(frozen=True)
class Cover:
    """Medoids of one set of examples.

    Attributes:
        medoids: (M,) int64 rows, in the order of choice.
        owner: (n,) int64, the place in ``medoids`` of each example's most similar medoid, the first chosen among
            equals; -1 if no similarity reaches 2^-25 (impossible for gradient proxies).
    """

    medoids: Tensor
    owner: Tensor

    @property
    def sizes(self) -> Tensor:
        """(M,) int64, the number of examples in each medoid's cluster, itself included."""
        return torch.bincount(self.owner[self.owner >= 0], minlength=len(self.medoids))


@torch.no_grad()
def gradient_proxies(logits: Tensor, labels: Tensor) -> Tensor:
    """Gradients of the cross-entropy with respect to the logits, softmax(z) - onehot(y): (N, K), from logits (N, K) and
    labels (N,).

    The release computes the logits in eval mode, without augmentation and, for attacks without a trigger, without the
    last layer's bias.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return F.softmax(wide, dim=1) - F.one_hot(labels, logits.shape[1]).to(wide)


@torch.no_grad()
def epic(gradients: Tensor, labels: Tensor, *, fraction: float = 0.1, alone: int = 1, cache: int = 2**28) -> Verdict:
    """Filter out small clusters.

    Args:
        gradients: (N, D_g) floating, see ``gradient_proxies``.
        labels: (N,) int64.
        fraction: medoids per example, over all classes; see ``quotas``.
        alone: drop all members of clusters with at most this many, medoids included. An example without a similar
            medoid is dropped, too; a class without medoids is kept whole.
        cache: if the similarities of a class (4 n^2 bytes) need at most this many bytes, they are kept in memory;
            otherwise they are computed as needed.

    Returns:
        keep (N,) bool; no score.

    Raises:
        DataError: gradients and labels do not fit.
        SettingsError: ``fraction`` is not in [0, 1), or makes no medoid.
    """
    check_examples(gradients, labels)
    # Refuse a fraction that makes no medoid at all.
    share_to_drop(fraction, len(labels))
    return Verdict(cluster_sizes(gradients, labels, fraction, cache) > alone)


def cluster_sizes(gradients: Tensor, labels: Tensor, fraction: float, cache: int) -> Tensor:
    """(N,) float64: the number of examples in each example's cluster; 0 without a similar medoid, inf in a class
    without medoids. Arguments as of ``epic``."""
    classes = class_rows(labels)
    found = torch.full((len(labels),), math.inf, dtype=torch.float64, device=labels.device)
    counts = quotas([len(rows) for _, rows in classes], fraction)
    for (_, rows), count in zip(classes, counts, strict=True):
        if count > 0:
            cover = facility_location(gradients[rows], count, cache=cache)
            # Owner -1, without a similar medoid, is the last entry.
            sizes = torch.cat([cover.sizes, cover.sizes.new_zeros(1)])
            found[rows] = sizes[cover.owner].double()
    return found


def quotas(sizes: list[int], fraction: float) -> list[int]:
    """The number of medoids of each class: int(fraction * N) in total, in proportion to ``sizes``.

    Left-over medoids go to the classes with the largest remainders, the first classes among equals (the release draws
    at random).

    Raises:
        SettingsError: ``fraction`` is not in [0, 1).
    """
    check_fraction(fraction)
    total = sum(sizes)
    medoids = int(fraction * total + 1e-9)
    counts = [medoids * size // total for size in sizes]
    remainders = [medoids * size % total for size in sizes]
    for place in sorted(range(len(sizes)), key=lambda place: -remainders[place])[: medoids - sum(counts)]:
        counts[place] += 1
    return counts


@torch.no_grad()
def facility_location(points: Tensor, count: int, *, cache: int = 2**28) -> Cover:
    """Choose ``count`` medoids of ``points`` (n, D) greedily; among equal gains, the lowest row is chosen.

    Args:
        points: (n, D) floating.
        count: medoids, up to n.
        cache: see ``epic``.

    Raises:
        SettingsError: ``count`` is not in [0, n].
    """
    n = len(points)
    if not 0 <= count <= n:
        raise SettingsError(f"{count} medoids of {n} examples: choose from 0 to {n}")
    similarity = _Similarity(points, cache)
    best = torch.zeros(n, dtype=torch.float32, device=points.device)
    owner = torch.full((n,), -1, device=points.device)
    medoids = torch.empty(count, dtype=torch.int64, device=points.device)
    gains = similarity.clamped_sums(torch.arange(n, device=points.device), best, best + 1)
    for place in range(count):
        # argmax returns the first among equal gains.
        medoid = gains.argmax()
        row = similarity.rows(medoid[None])[0]
        better = (row > best).nonzero()[:, 0]
        gains -= similarity.clamped_sums(better, best[better], row[better])
        gains[medoid] = -math.inf
        medoids[place], owner[better], best[better] = medoid, place, row[better]
    return Cover(medoids, owner)


class _Similarity:
    """The symmetric (n, n) similarities of points, kept in memory if they fit, otherwise computed row by row."""

    def __init__(self, points: Tensor, cache: int) -> None:
        self.points = points.double()
        n = len(points)
        # Rows at a time: 16 MiB of float64.
        self.chunk = max(1, 2**21 // max(n, 1))
        self.held: Tensor | None = None
        if 4 * n * n <= cache:
            held = torch.empty(n, n, dtype=torch.float32, device=points.device)
            for part in torch.split(torch.arange(n, device=points.device), self.chunk):
                held[part] = self.rows(part)
            self.held = held

    def rows(self, index: Tensor) -> Tensor:
        """(m, n) float32 similarities of the points ``index`` (m,) to all points; multiples of 2^-24."""
        if self.held is not None:
            return self.held[index]
        # By differences, not by a matrix product, so that a pair's distance is independent of its block and order.
        distances = torch.cdist(self.points[index], self.points, compute_mode="donot_use_mm_for_euclid_dist")
        similar = distances.div_(-self.points.shape[1]).exp_()
        return similar.mul_(_UNIT).round_().div_(_UNIT).float()

    def clamped_sums(self, index: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """(n,) float64: for every point j, the sum over i in ``index`` of clamp(s_ij, low_i, high_i) - low_i."""
        total = torch.zeros(len(self.points), dtype=torch.float64, device=index.device)
        for start in range(0, len(index), self.chunk):
            part = slice(start, start + self.chunk)
            clamped = self.rows(index[part]).clamp_(low[part, None], high[part, None])
            total += clamped.sum(0, dtype=torch.float64)
        return total - low.sum(dtype=torch.float64)
