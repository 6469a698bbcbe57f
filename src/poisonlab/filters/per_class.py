"""Functions of filters that work class by class: checks, the classes' rows, dropping the highest scores."""

from __future__ import annotations

import torch
from torch import Tensor

from poisonlab.errors import DataError, SettingsError


def check_examples(features: Tensor, labels: Tensor) -> None:
    """Check that features and labels fit together.

    Args:
        features: (N, D) floating, N and D >= 1.
        labels: (N,) int64, on the same device.

    Raises:
        DataError: features and labels are no tensors, have wrong shapes or types, are on two devices, or a feature is
            not finite.
    """
    for name, given in (("features", features), ("labels", labels)):
        if not isinstance(given, Tensor):
            raise DataError(f"{name} are a {type(given).__name__}: give a torch.Tensor, as torch.as_tensor makes it")
    if features.ndim != 2 or not features.is_floating_point() or 0 in features.shape:
        raise DataError(
            f"features of shape {tuple(features.shape)} and type {features.dtype}: a filter needs (N, D) floating "
            "numbers, so flatten each example's features"
        )
    if labels.dtype != torch.int64 or labels.shape != features.shape[:1]:
        raise DataError(
            f"labels of shape {tuple(labels.shape)} and type {labels.dtype} for {len(features)} rows of features: "
            "give one int64 label per row"
        )
    if labels.device != features.device:
        raise DataError(f"labels on {labels.device}, features on {features.device}: move them to one device")
    finite = torch.isfinite(features).all(dim=1)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise DataError(f"the features of example {row} are not finite: has the network's training diverged?")


def class_rows(labels: Tensor) -> list[tuple[int, Tensor]]:
    """Every label, ascending, with its rows (n_c,) int64, ascending."""
    return [(int(label), (labels == label).nonzero()[:, 0]) for label in torch.unique(labels)]


def share(fraction: float, count: int) -> int:
    """floor(fraction * count); a product that is below an integer only by rounding counts as that integer.

    Raises:
        SettingsError: ``fraction`` is not in [0, 1).
    """
    check_fraction(fraction)
    return int(fraction * count + 1e-9)


def share_to_drop(fraction: float, count: int, what: str = "examples") -> int:
    """``share``, but refused if rounding down makes it 0.

    Raises:
        SettingsError: ``fraction`` is not in [0, 1), or so small that it drops none of ``count`` examples; the message
            calls them ``what``.
    """
    dropped = share(fraction, count)
    if dropped == 0 < fraction * count:
        raise SettingsError(
            f"a fraction of {fraction:g} drops none of {count} {what}: raise it, or leave the filter out"
        )
    return dropped


def check_fraction(fraction: float) -> None:
    """Raise SettingsError unless ``fraction`` is in [0, 1)."""
    if not 0 <= fraction < 1:
        raise SettingsError(f"the fraction to drop is {fraction}: give one from 0 to below 1")


def drop_highest(score: Tensor, count: int) -> Tensor:
    """Keep mask (n,) bool that drops the ``count`` highest of ``score`` (n,), among equals the lower rows."""
    keep = torch.ones(len(score), dtype=torch.bool, device=score.device)
    keep[torch.sort(score, descending=True, stable=True).indices[:count]] = False
    return keep
