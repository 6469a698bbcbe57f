"""Stochastic gradient descent without torch's optimiser class, whose first use imports a compiler."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim.sgd import sgd

from poisonlab.config.recipe import Recipe
from poisonlab.errors import SettingsError
from poisonlab.training.optimizer import Group, Optimizer, groups_of


class Sgd(Optimizer):
    """SGD with momentum and weight decay: the same bits as ``torch.optim.SGD(..., fused=True)``.

    Attributes:
        momenta: the momentum of every parameter, from its first step on.
    """

    def __init__(self, recipe: Recipe, groups: list[Group]) -> None:
        super().__init__(recipe, groups)
        self.momenta: dict[nn.Parameter, Tensor] = {}
        self.state = {"momentum": self.momenta}
        self._momentum, self._nesterov = recipe.momentum, recipe.nesterov and recipe.momentum > 0

    def _move(self, parameters: list[nn.Parameter], group: Group, rate: Tensor) -> None:
        momenta = [self.momenta.get(parameter) for parameter in parameters] if self._momentum else []
        sgd(
            parameters,  # type: ignore[arg-type]
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            momenta,
            fused=True,
            weight_decay=group.weight_decay,
            momentum=self._momentum,
            lr=rate,
            dampening=0.0,
            nesterov=self._nesterov,
            maximize=False,
        )
        for parameter, momentum in zip(parameters, momenta, strict=False):
            assert momentum is not None  # made by the first step
            self.momenta[parameter] = momentum


def sgd_of(model: nn.Module, recipe: Recipe) -> Sgd:
    """The recipe's SGD over the trainable parameters; the rate is set before each step.

    Raises:
        SettingsError: the recipe has another optimiser.
    """
    if recipe.optimizer != "sgd":
        raise SettingsError(f"recipe: only SGD is possible here, not {recipe.optimizer}: set optimizer: sgd")
    return Sgd(recipe, groups_of(model, recipe))
