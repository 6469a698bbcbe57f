"""Split a classifier of another library into the two parts that the lab needs: features, and a linear head."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from poisonlab.errors import SettingsError, is_out_of_memory
from poisonlab.models.classifier import Classifier
from poisonlab.models.evaluating import evaluating


def wrap(network: nn.Module, head: str | None = None) -> Classifier:
    """A ``Classifier`` from any network with a linear last layer, such as those of torchvision, timm and Transformers.

    Weights are shared with ``network``: training one trains the other. The first pass checks that the features and the
    head give the network's own logits.

    Args:
        network: maps normalised images (B, C, H, W) to logits (B, K), or to an output that has ``logits``.
        head: name of the linear layer that gives the logits, as in ``named_modules``, such as ``fc``, ``heads.head`` or
            ``classifier.1``; by default the last linear layer.

    Raises:
        SettingsError: the network is no module, or has no such layer. Later, in the first pass: the layer does not give
            the network's logits.
    """
    if not isinstance(network, nn.Module):
        raise SettingsError(f"the network is a {type(network).__name__}: give a torch.nn.Module")
    if isinstance(network, Classifier):
        return network
    network = getattr(network, "_orig_mod", network)  # layers of a compiled network cannot be left out
    name = _head_of(network) if head is None else head
    layer = dict(network.named_modules()).get(name)
    if not isinstance(layer, nn.Linear):
        named = f"{name!r} of the network is {'no layer' if layer is None else f'a {type(layer).__name__}'}"
        raise SettingsError(f"{named}: head names the linear layer that gives the logits, one of {_linear(network)}")
    return Classifier(Body(network, name, layer), layer)


def _linear(network: nn.Module) -> list[str]:
    """Names of the linear layers, except those inside attention, which uses their weights directly."""
    within = tuple(f"{name}." for name, part in network.named_modules() if isinstance(part, nn.MultiheadAttention))
    return [
        name
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and not (within and name.startswith(within))
    ]


def _head_of(network: nn.Module) -> str:
    if isinstance(network, nn.Linear):
        raise SettingsError("the network is a single linear layer: put a Flatten before it, in an nn.Sequential")
    if not (names := _linear(network)):
        raise SettingsError("the network has no linear layer to use as a head: choose a network with a linear head")
    return names[-1]


class Body(nn.Module):
    """The network without its head: normalised images (B, C, H, W) to features (B, D)."""

    def __init__(self, network: nn.Module, name: str, head: nn.Linear) -> None:
        super().__init__()
        self.network = _without(network, name)
        self.name, self.width = name, head.in_features
        # In a tuple, so that torch does not register them as submodules.
        self._unchecked: tuple[nn.Module, nn.Module] | tuple[()] = (network, head)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        return self._features(x)

    def _features(self, x: Tensor) -> Tensor:
        features = _logits_of(self.network(x))
        if features.ndim != 2 or features.shape[1] != self.width:
            raise self._error(f"without it the output has shape {tuple(features.shape)}, not (B, {self.width})")
        return features

    @torch.no_grad()
    def _check(self, x: Tensor) -> None:
        """Check once, on two images, that features and head together give the network's output."""
        if not self._unchecked:
            return
        network, head = self._unchecked
        with evaluating(network), evaluating(self), torch.autocast(x.device.type, enabled=False):
            own = _logits_of(network(x[:2]))
            try:
                parts = head(self._features(x[:2]))
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                raise self._error(f"without it the network fails: {error}") from error
        try:
            equal = own.shape == parts.shape and torch.allclose(own, parts, rtol=1e-3, atol=1e-4, equal_nan=True)
        except RuntimeError:  # inside vmap values cannot be compared: a later pass checks
            return
        if not equal:
            raise self._error("the network does more to its output than this layer does")
        self._unchecked = ()

    def _error(self, why: str) -> SettingsError:
        return SettingsError(
            f"{self.name!r} is not the layer that gives the network's logits ({why}): name it by head=, and leave out "
            "what follows it, such as a softmax"
        )


def _without(network: nn.Module, name: str) -> nn.Module:
    """A copy of the network with the identity in place of the layer ``name``; all other layers are shared."""
    first, _, rest = name.partition(".")
    changed = copy.copy(network)
    parts = dict(network._modules)
    parts[first] = _without(cast(nn.Module, parts[first]), rest) if rest else nn.Identity()
    changed.__dict__["_modules"] = parts
    return changed


def _logits_of(output: object) -> Tensor:
    """The logits in a network's output: the output itself, its ``logits``, or the first element of a tuple.

    Raises:
        SettingsError: the output contains no such tensor.
    """
    found = output
    if isinstance(output, Mapping):
        found = output.get("logits")
    elif not isinstance(output, Tensor):
        found = getattr(output, "logits", output[0] if isinstance(output, tuple) and output else None)
    if not isinstance(found, Tensor):
        raise SettingsError(
            f"the network returns a {type(output).__name__} without logits: let it return the tensor of logits"
        )
    return found
