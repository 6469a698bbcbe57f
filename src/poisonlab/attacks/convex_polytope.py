"""Convex polytope (Zhu et al. 2019, equation 2): the target's features become a mixture of the poisons'.

    minimise over x and c   1/2 ||phi(t) - sum_j c_j phi(x_j)||^2 / ||phi(t)||^2     with c >= 0, sum_j c_j = 1

averaged over the surrogates, each with its own coefficients c. As in algorithm 1, x and c are optimised alternately:
first the coefficients for fixed poisons, then one step of the poisons with fixed coefficients
(``poisonlab.attacks.features``).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.features import craft_in_features, length
from poisonlab.config.attacks.convex_polytope import ConvexPolytope as Settings
from poisonlab.data.dataset import ImageDataset

Vector = NDArray[np.float64]


def craft(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, *, seed: int, progress: bool = False
) -> PoisonSet:
    """Craft poisons for the target and bases that ``seed`` draws.

    Args:
        dataset: clean data.
        attacker: surrogates and how they were trained.
        settings: budget, bound, steps, how the coefficients are found.
        seed: of the threat, the random start, the augmentation and the dropout.
        progress: show a progress bar.

    Returns:
        The poisons; see ``craft_in_features`` for diagnostics and facts.

    Raises:
        SettingsError: the budget exceeds the adversarial class, or no test image can be the target.
        PoisonlabError: features or loss are not finite, or the target's features are zero.
    """
    measure = partial(Polytope, settings=settings)
    return craft_in_features(dataset, attacker, settings, measure, seed=seed, progress=progress)


class Polytope:
    """The distance between target and nearest mixture in one surrogate; keeps the coefficients for a warm start.

    Raises:
        PoisonlabError: the target's features ``goal``, (D,) or (C, H, W), are zero.
    """

    def __init__(self, goal: Tensor, settings: Settings) -> None:
        goal = goal.flatten()
        self.goal, self.scale, self.settings = goal, length(goal).square(), settings
        self.remembered: Tensor | None = None

    def __call__(self, features: Tensor) -> Tensor:
        """Half the squared distance over the target's squared length, of features (P, D) or (P, C, H, W)."""
        features, settings = features.flatten(1), self.settings
        warm = self.remembered is not None and settings.coefficients == "warm"
        start = self.remembered.numpy() if warm and self.remembered is not None else None
        found = nearest_mixture(features.detach(), self.goal, start, settings.inner_steps, settings.tolerance)
        self.remembered = torch.from_numpy(found)
        mixture = self.remembered.to(features) @ features
        return (mixture - self.goal).square().sum() / (2 * self.scale)


def nearest_mixture(
    features: Tensor, goal: Tensor, start: Vector | None = None, steps: int = 10000, tolerance: float = 1e-6
) -> Vector:
    """Coefficients (P,) float64 of the mixture of ``features`` (P, D) nearest to ``goal`` (D,).

    Projected gradient descent (Zhu et al. 2019, algorithm 1) with step 1 / L, which cannot overshoot. The features'
    mean is subtracted first: coefficients that sum to 1 are unaffected, L is smaller, and the steps are longer.

    Args:
        start: coefficients to begin at; 1 / P if not given.
        steps: the largest number of steps.
        tolerance: relative change (l2) of the coefficients below which the descent stops.
    """
    centre = features.double().mean(0)
    offsets = features.double() - centre
    # Thousands of tiny steps are faster on the CPU than on a GPU.
    gram = (offsets @ offsets.T).cpu().numpy()
    pull = (offsets @ (goal.double() - centre)).cpu().numpy()
    found = np.full(len(gram), 1 / len(gram)) if start is None else start
    steepest = np.linalg.eigvalsh(gram)[-1]
    if steepest <= 0:
        return found
    for _ in range(steps):
        before, found = found, simplex_projection(found - (gram @ found - pull) / steepest)
        if np.linalg.norm(found - before) < tolerance * np.linalg.norm(before):
            break
    return found


def simplex_projection(points: Vector) -> Vector:
    """The nearest points on the simplex (coordinates >= 0 that sum to 1), along the last axis; exact.

    Duchi et al. 2008, figure 1: subtract one threshold from all coordinates and cut at 0; the threshold follows from
    how many of the largest coordinates stay positive.
    """
    # A common shift does not change the projection; this shift keeps the sums small.
    points = points - points.max(-1, keepdims=True)
    descending = -np.sort(-points, -1)
    counts = np.arange(1, points.shape[-1] + 1)
    thresholds = (descending.cumsum(-1) - 1) / counts
    last = (descending > thresholds).sum(-1, keepdims=True) - 1
    projected: Vector = np.maximum(points - np.take_along_axis(thresholds, last, -1), 0)
    return projected
