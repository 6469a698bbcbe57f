"""Linear layers whose weights are penalised whatever the recipe."""

from __future__ import annotations

from torch import Tensor, nn

_PENALTY = "l2_penalty"


def penalised(layer: nn.Linear, penalty: float) -> nn.Linear:
    """The layer, in whose training half of ``penalty`` times the squared length of its weights belongs to the loss.

    The optimisers of ``poisonlab.training`` add its gradient in every step, after whatever a defense makes of the
    others. No loss shows it, and no gradient that is taken otherwise.
    """
    setattr(layer, _PENALTY, penalty)
    return layer


def penalties_of(model: nn.Module) -> dict[Tensor, float]:
    """The penalised weights of a network, each with its penalty."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return {layer.weight: vars(layer)[_PENALTY] for layer in layers if _PENALTY in vars(layer)}
