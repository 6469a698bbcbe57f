"""One-class SVM: drop the outliers that a support vector machine finds in each class.

One of the baselines of Peri et al. 2020, "Deep k-NN Defense against Clean-label Data Poisoning Attacks", section 4:
RBF kernel, nu = 0.01. The paper does not give gamma; scikit-learn's default then was "auto" (1 / D), now it is "scale".

Support vectors inside their bound lie on the boundary, where the sign of the depth is rounding. libsvm stops within a
tolerance of the optimum, so an outlier is only an example that lies further outside. Within the tolerance of the
optimum such an example is a support vector at its bound, of which there are at most nu * n in a class of n (Schoelkopf
et al. 2001, proposition 3). A machine is fitted on the sorted rows of its class, so that their order does not matter.

``boundary="sign"`` takes the sign all the same, of scikit-learn's machine as it comes. With nu = 0.01 classes of 50
lose images only so, and table 2 of the paper has 7 %.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.svm import OneClassSVM
from torch import Tensor

from poisonlab.config.filters.one_class_svm import OneClassSvm as Settings
from poisonlab.errors import SettingsError
from poisonlab.filters.per_class import check_examples, class_rows
from poisonlab.filters.verdict import Verdict

_Array = NDArray[np.float64]
_Mask = NDArray[np.bool_]
_TOLERANCE = 1e-6
"""Of the depth, relative to the sum nu * n of the coefficients; libsvm's kernels have the precision of float32."""


def one_class_svm(
    features: Tensor,
    labels: Tensor,
    *,
    nu: float = 0.01,
    gamma: Literal["auto", "scale"] | float = "auto",
    boundary: Literal["optimum", "sign"] = "optimum",
) -> Verdict:
    """Filter by one support vector machine per class, fitted on the CPU.

    Args:
        features: (N, D) floating: penultimate features, as they are.
        labels: (N,) int64.
        nu: bound on the share of outliers of each class, in (0, 1].
        gamma: of the RBF kernel: 1 / D, 1 / (D * variance of the class's features), or a number.
        boundary: ``optimum``: drop what lies outside at the optimum; ``sign``: what ``predict`` of scikit-learn calls
            an outlier, at its default tolerance of 1e-3.

    Returns:
        keep (N,) bool, and score (N,) float64, the depth outside the boundary (negative inside). At the optimum at most
        a share ``nu`` of each class is dropped, nothing of a class smaller than 1 / nu, and the same rows in another
        order get the same verdicts. By sign nothing of that holds.

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
        outside, kept = (_beyond_optimum if boundary == "optimum" else _by_sign)(own, nu, gamma)
        score[rows] = torch.from_numpy(outside).to(score.device)
        keep[rows] = torch.from_numpy(kept).to(keep.device)
    return Verdict(keep, score)


def _beyond_optimum(own: _Array, nu: float, gamma: str | float) -> tuple[_Array, _Mask]:
    """Of one class (n, D): how far each row lies outside (n,), and which do not (n,) bool."""
    order = np.lexsort(own.T)
    tolerance = _TOLERANCE * nu * len(own)
    machine = OneClassSVM(kernel="rbf", nu=nu, gamma=gamma, tol=tolerance).fit(own[order])
    outside = np.empty(len(own))
    outside[order] = -machine.decision_function(own[order])
    return outside, outside <= tolerance


def _by_sign(own: _Array, nu: float, gamma: str | float) -> tuple[_Array, _Mask]:
    """Likewise, by ``predict``."""
    machine = OneClassSVM(kernel="rbf", nu=nu, gamma=gamma).fit(own)
    return -machine.decision_function(own), machine.predict(own) > 0


def judge(settings: Settings, features: Tensor, labels: Tensor, *, seed: int = 0) -> Verdict:
    """The verdict of the filter that ``settings`` describes."""
    return one_class_svm(features, labels, nu=settings.nu, gamma=settings.gamma, boundary=settings.boundary)
