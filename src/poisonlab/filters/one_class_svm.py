"""One-class SVM: drop what a support vector machine of each class takes for outliers.

One of the baselines of Peri et al. 2020, "Deep k-NN Defense against Clean-label Data Poisoning Attacks", section 4:
RBF kernel, nu = 0.01. The paper does not give gamma; scikit-learn's default then was "auto" (1 / D), now it is "scale".
"""

from __future__ import annotations

from typing import Literal

import torch
from sklearn.svm import OneClassSVM
from torch import Tensor

from poisonlab.config.filters.one_class_svm import OneClassSvm as Settings
from poisonlab.errors import SettingsError
from poisonlab.filters.per_class import check_examples, class_rows
from poisonlab.filters.verdict import Verdict


def one_class_svm(
    features: Tensor, labels: Tensor, *, nu: float = 0.01, gamma: Literal["auto", "scale"] | float = "auto"
) -> Verdict:
    """Filter by one support vector machine per class, fitted on the CPU.

    Args:
        features: (N, D) floating: penultimate features, as they are.
        labels: (N,) int64.
        nu: bound on the share of outliers of each class, in (0, 1].
        gamma: of the RBF kernel: 1 / D, 1 / (D * variance of the class's features), or a number.

    Returns:
        keep (N,) bool, and score (N,) float64, the depth outside the boundary (negative inside).

    Raises:
        DataError: features and labels do not fit.
        SettingsError: ``nu`` is not in (0, 1].
    """
    check_examples(features, labels)
    if not 0 < nu <= 1:
        raise SettingsError(f"nu={nu} for the one-class SVM: give the share of outliers, above 0 and up to 1")
    keep = torch.ones_like(labels, dtype=torch.bool)
    score = torch.empty(len(labels), dtype=torch.float64, device=labels.device)
    for _, rows in class_rows(labels):
        own = features[rows].detach().double().cpu().numpy()
        machine = OneClassSVM(kernel="rbf", nu=nu, gamma=gamma).fit(own)
        score[rows] = -torch.from_numpy(machine.decision_function(own)).to(score.device)
        keep[rows] = torch.from_numpy(machine.predict(own) == 1).to(keep.device)
    return Verdict(keep, score)


def judge(settings: Settings, features: Tensor, labels: Tensor, *, seed: int = 0) -> Verdict:
    """The verdict of the filter that ``settings`` describes."""
    return one_class_svm(features, labels, nu=settings.nu, gamma=settings.gamma)
