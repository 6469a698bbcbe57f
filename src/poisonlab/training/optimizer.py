"""The common base of the training loop's optimisers: groups of parameters, a rate on the device, and a state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from poisonlab.config.recipe import Recipe
from poisonlab.models.penalised import penalties_of


class Group(NamedTuple):
    """Parameters with the same decay and rate.

    Attributes:
        weight_decay: their L2 penalty.
        factor: factor of their learning rate.
        penalty: the network's own L2 penalty (``models.penalised``), which also applies if weight decay is decoupled.
    """

    parameters: list[nn.Parameter]
    weight_decay: float
    factor: float = 1.0
    penalty: float = 0.0


class Optimizer(ABC):
    """Moves parameters by their gradients.

    Torch's optimiser classes import the compiler, which is not needed here and costs every job more than a second. The
    functions that take their steps do not import it.

    Attributes:
        rate: learning rate of the next step. Tensors carry it to the step, so that a recorded step follows it.
        groups: all parameters.
        state: tensors kept for each parameter between steps, by the name of their kind.
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
        """Move some parameters of a group, all with a gradient, without looking at a value."""

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """The state by name, such as ``momentum.fc.weight``."""
        return {
            f"{kind}.{name}": remembered[parameter]
            for kind, remembered in self.state.items()
            for name, parameter in model.named_parameters()
            if parameter in remembered
        }

    def restore(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        """Set the state that ``tensors`` returned; other tensors are ignored."""
        for kind, remembered in self.state.items():
            for name, parameter in model.named_parameters():
                if (saved := tensors.get(f"{kind}.{name}")) is not None:
                    # With the parameter's memory layout, if the shapes are equal.
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
