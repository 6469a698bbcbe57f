"""One-class SVM: drop the outliers that a support vector machine finds in each class.

One of the baselines of Peri et al. 2020, "Deep k-NN Defense against Clean-label Data Poisoning Attacks", section 4:
RBF kernel, nu = 0.01. The paper does not give gamma. scikit-learn's default was "auto" (1 / D) then and is "scale" now.

Support vectors inside their bound lie on the boundary, where rounding decides the sign of the depth. libsvm stops
within a tolerance of the optimum, so only an example further outside than the tolerance counts as an outlier. At the
optimum such an example is a support vector at its bound; a class of n has at most nu * n of them (Schoelkopf et al.
2001, proposition 3). Each machine is fitted on the sorted rows of its class, so that their order does not matter.

``boundary="sign"`` uses the sign of scikit-learn's default machine. With nu = 0.01, classes of 50 lose images only with
``sign``, and in table 2 of the paper they lose 7 %.
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
"""Tolerance of the depth, relative to the sum nu * n of the coefficients; libsvm computes kernels in float32."""


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
        features: (N, D) floating: penultimate features, unscaled.
        labels: (N,) int64.
        nu: bound on the share of outliers of each class, in (0, 1].
        gamma: of the RBF kernel: 1 / D, 1 / (D * variance of the class's features), or a number.
        boundary: ``optimum``: drop examples that are outside at the optimum; ``sign``: drop the outliers of
            scikit-learn's ``predict`` at its default tolerance of 1e-3.

    Returns:
        keep (N,) bool, and score (N,) float64, the depth outside the boundary (negative inside). With ``optimum``, each
        class loses at most a share ``nu``, and a class smaller than 1 / nu loses nothing. The order of the rows does
        not matter. With ``sign`` none of this is guaranteed.

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
    """For one class (n, D): each row's depth outside (n,), and whether it is kept (n,) bool."""
    order = np.lexsort(own.T)
    tolerance = _TOLERANCE * nu * len(own)
    machine = OneClassSVM(kernel="rbf", nu=nu, gamma=gamma, tol=tolerance).fit(own[order])
    outside = np.empty(len(own))
    outside[order] = -machine.decision_function(own[order])
    return outside, outside <= tolerance


def _by_sign(own: _Array, nu: float, gamma: str | float) -> tuple[_Array, _Mask]:
    """The same as ``_beyond_optimum``, by scikit-learn's ``predict``."""
    machine = OneClassSVM(kernel="rbf", nu=nu, gamma=gamma).fit(own)
    return -machine.decision_function(own), machine.predict(own) > 0


def judge(settings: Settings, features: Tensor, labels: Tensor, *, seed: int = 0) -> Verdict:
    """The verdict of the filter that ``settings`` describes."""
    return one_class_svm(features, labels, nu=settings.nu, gamma=settings.gamma, boundary=settings.boundary)
