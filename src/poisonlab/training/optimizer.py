"""What the optimisers of the training loop have in common: groups of parameters, a rate on the device, and a state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from poisonlab.config.recipe import Recipe
from poisonlab.models.penalised import penalties_of


class Group(NamedTuple):
    """Parameters that are moved alike.

    Attributes:
        weight_decay: their L2 penalty.
        factor: of their learning rate.
        penalty: of their network's own; also where weight decay is decoupled.
    """

    parameters: list[nn.Parameter]
    weight_decay: float
    factor: float = 1.0
    penalty: float = 0.0


class Optimizer(ABC):
    """Moves parameters by their gradients.

    Torch's optimiser classes import the compiler, which nothing here needs and which takes more than a second of every
    job. The functions that take their steps do not.

    Attributes:
        rate: of the next step. It reaches the step through tensors, so that a recorded step follows it.
        groups: all parameters.
        state: what is remembered of parameters from step to step, by its name.
    """

    def __init__(self, recipe: Recipe, groups: list[Group]) -> None:
        self.groups = groups
        self._rates = [torch.zeros((), dtype=torch.float32, device=group.parameters[0].device) for group in groups]
        self.rate = recipe.lr
        self.state: Mapping[str, dict[nn.Parameter, Tensor]] = {}

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
            parameters = [parameter for parameter in group.parameters if parameter.grad is not None]
            for parameter in parameters if group.penalty else []:
                assert parameter.grad is not None
                parameter.grad.add_(parameter, alpha=group.penalty)
            self._move(parameters, group, rate)

    @abstractmethod
    def _move(self, parameters: list[nn.Parameter], group: Group, rate: Tensor) -> None:
        """Move some parameters of a group, all of which have a gradient; nothing may look at a value."""

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """The state by name, such as ``momentum.fc.weight``."""
        return {
            f"{kind}.{name}": remembered[parameter]
            for kind, remembered in self.state.items()
            for name, parameter in model.named_parameters()
            if parameter in remembered
        }

    def restore(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of ``tensors``, which may be among others."""
        for kind, remembered in self.state.items():
            for name, parameter in model.named_parameters():
                if (saved := tensors.get(f"{kind}.{name}")) is not None:
                    # In the parameter's memory layout, if it is of its shape.
                    like = parameter if saved.shape == parameter.shape else saved
                    remembered[parameter] = torch.empty_like(like, device=parameter.device).copy_(saved).detach()


def groups_of(model: nn.Module, recipe: Recipe) -> list[Group]:
    """The trainable parameters, by the recipe's rates and decays."""
    penalties = penalties_of(model)
    found: dict[tuple[float, float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            factor = recipe.bias_lr if name.rpartition(".")[2] == "bias" else 1.0
            # Biases and normalisation weights are the parameters with one axis.
            decayed = parameter.ndim > 1 or recipe.decay_norm_and_bias
            decay = recipe.weight_decay / factor if decayed else 0.0
            found.setdefault((decay, factor, penalties.get(parameter, 0.0)), []).append(parameter)
    return [Group(parameters, *kind) for kind, parameters in found.items()]
