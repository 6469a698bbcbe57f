"""The exact k nearest neighbours of every example, without an N x N matrix.

Distances by matrix products are fast but rounded, and the rounding depends on the device and on the chunks. Here they
only separate examples that are certainly near or far. With centred features x, y of D numbers and unit roundoff u,
|x|^2 + |y|^2 - 2 x.y in float32 is within (D + 16) u (|x|^2 + |y|^2) of the squared distance, in any order of the sums.
The few undecided examples are measured again, by differences in float64, and exact ties go to the lower row. So the
neighbours depend on neither device nor chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_ROUNDOFF = 2.0**-24
# Far below any relevant distance if the largest norm is about 1; covers underflow.
_TINY = 1e-30
_PAIRS = 8192


class Neighbours:
    """Euclidean neighbours among the rows of ``features``.

    Args:
        features: (N, D) floating, finite.
        columns: number of examples with which one matrix product compares a block of rows; bounds the memory.
        margin: each row has a list of k + ``margin`` candidates. A row with more undecided candidates than places (many
            ties) takes a slow path, one pass over all features.
    """

    def __init__(self, features: Tensor, *, columns: int = 65536, margin: int = 64) -> None:
        self.features = features
        self.columns = columns
        self.margin = margin
        self.points = _centred(features)
        squares = [part.double().square().sum(1) for part in torch.split(self.points, _PAIRS)]
        self.squares = torch.cat(squares).float()
        self.slack = (features.shape[1] + 16) * _ROUNDOFF

    def of(self, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The ``k`` nearest examples of each of ``rows`` (R,) int64, without the row itself; 1 <= k < N.

        Returns:
            candidates (R, M) int64, in no particular order, and chosen (R, M) bool with k True per row.
        """
        with _full_precision(self.points.device):
            lower, candidates = self._candidates(rows, k)
        width = 2 * self.slack * (self.squares[rows][:, None] + self.squares[candidates]) + _TINY
        upper = lower + width
        # The k-th nearest lies between these two; see the module's text.
        lowest, highest = _smallest(lower, k), _smallest(upper, k)
        chosen = upper < lowest
        open_ = ~chosen & (lower <= highest)
        chosen |= self._settled(rows, candidates, open_, k - chosen.sum(1))
        if candidates.shape[1] < len(self.features) - 1:
            for row in (lower.amax(1) <= highest[:, 0]).nonzero()[:, 0].tolist():
                candidates[row, :k] = self._slowly(int(rows[row]), k)
                chosen[row] = torch.arange(candidates.shape[1], device=rows.device) < k
        return candidates, chosen

    def _candidates(self, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Lower bounds (R, M) float32 of squared distances, minus a constant per row, and the rows (R, M) of the
        candidates."""
        n = len(self.features)
        size = min(k + self.margin, n - 1)
        queries = self.points[rows]
        least = torch.empty(len(rows), 0, device=rows.device)
        whose = torch.empty(len(rows), 0, dtype=torch.int64, device=rows.device)
        for start in range(0, n, self.columns):
            end = min(start + self.columns, n)
            bounds = torch.addmm(
                self.squares[start:end] * (1 - self.slack), queries, self.points[start:end].T, alpha=-2.0
            )
            inside = ((rows >= start) & (rows < end)).nonzero()[:, 0]
            bounds[inside, rows[inside] - start] = math.inf
            near, at = bounds.topk(min(size, end - start), dim=1, largest=False, sorted=False)
            least, whose = torch.cat([least, near], 1), torch.cat([whose, at + start], 1)
            if least.shape[1] > size:
                least, at = least.topk(size, dim=1, largest=False, sorted=False)
                whose = whose.gather(1, at)
        return least, whose

    def _settled(self, rows: Tensor, candidates: Tensor, open_: Tensor, needed: Tensor) -> Tensor:
        """(R, M) bool: among the undecided ``open_`` (R, M), each row's ``needed`` (R,) nearest by exact distance."""
        row, place = open_.nonzero(as_tuple=True)
        other = candidates[row, place]
        distances = self._exact(rows[row], other)
        order = torch.sort(other, stable=True).indices
        order = order[torch.sort(distances[order], stable=True).indices]
        order = order[torch.sort(row[order], stable=True).indices]
        counts = open_.sum(1)
        first = counts.cumsum(0) - counts
        rank = torch.arange(len(order), device=rows.device) - first[row[order]]
        taken = order[rank < needed[row[order]]]
        settled = torch.zeros_like(open_)
        settled[row[taken], place[taken]] = True
        return settled

    def _slowly(self, row: int, k: int) -> Tensor:
        others = torch.arange(len(self.features), device=self.features.device)
        others = others[others != row]
        distances = self._exact(torch.full_like(others, row), others)
        return others[torch.sort(distances, stable=True).indices[:k]]

    def _exact(self, first: Tensor, second: Tensor) -> Tensor:
        """Squared distances (P,) float64 of the pairs ``first``, ``second`` (P,) int64."""
        exact = torch.empty(len(first), dtype=torch.float64, device=first.device)
        for start in range(0, len(first), _PAIRS):
            pairs = slice(start, start + _PAIRS)
            difference = self.features[first[pairs]].double() - self.features[second[pairs]].double()
            exact[pairs] = difference.square_().sum(1)
        return exact


def _smallest(values: Tensor, k: int) -> Tensor:
    """The ``k``-th smallest (R, 1) of each row of (R, M); PyTorch has no deterministic ``kthvalue`` on CUDA."""
    return values.topk(values.shape[1] - k + 1, dim=1, sorted=False).values.amin(1, keepdim=True)


def _centred(features: Tensor) -> Tensor:
    """(N, D) float32: features minus their mean, in float64, then scaled by a power of two to norms up to about 1."""
    mean = features.mean(0, dtype=torch.float64)
    largest = max(float((part.double() - mean).norm(dim=1).max()) for part in torch.split(features, _PAIRS))
    scale = 2.0 ** -math.frexp(largest)[1]
    return torch.cat([((part.double() - mean) * scale).float() for part in torch.split(features, _PAIRS)])


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Within the block, matrix products use full float32: the error bound does not hold for TF32 or mixed precision."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
