"""Settings of DP-SGD."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.types import NonNegativeFloat, PositiveFloat, Settings


class DpSgd(Settings):
    """Clip the gradient of every example and add noise to their sum, with a privacy guarantee (Abadi et al. 2016).

    Needs a network without trained batch norm (``norm: group``) and ``compile: false``.
    """

    method: Literal["dp-sgd"] = "dp-sgd"
    clip: PositiveFloat = 1.0
    """Largest l2 norm of one example's whole gradient."""
    noise_multiplier: NonNegativeFloat = 1.0
    """Standard deviation of the noise on every element of the summed gradient, in units of ``clip``."""
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Probability at which the reported epsilon may fail; None: 1 / number of training examples."""
