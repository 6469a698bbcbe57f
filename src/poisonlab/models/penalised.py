"""Linear layers whose weights are penalised with every recipe."""

from __future__ import annotations

from torch import Tensor, nn

_PENALTY = "l2_penalty"


def penalised(layer: nn.Linear, penalty: float) -> nn.Linear:
    """The layer, marked so that training adds ``penalty / 2`` times the squared length of its weights to the loss.

    The optimisers of ``poisonlab.training`` add the penalty's gradient in every step, after defenses have changed the
    other gradients. Losses and gradients computed elsewhere do not contain the penalty.
    """
    setattr(layer, _PENALTY, penalty)
    return layer


def penalties_of(model: nn.Module) -> dict[Tensor, float]:
    """The penalised weights of a network, each with its penalty."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return {layer.weight: vars(layer)[_PENALTY] for layer in layers if _PENALTY in vars(layer)}
