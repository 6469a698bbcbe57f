"""Spectral signatures: from every class, drop the examples farthest along its direction of largest variance.

Tran, Li, Madry 2018, "Spectral Signatures in Backdoor Attacks", algorithm 1, as in the releases of gradient matching
and Sleeper Agent: every class loses int(1.5 * expected) examples, even a clean class.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poisonlab.config.filters.spectral_signatures import SpectralSignatures as Settings
from poisonlab.errors import SettingsError
from poisonlab.filters.per_class import check_examples, class_rows, drop_highest
from poisonlab.filters.verdict import Verdict


@torch.no_grad()
def spectral_signatures(features: Tensor, labels: Tensor, *, expected: float, factor: float = 1.5) -> Verdict:
    """Filter by the squared projection on each class's top right singular vector.

    Args:
        features: (N, D) floating: penultimate features, in eval mode and without augmentation.
        labels: (N,) int64.
        expected: expected poisons per class; each class loses int(``factor`` * ``expected``) examples, among equals the
            lowest rows.
        factor: see ``expected``.

    Returns:
        keep (N,) bool, and score (N,) float64, the squared projection. If the two largest singular values of a class
        are equal, its direction and so its scores are undefined.

    Raises:
        DataError: features and labels do not fit.
        SettingsError: a class would lose all its examples, or the number to drop is negative, or between 0 and 1.
    """
    check_examples(features, labels)
    count = int(factor * expected)
    if count < 0:
        raise SettingsError(f"{expected} expected poisons times {factor}: neither may be negative")
    if count == 0 < expected * factor:
        raise SettingsError(
            f"{expected:g} expected poisons in a class, times {factor:g}, drop none: expect {1 / factor:.2g} or more"
        )
    keep = torch.ones_like(labels, dtype=torch.bool)
    score = torch.empty(len(labels), dtype=torch.float64, device=labels.device)
    for label, rows in class_rows(labels):
        if count >= len(rows):
            raise SettingsError(
                f"spectral signatures would drop {count} of the {len(rows)} examples of class {label}: expect fewer "
                "poisons per class"
            )
        score[rows] = squared_projections(features[rows])
        keep[rows] = drop_highest(score[rows], count)
    return Verdict(keep, score)


def squared_projections(features: Tensor) -> Tensor:
    """(n,) float64: squared projections of the centred ``features`` (n, D) on their top right singular vector."""
    centred = features.double() - features.mean(0, dtype=torch.float64)
    if len(features) < features.shape[1]:
        # The projections are the singular value times the left singular vector, which the smaller Gram matrix gives.
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        left: Tensor = vectors[:, -1]
        power: Tensor = values[-1].clamp(min=0)
        return power * left.square()
    direction: Tensor = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
    return (centred @ direction).square()


def judge(settings: Settings, features: Tensor, labels: Tensor, *, seed: int = 0) -> Verdict:
    """The verdict of the filter that ``settings`` describes."""
    return spectral_signatures(features, labels, expected=settings.expected * len(labels), factor=settings.factor)
