"""Adam (Kingma & Ba 2015, algorithm 1), with weight decay as an L2 penalty, and AdamW (Loshchilov & Hutter 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from poisonlab.config.recipe import Recipe
from poisonlab.training.optimizer import Group, Optimizer, groups_of


class Adam(Optimizer):
    """Adam: the same bits as ``torch.optim.Adam(..., fused=True)``, or as ``torch.optim.AdamW``.

    The penalty is part of the gradient, and so of its moments. Decoupled weight decay, as in AdamW (algorithm 2, as in
    torch), instead shrinks each weight by the share rate times weight decay.

    The state exists before the first step, so that a recorded step finds all of it in its place.
    """

    def __init__(self, recipe: Recipe, groups: list[Group]) -> None:
        super().__init__(recipe, groups)
        parameters = [parameter for group in groups for parameter in group.parameters]
        self._means, self._squares = ({p: torch.zeros_like(p).detach() for p in parameters} for _ in range(2))
        self._steps = {p: torch.zeros((), dtype=torch.float32, device=p.device) for p in parameters}
        self.state = {"mean": self._means, "square": self._squares, "step": self._steps}
        self._betas, self._eps, self._decoupled = recipe.betas, recipe.eps, recipe.optimizer == "adamw"

    def _move(self, parameters: list[nn.Parameter], group: Group, rate: Tensor) -> None:
        adam(
            parameters,  # type: ignore[arg-type]
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [self._means[parameter] for parameter in parameters],
            [self._squares[parameter] for parameter in parameters],
            [],
            [self._steps[parameter] for parameter in parameters],
            fused=True,
            capturable=True,
            decoupled_weight_decay=self._decoupled,
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=rate,
            # ``groups_of`` has divided the decay by the factor of the rate. A penalty must not have this division.
            weight_decay=group.weight_decay * (1 if self._decoupled else group.factor),
            eps=self._eps,
            maximize=False,
        )


def optimizer_of(model: nn.Module, recipe: Recipe) -> Adam:
    """The recipe's Adam or AdamW over the trainable parameters; the rate is set before each step."""
    return Adam(recipe, groups_of(model, recipe))
