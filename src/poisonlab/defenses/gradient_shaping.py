"""Gradient shaping: the gradient of each step is clipped, and noise is added to it.

Hong et al. 2020, as released in the toolbox of Witches' Brew; FRIENDS' table 1 calls it DP-SGD. It is not DP-SGD: it
clips the mean gradient of the batch instead of each example's, so it gives no privacy. With g the gradient of all
trainable weights as one vector:

    g <- g * min(1, clip / (|g| + 1e-6)) + clip * noise * z,   z standard normal or Laplacian (density exp(-|z|) / 2)

The optimiser adds weight decay afterwards, without clipping and noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poisonlab.config.defenses.gradient_shaping import GradientShaping as Settings
from poisonlab.config.recipe import Recipe
from poisonlab.training.defense import Defense


@dataclass(frozen=True)
class GradientShaping(Defense):
    """Bound the gradient's norm by ``settings.clip``, then add noise to every element."""

    settings: Settings

    @property
    def captured(self) -> bool:
        return True

    def change_gradients(self, parameters: list[nn.Parameter], recipe: Recipe, generator: torch.Generator) -> None:
        nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        scale = self.settings.clip * self.settings.noise
        for gradient in (parameter.grad for parameter in parameters if parameter.grad is not None):
            gradient.add_(standard_noise(gradient, self.settings.distribution, generator), alpha=scale)


def standard_noise(like: Tensor, distribution: str, generator: torch.Generator) -> Tensor:
    """Independent values of the shape and type of ``like``: gaussian, of variance 1, or laplacian, of variance 2."""
    if distribution == "gaussian":
        return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    # The difference of two standard exponentials is Laplacian.
    first, second = (
        torch.empty(like.shape, device=like.device, dtype=like.dtype).exponential_(generator=generator) for _ in "ab"
    )
    return first - second


def build(settings: Settings, noise: Tensor | None = None) -> GradientShaping:
    """The defense that ``settings`` describes."""
    return GradientShaping(settings)
