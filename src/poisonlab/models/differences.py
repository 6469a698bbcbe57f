"""Mixed second derivatives times a vector, as differences of first-order gradients.

With weights w, inputs x, a loss L and a direction v in weight space, the exact derivative along v is

    d/ds grad_x L(w + s v, x)  at s = 0  =  (d^2 L / dx dw) v

and the central difference replaces it by two ordinary gradients,

    [grad_x L(w + h v, x) - grad_x L(w - h v, x)] / 2h,    h = relative * |w| / |v|,

whose error falls as h^2 where L is smooth (Pearlmutter 1994, section 1, discusses the form with one side). Nothing is
differentiated twice: fused kernels, bfloat16 and layers without a second derivative serve as they are, and no graph
outlives its pass. Where L has kinks, as with ReLU, a wide step averages over those between w - h v and w + h v.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

Weights = dict[str, Tensor]
_SHORTEST = 1e-30
Loss = Callable[[Weights, Tensor], Tensor]
"""Maps weights by name and inputs (B, C, H, W) to a scalar."""


def directional(loss: Loss, weights: Weights, inputs: Tensor, direction: Weights, relative: float) -> Tensor:
    """The derivative along ``direction`` of the inputs' gradient of ``loss``, by a central difference.

    It is a sum over the inputs if the loss is one, so it may be taken chunk by chunk.

    Args:
        loss: differentiable once with respect to the inputs.
        weights: at their place, by name; float32 or float64.
        inputs: (B, C, H, W).
        direction: v, shaped as the weights and by the same names.
        relative: length of the step to each side, |h v|, as a share of the weights' norm.

    Returns:
        d/ds grad_x L(w + s v, x), shaped as ``inputs``; zero where the direction is.
    """
    ahead, behind, width = neighbours(weights, direction, relative)
    return (_gradient(loss, ahead, inputs) - _gradient(loss, behind, inputs)) / width


def neighbours(weights: Weights, direction: Weights, relative: float) -> tuple[Weights, Weights, Tensor]:
    """The weights moved by ``relative`` times their norm along the direction, the weights moved against it, and the
    distance between both in units of the direction, 2h: a scalar."""
    # A direction of zeros must not make the step infinite, however large the weights.
    length = norm(direction.values()).clamp(min=_SHORTEST)
    step = relative * norm(weights.values()) / length
    ahead = {name: torch.addcmul(weight.detach(), direction[name], step) for name, weight in weights.items()}
    behind = {name: torch.addcmul(weight.detach(), direction[name], -step) for name, weight in weights.items()}
    return ahead, behind, 2 * step


def _gradient(loss: Loss, weights: Weights, inputs: Tensor) -> Tensor:
    """The gradient of the loss with respect to the inputs."""
    inputs = inputs.detach().requires_grad_(True)
    (found,) = torch.autograd.grad(loss(weights, inputs), [inputs], materialize_grads=True)
    return found


def norm(tensors: Iterable[Tensor]) -> Tensor:
    """Euclidean length of the tensors taken as one vector: a scalar."""
    return get_total_norm([tensor.detach() for tensor in tensors])
