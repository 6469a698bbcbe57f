"""L2 outliers: from every class, drop the share of examples farthest from the class's centroid.

One of the baselines of Peri et al. 2020, "Deep k-NN Defense against Clean-label Data Poisoning Attacks", section 4,
after Steinhardt, Koh, Liang 2017. Their tables agree with a fraction of 0.01 (feature collision) and 0.10 (convex
polytope).
"""

from __future__ import annotations

import torch
from torch import Tensor

from poisonlab.config.filters.l2_centroid import L2Centroid as Settings
from poisonlab.filters.per_class import check_examples, class_rows, drop_highest, share, share_to_drop
from poisonlab.filters.verdict import Verdict


@torch.no_grad()
def l2_centroid(features: Tensor, labels: Tensor, *, fraction: float) -> Verdict:
    """Filter by the distance from the class's mean, poisons included.

    Args:
        features: (N, D) floating: penultimate features.
        labels: (N,) int64.
        fraction: floor(fraction * n_c) examples are dropped from a class of n_c, among equals the lowest rows.

    Returns:
        keep (N,) bool, and score (N,) float64, the distance.

    Raises:
        DataError: features and labels do not fit.
        SettingsError: ``fraction`` is not in [0, 1), or so small that no class loses an example.
    """
    check_examples(features, labels)
    classes = class_rows(labels)
    share_to_drop(fraction, max(len(rows) for _, rows in classes), "examples of the largest class")
    keep = torch.ones_like(labels, dtype=torch.bool)
    score = torch.empty(len(labels), dtype=torch.float64, device=labels.device)
    for _, rows in classes:
        own = features[rows].double()
        score[rows] = (own - own.mean(0)).norm(dim=1)
        keep[rows] = drop_highest(score[rows], share(fraction, len(rows)))
    return Verdict(keep, score)


def judge(settings: Settings, features: Tensor, labels: Tensor, *, seed: int = 0) -> Verdict:
    """The verdict of the filter that ``settings`` describes."""
    return l2_centroid(features, labels, fraction=settings.fraction)
