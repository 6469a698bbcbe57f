"""Mixed second derivatives times a vector, as differences of first-order gradients.

With weights w, inputs x, a loss L and a direction v in weight space, the exact derivative along v is

    d/ds grad_x L(w + s v, x)  at s = 0  =  (d^2 L / dx dw) v

and the central difference replaces it by two ordinary gradients,

    [grad_x L(w + h v, x) - grad_x L(w - h v, x)] / 2h,    h = relative * |w| / |v|,

whose error falls as h^2 where L is smooth (Pearlmutter 1994, section 1, discusses the one-sided form). There is no
second differentiation, so fused kernels, bfloat16 and layers without a second derivative work unchanged, and no graph
outlives its pass. Where L has kinks, as with ReLU, a wide step averages over the kinks between w - h v and w + h v.
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

    If the loss is a sum over the inputs, the derivative may be computed in chunks of inputs.

    Args:
        loss: differentiable once with respect to the inputs.
        weights: w, by name; float32 or float64.
        inputs: (B, C, H, W).
        direction: v, with the names and shapes of the weights.
        relative: length of the step to each side, |h v|, as a share of the weights' norm.

    Returns:
        d/ds grad_x L(w + s v, x), shaped like ``inputs``; zero if the direction is zero.
    """
    ahead, behind, width = neighbours(weights, direction, relative)
    return (_gradient(loss, ahead, inputs) - _gradient(loss, behind, inputs)) / width


def neighbours(weights: Weights, direction: Weights, relative: float) -> tuple[Weights, Weights, Tensor]:
    """The weights moved by ``relative`` times their norm along the direction; the weights moved against it; and the
    distance 2h between both, in units of the direction, a scalar."""
    # A zero direction must not make the step infinite.
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
    """Euclidean length, a scalar, of the tensors as one vector."""
    return get_total_norm([tensor.detach() for tensor in tensors])
