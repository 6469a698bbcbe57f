"""Keep-lists: which training examples the filters of a row keep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from poisonlab.artifacts.tensors import read_tensors, write_tensors
from poisonlab.errors import DataError

KIND = "keep-list"


@dataclass(frozen=True)
class KeepList:
    """The result of a chain of filters.

    Attributes:
        keep: (N,) bool.
        scores: per filter (N,) float64, higher is more suspicious; nan for examples that earlier filters dropped, or if
            the filter gives no scores.
        dropped: per filter, how many examples it dropped.
    """

    keep: Tensor
    scores: tuple[Tensor, ...]
    dropped: tuple[int, ...]


def save_keep_list(path: Path, kept: KeepList, methods: list[str]) -> None:
    """Write the result of a chain of filters (``methods``, in order), with their scores."""
    scores = {f"score.{place}": score for place, score in enumerate(kept.scores)}
    write_tensors(path, KIND, {"keep": kept.keep, **scores}, {"methods": methods, "dropped": list(kept.dropped)})


def load_keep_list(path: Path, examples: int) -> Tensor:
    """keep (``examples``,) bool: which of the poisoned set's examples to train on.

    Raises:
        DataError: the file is missing, damaged, no keep-list, or one of another training set.
    """
    tensors, _ = read_tensors(path, KIND)
    keep = tensors.get("keep")
    if keep is None or keep.dtype != torch.bool or keep.shape != (examples,) or not bool(keep.any()):
        raise DataError(f"{path} is no keep-list of {examples} examples: delete it and run the workflow again")
    return keep
