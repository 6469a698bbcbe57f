"""Gradients of gradients through any network: attention becomes twice differentiable, and errors name other layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import grad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map_only

from poisonlab.errors import SettingsError
from poisonlab.models.evaluating import evaluating

_SIGNS = ("is not implemented", "differentiate twice")
_SIGNS_OF_FUNC = ("autograd.Function with functorch",)
_ONCE = once_differentiable(lambda ctx: ctx).__code__
"""The code of torch's wrapper around every backward that is marked ``once_differentiable``."""

_ATTACK = (
    "replace the layer, set derivative: differences (gradient matching, Sleeper Agent, MetaPoison), or take an attack "
    "in features (bullseye-polytope, convex-polytope, poison-frogs)"
)


@contextmanager
def twice_differentiable(network: nn.Module, inputs: Tensor, cure: str = _ATTACK) -> Iterator[None]:
    """Inside the block, the network can be differentiated twice.

    Attention is computed by matrix products (torch's ``SDPBackend.MATH``), because its fused kernels have no second
    derivative. A network without fused attention computes the same bits as outside the block.

    Args:
        network: the network to differentiate.
        inputs: (B, C, H, W), inputs of the network; used only if the block fails.
        cure: advice about a layer without second derivative, for the message.

    Raises:
        SettingsError: a layer has no second derivative; the message names the layer.
    """
    with sdpa_kernel(SDPBackend.MATH):
        try:
            yield
        except RuntimeError as error:
            signs = next((some for some in (_SIGNS, _SIGNS_OF_FUNC) if any(sign in str(error) for sign in some)), None)
            if signs is None:
                raise
            raise SettingsError(_message(network, inputs, signs, cure)) from error


def check_twice_differentiable(network: nn.Module, inputs: Tensor, output: Tensor, cure: str = _ATTACK) -> None:
    """Refuse ``once_differentiable`` functions, whose first derivative torch would silently treat as a constant.

    Args:
        network: the network to differentiate.
        inputs: (B, C, H, W), inputs of the network.
        output: the network's output, with its graph.
        cure: advice about such a function, for the message.

    Raises:
        SettingsError: there is such a function; the message names its layer.
    """
    if _differentiable_once(output):
        raise SettingsError(_message(network, inputs, _SIGNS, cure))


def _differentiable_once(output: Any) -> bool:
    """Whether the graph of a tensor, or of several, contains a ``once_differentiable`` function."""
    waiting = [leaf.grad_fn for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        backward = getattr(getattr(node, "_forward_cls", None), "backward", None)
        if getattr(backward, "__code__", None) is _ONCE:
            return True
        later = {each for each, _ in node.next_functions if each is not None} - seen
        seen |= later
        waiting += later
    return False


def _message(network: nn.Module, inputs: Tensor, signs: tuple[str, ...], cure: str) -> str:
    twice = _by_autograd if signs == _SIGNS else _by_func
    layer = _first_failing(network, inputs, signs, twice) or "a layer of the network"
    if signs == _SIGNS:
        return f"{layer} has no second derivative, which gradients of gradients need: {cure}"
    return (
        f"{layer} is an autograd.Function that torch.func cannot transform: give it a setup_context, or set "
        "selection: random (Sleeper Agent) or derivative: differences (MetaPoison)"
    )


def _first_failing(network: nn.Module, inputs: Tensor, signs: tuple[str, ...], twice: Callable[..., None]) -> str:
    """Name and class of the smallest part of the network that fails alone, or an empty string."""
    calls: dict[nn.Module, tuple[Any, Any]] = {}

    def record(module: nn.Module, args: Any, kwargs: Any) -> None:
        calls.setdefault(module, (args, kwargs))

    with ExitStack() as hooks, evaluating(network):
        for module in network.modules():
            hooks.callback(module.register_forward_pre_hook(record, with_kwargs=True).remove)
        with suppress(RuntimeError):
            network(inputs.detach()[:2])
    names = {module: name for name, module in network.named_modules()}
    for module in sorted(calls, key=lambda module: sum(1 for _ in module.modules())):
        try:
            with evaluating(module):
                twice(module, *calls[module])
        except RuntimeError as error:
            if any(sign in str(error) for sign in signs):
                return f"layer {names[module]!r} of the network ({type(module).__name__})"
    return ""


def _by_autograd(module: nn.Module, args: Any, kwargs: Any) -> None:
    args, kwargs = tree_map_only(Tensor, _leaf, (args, kwargs))
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.requires_grad]
    output = module(*args, **kwargs)
    if _differentiable_once(output):
        raise RuntimeError("cannot differentiate twice")
    first = torch.autograd.grad(_size(output), leaves, create_graph=True, materialize_grads=True)
    torch.autograd.grad(torch.stack([_size(each) for each in first]).sum(), leaves, allow_unused=True)


def _by_func(module: nn.Module, args: Any, kwargs: Any) -> None:
    leaf, *others = args
    grad(lambda x: _size(module(x, *others, **kwargs)))(leaf.detach())


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.is_floating_point())


def _size(output: Any) -> Tensor:
    return torch.stack(
        [each.square().sum() for each in tree_leaves(output) if isinstance(each, Tensor) and each.is_floating_point()]
    ).sum()
