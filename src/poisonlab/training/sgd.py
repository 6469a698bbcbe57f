"""Stochastic gradient descent without torch's optimiser class, whose first use imports a compiler."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from poisonlab.config.recipe import Recipe


class Group(NamedTuple):
    """Parameters that are moved alike.

    Attributes:
        weight_decay: their L2 penalty.
        factor: of their learning rate.
    """

    parameters: list[nn.Parameter]
    weight_decay: float
    factor: float = 1.0


class Sgd:
    """SGD with momentum and weight decay: the same bits as ``torch.optim.SGD(..., fused=True)``.

    That class imports the compiler, which nothing here needs and which takes more than a second of every job; the
    function that takes its steps does not.

    Attributes:
        rate: of the next step. It reaches the step through tensors, so that a recorded step follows it.
        groups: all parameters.
        momenta: of every parameter, from its first step on.
    """

    def __init__(self, recipe: Recipe, groups: list[Group]) -> None:
        self.groups = groups
        self._rates = [torch.zeros((), dtype=torch.float32, device=group.parameters[0].device) for group in groups]
        self.rate = recipe.lr
        self.momenta: dict[nn.Parameter, Tensor] = {}
        self._momentum, self._nesterov = recipe.momentum, recipe.nesterov and recipe.momentum > 0

    @property
    def rate(self) -> float:
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._rate = rate
        for group, own in zip(self.groups, self._rates, strict=True):
            own.fill_(rate * group.factor)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.groups:
            for parameter in group.parameters:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for group, rate in zip(self.groups, self._rates, strict=True):
            moved = [parameter for parameter in group.parameters if parameter.grad is not None]
            momenta = [self.momenta.get(parameter) for parameter in moved] if self._momentum else []
            sgd(
                moved,  # type: ignore[arg-type]
                [parameter.grad for parameter in moved if parameter.grad is not None],
                momenta,
                fused=True,
                weight_decay=group.weight_decay,
                momentum=self._momentum,
                lr=rate,
                dampening=0.0,
                nesterov=self._nesterov,
                maximize=False,
            )
            for parameter, momentum in zip(moved, momenta, strict=False):
                assert momentum is not None  # made by the first step
                self.momenta[parameter] = momentum


def sgd_of(model: nn.Module, recipe: Recipe) -> Sgd:
    """The recipe's optimiser over the trainable parameters; the rate is set before each step."""
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            factor = recipe.bias_lr if name.rpartition(".")[2] == "bias" else 1.0
            # Biases and normalisation weights are the parameters with one axis.
            decayed = parameter.ndim > 1 or recipe.decay_norm_and_bias
            decay = recipe.weight_decay / factor if decayed else 0.0
            found.setdefault((decay, factor), []).append(parameter)
    return Sgd(recipe, [Group(parameters, *kind) for kind, parameters in found.items()])
