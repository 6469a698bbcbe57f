"""Distances of poisons from their target, layer by layer (deep k-NN paper, figure 6; Gupta et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poisonlab.data.image_range import check_images
from poisonlab.data.training_set import pixels
from poisonlab.errors import DataError
from poisonlab.models.chunks import images_at_once, in_chunks
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.models.evaluating import evaluating

Reduce = Callable[[str, Tensor], Tensor]
"""Maps a layer's name and its outputs (B, D) float32 to (B,) numbers."""


@dataclass(frozen=True)
class LayerDistances:
    """Euclidean distances from the target, divided by the layer's mean norm.

    Attributes:
        layers: L names, in the order of the network; the last one's outputs are the penultimate features.
        poisons: (L, P) float64.
        bases: (L, P) float64, of the poisons' clean originals.
        norms: (L,) float64, the mean norms that divide the distances.
    """

    layers: tuple[str, ...]
    poisons: Tensor
    bases: Tensor
    norms: Tensor


def layers_of(extract: nn.Module) -> dict[str, nn.Module]:
    """The layers of a feature extractor, by the name of the module that has the weights.

    A layer is a convolution, a linear map or a whole block, with the modules before the next layer (normalisation,
    activation, pooling). The last of these modules gives the layer's outputs; for the last layer, the extractor does.
    Sequences and modules that wrap a single part are split into their parts; blocks are not.

    Raises:
        DataError: there is no module with weights.
    """
    layers: dict[str, nn.Module] = {}
    for name, module in _parts(extract, ""):
        if any(parameter.ndim > 1 for parameter in module.parameters()):
            # A number alone does not describe a layer: put the type before it.
            named = any(letter.isalpha() for letter in name)
            layers[name if named else f"{type(module).__name__} {name}"] = module
        elif layers:
            layers[next(reversed(layers))] = module
    if not layers:
        raise DataError("the network's feature extractor has no layer with weights")
    layers[next(reversed(layers))] = extract
    return layers


def _parts(module: nn.Module, prefix: str) -> list[tuple[str, nn.Module]]:
    children = [(f"{prefix}{name}", child) for name, child in module.named_children()]
    weighted = [name for name, child in children if any(True for _ in child.parameters())]
    parts: list[tuple[str, nn.Module]] = []
    for name, child in children:
        alone = weighted == [name] and len(list(child.children())) > 0
        parts += _parts(child, f"{name}.") if isinstance(child, nn.Sequential) or alone else [(name, child)]
    return parts


@torch.no_grad()
def by_layer(network: Classifier, normalize: Normalize, images: Tensor, reduce: Reduce) -> Tensor:
    """``reduce`` of every layer's outputs: (L, N) float64 on the CPU, in eval mode; the outputs are not kept.

    Args:
        network: the classifier; its extractor is split into layers by ``layers_of``.
        normalize: of the dataset.
        images: (N, C, H, W) uint8 or float in [0, 1].
        reduce: is called with a layer's flattened outputs for some of the images.

    Raises:
        DataError: the images are floats beyond [0, 1], or a layer has no output of its own.
    """
    check_images(images)
    layers, device = layers_of(network.extract), normalize.mean.device
    found: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def keep(module: nn.Module, given: object, output: object) -> None:
            if isinstance(output, Tensor):
                found[name] = reduce(name, output.flatten(1).float()).double().cpu()

        return keep

    def numbers(part: slice) -> Tensor:
        found.clear()
        network.extract(normalize(pixels(images[part].to(device))))
        if absent := [name for name in layers if name not in found]:
            raise DataError(f"layer {absent[0]} of the network has no output of its own")
        return torch.stack([found[name] for name in layers])

    hooks = [module.register_forward_hook(watch(name)) for name, module in layers.items()]
    try:
        parts = in_chunks(numbers, len(images), images_at_once(images, 256), "images that layers are looked at with")
        with evaluating(network):
            return torch.cat(list(parts), 1)
    finally:
        for hook in hooks:
            hook.remove()


def layer_distances(
    network: Classifier, normalize: Normalize, target: Tensor, poisons: Tensor, bases: Tensor, others: Tensor
) -> LayerDistances:
    """Distances from the target in every layer, divided by the mean norm of the layer's outputs.

    Args:
        network: the classifier.
        normalize: of the dataset.
        target: (1, C, H, W) image.
        poisons, bases: (P, C, H, W) images, uint8 or float in [0, 1].
        others: (N, C, H, W) images whose outputs' mean norm is the unit of each layer. The paper divides by "the
            average norm of its feature vectors" and does not say of which images.

    Raises:
        DataError: a layer's outputs are zero for all of the ``others``.
    """
    outputs: dict[str, Tensor] = {}

    def length(name: str, output: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(output, dim=1)
        return norms

    def remember(name: str, output: Tensor) -> Tensor:
        # A copy: a later layer may change the output in place.
        outputs[name] = output.clone()
        return length(name, output)

    by_layer(network, normalize, target, remember)
    norms = by_layer(network, normalize, others, length).mean(1)
    if not bool((norms > 0).all()):
        raise DataError("a layer of the network is silent on every image: did its training diverge?")

    def away(name: str, output: Tensor) -> Tensor:
        return length(name, output - outputs[name])

    distances = [by_layer(network, normalize, images, away) / norms[:, None] for images in (poisons, bases)]
    return LayerDistances(tuple(layers_of(network.extract)), distances[0], distances[1], norms)
