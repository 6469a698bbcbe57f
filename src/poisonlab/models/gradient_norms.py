"""Length of each single example's loss gradient, without a backward pass per example.

Sleeper Agent (Souri et al. 2022) selects the images to poison by this number. The gradient of a linear layer's weight
is a sum over positions of (output gradient) x (input). So its length follows from the layer's inputs and output
gradients, which one backward pass computes for a whole batch (Goodfellow 2015; Rochette et al. 2019 for convolutions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from poisonlab.models.chunks import images_at_once, in_chunks
from poisonlab.models.evaluating import evaluating
from poisonlab.models.layout import layout
from poisonlab.precision import passes

_TEMPORARY_BYTES = 1 << 28


def per_sample_gradient_norms(
    model: nn.Module, inputs: Tensor, labels: Tensor, *, precision: str = "float32"
) -> Tensor:
    """The l2 norm of each example's cross-entropy gradient with respect to all trainable parameters.

    The model runs in eval mode: batch norm uses its running statistics, so examples do not mix. Modes and ``grad``
    fields are restored. Linear, Conv2d and BatchNorm2d layers that are each called once are computed in closed form;
    for any other model, each example's gradient is formed, in batches.

    Args:
        model: maps (N, C, H, W) to logits (N, K), each example independently.
        inputs: (N, C, H, W) float, inputs of the model.
        labels: (N,) int64.
        precision: ``bfloat16`` for mixed precision where the device multiplies it, faster and within about a percent.

    Returns:
        (N,) float32, on the inputs' device.
    """
    inputs = inputs.detach().contiguous(memory_format=layout(model) if inputs.ndim == 4 else torch.contiguous_format)
    layers = _separable_layers(model)
    if len(inputs) == 0 or layers == []:
        return torch.zeros(len(inputs), device=inputs.device)
    at_once = images_at_once(inputs, 128)
    with evaluating(model), torch.enable_grad(), passes(inputs.device, precision):
        if layers is not None:
            try:
                return _squared(partial(_closed_form, model, layers), inputs, labels, at_once).sqrt().float()
            except _NotSeparableError:
                pass
        return _explicit(model, inputs, labels, at_once).sqrt().float()


def _squared(norms: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, labels: Tensor, at_once: int) -> Tensor:
    parts = in_chunks(lambda part: norms(inputs[part], labels[part]), len(inputs), at_once, "examples' gradients")
    return torch.cat(list(parts))


# --- any model: form every example's gradient ------------------------------------------------------------------------


def _explicit(model: nn.Module, inputs: Tensor, labels: Tensor, chunk: int) -> Tensor:
    """Squared norms (N,) from gradients formed for as many examples at once as memory allows."""
    weights = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}

    def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, weights, (image[None],)), label[None])

    def squared_norm(image: Tensor, label: Tensor) -> Tensor:
        gradients = grad(loss)(weights, image, label)
        return torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum()

    size = sum(weight.nbytes for weight in weights.values())
    at_once = min(chunk, max(1, _TEMPORARY_BYTES // size))
    with sdpa_kernel(SDPBackend.MATH):  # the only attention kernel that vmap batches
        return _squared(vmap(squared_norm), inputs, labels, at_once)


# --- closed form -----------------------------------------------------------------------------------------------------


class _NotSeparableError(Exception):
    """A parameter acts in several places, or not on one row per example. Its gradient is a sum, whose length does not
    follow from the lengths of its parts."""


def _separable_layers(model: nn.Module) -> list[nn.Module] | None:
    """The layers with trainable parameters, or None if the closed form does not cover one of them."""
    layers: list[nn.Module] = []
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        own = {p for p in module.parameters(recurse=False) if p.requires_grad}
        if not own:
            continue
        if not _is_covered(module) or own & seen:
            return None
        seen |= own
        layers.append(module)
    return layers


def _is_covered(module: nn.Module) -> bool:
    # Exact types only: a subclass may compute something else.
    if not {name for name, _ in module.named_parameters(recurse=False)} <= {"weight", "bias"}:
        return False
    if type(module) is nn.Conv2d:
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    if type(module) is nn.BatchNorm2d:
        return module.running_mean is not None
    return type(module) is nn.Linear


def _closed_form(model: nn.Module, layers: list[nn.Module], inputs: Tensor, labels: Tensor) -> Tensor:
    """Squared norms (n,) of one chunk by one forward and one backward pass that forms no weight gradient."""
    batch = _Batch(torch.zeros(len(inputs), dtype=inputs.dtype, device=inputs.device))
    with ExitStack() as hooks:
        for layer in layers:
            # Before all other hooks, so that it sees the layer's own output.
            hooks.callback(layer.register_forward_hook(batch.tap, prepend=True).remove)
        loss = F.cross_entropy(model(inputs), labels, reduction="sum")
        if len(batch.called) < len(layers):
            raise _NotSeparableError
        if loss.requires_grad:
            torch.autograd.grad(loss, batch.anchor, allow_unused=True)
    return batch.squared.clamp(min=0)


@dataclass
class _Batch:
    """Adds up each layer's contribution to the squared norms (n,) during the backward pass.

    Every tapped output depends on a scalar, the anchor. Its gradient runs the backward pass down to the lowest
    trainable layer. This frees each output gradient once it is used, and forms no other gradient.
    """

    squared: Tensor
    called: set[nn.Module] = field(default_factory=set)
    anchor: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.anchor = self.squared.new_zeros((), requires_grad=True)

    def tap(self, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Forward hook that adds the layer's contribution once the gradient of ``output`` is known."""
        if layer in self.called or len(args) != 1 or len(args[0]) != len(self.squared):
            raise _NotSeparableError
        self.called.add(layer)
        inputs = args[0].detach()

        def add(gradient: Tensor) -> None:
            self.squared += _squared_norms(layer, inputs, gradient)

        return cast(Tensor, _Tap.apply(output, self.anchor, add))


class _Tap(torch.autograd.Function):
    """The identity, in place: a copy would cost memory, and a view would not allow in-place activations after it."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, anchor: Tensor, observe: Callable[[Tensor], None]) -> Tensor:
        ctx.observe = observe
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # The observer holds the layer's inputs, which would otherwise stay in memory until the whole graph is freed.
        observe, ctx.observe = ctx.observe, None
        observe(gradient)
        return gradient, None, None


def _squared_norms(layer: nn.Module, inputs: Tensor, gradient: Tensor) -> Tensor:
    """Squared norms (n,) of the gradients of one layer's trainable weight and bias.

    Args:
        inputs: (n, ...), inputs of the layer.
        gradient: (n, ...), of the loss with respect to the layer's output.
    """
    weight, bias = cast(Tensor | None, layer.weight), cast(Tensor | None, layer.bias)
    wide = torch.float32 if gradient.dtype == torch.bfloat16 else gradient.dtype
    squared = torch.zeros(len(inputs), dtype=wide, device=gradient.device)
    if weight is not None and weight.requires_grad:
        if isinstance(layer, nn.Conv2d):
            squared += _convolution(layer, inputs, gradient)
        elif isinstance(layer, nn.BatchNorm2d):
            squared += _normalisation(layer, inputs, gradient)
        else:
            squared += _linear(inputs, gradient)
    if bias is not None and bias.requires_grad:
        features = gradient.movedim(-1 if isinstance(layer, nn.Linear) else 1, 1)
        squared += _square(features.reshape(*features.shape[:2], -1).sum(2, dtype=squared.dtype))
    return squared


def _square(rows: Tensor) -> Tensor:
    return rows.square().sum(1)


def _linear(inputs: Tensor, gradient: Tensor) -> Tensor:
    if inputs.ndim == 2:
        return _square(inputs) * _square(gradient)
    return _summed_products(inputs.flatten(1, -2), gradient.flatten(1, -2).mT)


def _normalisation(layer: nn.BatchNorm2d, inputs: Tensor, gradient: Tensor) -> Tensor:
    mean, variance = cast(Tensor, layer.running_mean), cast(Tensor, layer.running_var)
    products = ((inputs - mean[:, None, None]) * gradient).sum((2, 3))
    return (products.square() / (variance + layer.eps)).sum(1)


def _convolution(layer: nn.Conv2d, inputs: Tensor, gradient: Tensor) -> Tensor:
    """Each group at each output position is a linear layer on the patch under the kernel."""
    n, outputs, *places = gradient.shape
    by_group = gradient.reshape(n, layer.groups, outputs // layer.groups, -1)
    patch_bytes = layer.weight[0].numel() * layer.groups * by_group.shape[3] * inputs.element_size()
    squared = []
    for part, part_gradient in _together(inputs, by_group, patch_bytes):
        patches = _patches(layer, part, places)
        squared.append(_summed_products(patches.flatten(0, 1), part_gradient.flatten(0, 1)).view(len(part), -1).sum(1))
    return torch.cat(squared)


def _patches(layer: nn.Conv2d, inputs: Tensor, places: list[int]) -> Tensor:
    """The patch under the kernel at every output position.

    Channels are the last axis, so that whole runs of channels are copied, unlike in ``F.unfold``.

    Returns:
        (n, groups, positions, kernel height x kernel width x channels of a group).
    """
    (below, beside), (stride_y, stride_x), (step_y, step_x) = cast(Any, (layer.padding, layer.stride, layer.dilation))
    padded = F.pad(inputs.permute(0, 2, 3, 1), (0, 0, beside, beside, below, below)).contiguous()
    n, channels = len(inputs), inputs.shape[1] // layer.groups
    image, row, pixel, _ = padded.stride()
    windows = padded.as_strided(
        (n, layer.groups, *places, *layer.kernel_size, channels),
        (image, channels, stride_y * row, stride_x * pixel, step_y * row, step_x * pixel, 1),
    )
    return windows.reshape(n, layer.groups, places[0] * places[1], -1)


def _summed_products(inputs: Tensor, gradients: Tensor) -> Tensor:
    """Squared norms (n,) of the matrices sum_l gradients[:, :, l] x inputs[:, l, :].

    The function forms either the matrices or <inputs inputs', gradients' gradients>, whichever takes fewer products.

    Args:
        inputs: (n, L, D).
        gradients: (n, K, L).
    """
    (_, places, wide), high = inputs.shape, gradients.shape[1]
    form_matrix = wide * high <= places * (wide + high)
    elements = wide * high if form_matrix else 2 * places**2
    squared = []
    for a, g in _together(inputs, gradients, elements * inputs.element_size()):
        if form_matrix:
            squared.append((g @ a).square().sum((1, 2)))
        else:
            squared.append(((a @ a.mT) * (g.mT @ g)).sum((1, 2)))
    return torch.cat(squared)


def _together(inputs: Tensor, gradients: Tensor, row_bytes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Both tensors in equal parts, so small that a temporary of ``row_bytes`` per row stays within bounds."""
    rows = max(1, _TEMPORARY_BYTES // row_bytes)
    return zip(torch.split(inputs, rows), torch.split(gradients, rows), strict=True)
