"""Features of two classes on a plane: along the line through their centroids, and across it.

The projection of Poison Frogs (Shafahi et al. 2018) and of the deep k-NN paper's figures 4 and 5 (Gupta et al. 2019):
x is the direction from one class centroid to the other, y the part of the last layer's parameter vector that is
orthogonal to x. The papers do not define the parameter vector, the centroids or the units. Here the vector is the
adversarial class's minus that of the target's own class, which decides between the two. The centroids are those of
clean images. The unit of both axes is the distance between the centroids, so that networks can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.errors import DataError


@dataclass(frozen=True)
class Projection:
    """Features on the plane; all in units of the distance between the two centroids.

    Attributes:
        points: (M, 2) float64; the centroid of the target's class is at (0, 0), that of the adversarial class at
            (1, 0).
        target: (2,) float64.
        to_target: (M,) float64, distances from the target in the whole feature space.
        between: the distance between the centroids, in units of the features.
    """

    points: Tensor
    target: Tensor
    to_target: Tensor
    between: float


def projected(features: Tensor, target: Tensor, own: Tensor, adversarial: Tensor, weights: Tensor) -> Projection:
    """Project features on the plane of the two classes.

    Args:
        features: (M, D) floating, of every shown example.
        target: (D,) features of the target.
        own: (M,) bool, clean examples of the target's true class.
        adversarial: (M,) bool, clean examples of the class that the attacker wants.
        weights: (2, D), the last layer's parameter vectors of the true and of the adversarial class.

    Raises:
        DataError: a class has no clean example, or both classes have the same centroid.
    """
    if not (bool(own.any()) and bool(adversarial.any())):
        raise DataError("one of the two classes has no clean training image: features cannot be projected")
    values, at, rows = features.double(), target.double(), weights.double()
    origin = values[own].mean(0)
    line = values[adversarial].mean(0) - origin
    between = line.norm()
    if not float(between) > 0:
        raise DataError("the features of both classes have the same centroid: is the network trained?")
    x = line / between
    across = rows[1] - rows[0]
    across = across - (across @ x) * x
    # If ``across`` is parallel to the line, there is no second direction: y is 0 and all points lie on the line.
    y = across / across.norm().clamp(min=torch.finfo(across.dtype).tiny)
    plane = torch.stack([x, y], 1)
    return Projection(
        points=(values - origin) @ plane / between,
        target=(at - origin) @ plane / between,
        to_target=(values - at).norm(dim=1) / between,
        between=float(between),
    )
