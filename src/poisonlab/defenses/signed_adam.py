"""A few steps of signed Adam on a bounded perturbation, for defenses that attack their own batch.

Pixels are normalised, as in the toolbox of Witches' Brew: a step of ``lr`` moves a pixel by about ``lr`` standard
deviations of its channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from poisonlab.models.classifier import Normalize


class Strength(Protocol):
    """The settings of an attack by signed Adam."""

    @property
    def eps(self) -> float: ...

    @property
    def steps(self) -> int: ...

    @property
    def lr(self) -> float: ...


def uncompiled(model: nn.Module) -> nn.Module:
    """The original of a compiled network, or the network itself: compiled code cannot be differentiated twice."""
    return cast(nn.Module, getattr(model, "_orig_mod", model))


def perturb(
    inputs: Tensor,
    normalize: Normalize,
    objective: Callable[[Tensor], Tensor],
    strength: Strength,
    generator: torch.Generator,
) -> Tensor:
    """Perturb normalised images so that ``objective`` falls.

    The start is Gaussian with standard deviation eps, cut at the bound. Gradients are taken with respect to the images
    only: no parameter's ``grad`` changes.

    Args:
        inputs: (P, C, H, W) float, normalised.
        normalize: the normalisation of the inputs, on their device.
        objective: maps normalised images (P, C, H, W) to a scalar.
        strength: bound in levels, number of steps, and rate.
        generator: of the start, on the images' device.

    Returns:
        (P, C, H, W) of the same type, normalised. In pixel units, each value is within eps/255 of its input, up to
        rounding. It is within [0, 1] if its input was; otherwise it does not move further out.
    """
    bound = strength.eps / 255 / normalize.std
    black, white = (normalize(torch.full_like(normalize.mean, level)) for level in (0, 1))
    lower, upper = torch.minimum(inputs, black), torch.maximum(inputs, white)

    def project(delta: Tensor) -> Tensor:
        return (inputs + delta.clamp(-bound, bound)).clamp(lower, upper) - inputs

    start = torch.randn(inputs.shape, generator=generator, device=inputs.device, dtype=inputs.dtype)
    delta = project(start * bound).requires_grad_(True)
    optimizer = torch.optim.Adam([delta], lr=strength.lr)
    for _ in range(strength.steps):
        (gradient,) = torch.autograd.grad(objective(inputs + delta), delta)
        delta.grad = gradient.sign()
        optimizer.step()
        with torch.no_grad():
            delta.copy_(project(delta))
    return inputs + delta.detach()
