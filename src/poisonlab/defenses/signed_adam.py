"""A few steps of signed Adam on a bounded perturbation: what the defenses share that attack their own batch.

Everything happens in normalised pixels, as in the toolbox of Witches' Brew: a step of ``lr`` moves a pixel by about
``lr`` standard deviations of its channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from poisonlab.models.classifier import Normalize


class Strength(Protocol):
    """The settings of such an attack."""

    @property
    def eps(self) -> float: ...

    @property
    def steps(self) -> int: ...

    @property
    def lr(self) -> float: ...


def uncompiled(model: nn.Module) -> nn.Module:
    """The network itself, if it was compiled: compiled code cannot be differentiated twice."""
    return cast(nn.Module, getattr(model, "_orig_mod", model))


def perturb(
    images: Tensor,
    normalize: Normalize,
    objective: Callable[[Tensor], Tensor],
    strength: Strength,
    generator: torch.Generator,
) -> Tensor:
    """Perturb images so that ``objective`` falls.

    The start is normal with standard deviation eps, cut at the bound. The gradients are taken with respect to the
    images only: no parameter's ``grad`` changes.

    Args:
        images: (P, C, H, W) float pixels.
        normalize: on their device.
        objective: maps normalised images (P, C, H, W) to a scalar.
        strength: bound in levels, number of steps, and rate.
        generator: of the start, on the images' device.

    Returns:
        (P, C, H, W) of the same type: within eps/255 of ``images`` (up to rounding), and within [0, 1] wherever
        ``images`` are; a pixel that noise has put outside goes no further out.
    """
    bound, std = strength.eps / 255, normalize.std
    inputs, lower, upper = normalize(images), images.clamp(max=0), images.clamp(min=1)

    def project(delta: Tensor) -> Tensor:
        bounded = (delta * std).clamp(-bound, bound)
        return torch.sub((images + bounded).clamp(lower, upper), images) / std

    start = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    delta = project(start * (bound / std)).requires_grad_(True)
    optimizer = torch.optim.Adam([delta], lr=strength.lr)
    for _ in range(strength.steps):
        (gradient,) = torch.autograd.grad(objective(inputs + delta), delta)
        delta.grad = gradient.sign()
        optimizer.step()
        with torch.no_grad():
            delta.copy_(project(delta))
    return images + delta.detach() * std
