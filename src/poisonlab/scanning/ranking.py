"""One ranking from the scores of several filters: reciprocal rank fusion.

Cormack, Clarke, Buettcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods":
an image that filter f ranks at place r_f has the joined score sum_f 1 / (60 + r_f). First places count much, and late
places almost nothing. So images on which several filters agree come first, and an undecided filter does no harm. Images
of equal score share the mean of their places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from poisonlab.artifacts.tensors import read_tensors, write_tensors
from poisonlab.errors import DataError

KIND = "ranking of suspects"
CONSTANT = 60
"""The constant of the paper."""


@dataclass(frozen=True)
class Ranking:
    """The filters' scores of every training image, and their joined order.

    Attributes:
        filters: F names.
        scores: (F, N) float64, see ``poisonlab.scanning.scores``; higher is more suspicious.
        places: (F, N) float64, from 1; equal scores share the mean of their places.
        joined: (N,) float64, up to F / 61.
        order: (N,) int64, rows by joined score, the most suspicious first; of equals the lower row comes first.
    """

    filters: tuple[str, ...]
    scores: Tensor
    places: Tensor
    joined: Tensor
    order: Tensor

    def first(self, count: int) -> Tensor:
        """(count,) int64, the rows of the first suspects."""
        return self.order[:count]

    def chances(self, name: str, count: int) -> Tensor:
        """(N,) float64 in [0, 1]: the probability of each row to be among the first ``count`` of one filter alone.

        Images of equal score are ordered at random: filters that cluster give many images the same score, and the order
        of the files means nothing.
        """
        _, which, sizes = torch.unique(self.places[self.filters.index(name)], return_inverse=True, return_counts=True)
        before = sizes.cumsum(0) - sizes
        shares: Tensor = ((count - before) / sizes.double()).clamp(0, 1)
        return shares[which]

    def agreement(self, count: int) -> Tensor:
        """(N,) int64: how many filters rank each image at place ``count`` or before."""
        return (self.places <= count).sum(0)

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        tensors = {name: getattr(self, name) for name in ("scores", "places", "joined", "order")}
        write_tensors(path, KIND, tensors, {"filters": list(self.filters)})

    @classmethod
    def load(cls, path: Path) -> Ranking:
        """Read what ``save`` wrote.

        Raises:
            DataError: the file is missing, damaged, or of another kind.
        """
        tensors, facts = read_tensors(path, KIND)
        try:
            return cls(tuple(facts["filters"]), **tensors)
        except (TypeError, KeyError) as error:
            raise DataError(f"{path} lacks parts of a ranking: delete it and run the workflow again") from error


def join(filters: Sequence[str], scores: Tensor) -> Ranking:
    """Join the rankings of ``filters`` by their ``scores`` (F, N) float64, higher is more suspicious."""
    values: NDArray[Any] = -scores.cpu().numpy()
    places = torch.from_numpy(np.stack([rankdata(each, method="average") for each in values]))
    joined = (1 / (CONSTANT + places)).sum(0)
    return Ranking(
        tuple(filters), scores.cpu(), places, joined, torch.sort(joined, descending=True, stable=True).indices
    )


def held(flagged: Tensor, wanted: Tensor) -> int:
    """How many of the ``wanted`` rows (N,) bool are among the ``flagged`` ones (S,) int64."""
    return int(wanted[flagged].sum())


def expected_repeats(first: Tensor, others: Sequence[Tensor]) -> float:
    """Expected share of the rows flagged by one scan that another scan flags as well, by their ``chances``.

    Args:
        first: (N,) float64, of one scan; its sum is the number of flagged rows.
        others: (N,) float64 each, of the other scans; the mean over them is returned.
    """
    return float(np.mean([(first @ other / first.sum()).item() for other in others]))


def still_flagged(first: Tensor, others: Sequence[Tensor]) -> float:
    """Share of the rows ``first`` (S,) int64 that another scan flags as well: the mean over the ``others``."""
    return float(np.mean([torch.isin(first, other).double().mean() for other in others]))
