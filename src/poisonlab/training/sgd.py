"""Stochastic gradient descent without torch's optimiser class, whose first use imports a compiler."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from poisonlab.config.recipe import Recipe


class Sgd:
    """SGD with momentum and weight decay: the same bits as ``torch.optim.SGD(..., fused=True)``.

    That class imports the compiler, which nothing here needs and which takes more than a second of every job; the
    function that takes its steps does not.

    Attributes:
        rate: of the next step.
        decays: parameters and their weight decay.
        momenta: of every parameter, from its first step on.
    """

    def __init__(self, recipe: Recipe, decays: list[tuple[list[nn.Parameter], float]]) -> None:
        self.rate = recipe.lr
        self.decays = decays
        self.momenta: dict[nn.Parameter, Tensor] = {}
        self._momentum, self._nesterov = recipe.momentum, recipe.nesterov and recipe.momentum > 0

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameters, _ in self.decays:
            for parameter in parameters:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for parameters, weight_decay in self.decays:
            moved = [parameter for parameter in parameters if parameter.grad is not None]
            momenta = [self.momenta.get(parameter) for parameter in moved] if self._momentum else []
            sgd(
                moved,  # type: ignore[arg-type]
                [parameter.grad for parameter in moved if parameter.grad is not None],
                momenta,
                fused=True,
                weight_decay=weight_decay,
                momentum=self._momentum,
                lr=self.rate,
                dampening=0.0,
                nesterov=self._nesterov,
                maximize=False,
            )
            for parameter, momentum in zip(moved, momenta, strict=False):
                assert momentum is not None  # made by the first step
                self.momenta[parameter] = momentum


def sgd_of(model: nn.Module, recipe: Recipe) -> Sgd:
    """The recipe's optimiser over the trainable parameters; the rate is set before each step."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in (parameter for parameter in model.parameters() if parameter.requires_grad):
        # Biases and normalisation weights are the parameters with one axis.
        (free if parameter.ndim <= 1 and not recipe.decay_norm_and_bias else decayed).append(parameter)
    return Sgd(recipe, [(decayed, recipe.weight_decay), (free, 0.0)])
