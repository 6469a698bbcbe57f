"""The blocks of a feature extractor, and their outputs."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Literal

from torch import Tensor, nn

from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Classifier


def blocks_of(extract: nn.Module) -> list[nn.Module]:
    """The modules that contain layers and weights, in the order of registration.

    A sequence is not a block itself, but may hold blocks. If there is only one block, as in a wrapper, the blocks
    inside it are returned.
    """
    found: list[nn.Module] = []
    for child in extract.children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            found += blocks_of(child)
        elif next(child.children(), None) is not None and next(child.parameters(), None) is not None:
            found.append(child)
    if len(found) == 1:
        return blocks_of(found[0]) or found
    return found


def features_on_the_way(network: Classifier, inputs: Tensor, blocks: int | Literal["all"] = 0) -> list[Tensor]:
    """The outputs of ``blocks`` blocks before the last one, and the penultimate features.

    Args:
        inputs: normalised images (B, C, H, W).
        blocks: number of blocks before the last one. The last block counts through the penultimate features.

    Returns:
        The output of each block, (B, C, H, W) if it is convolutional, in the network's order; then the penultimate
        features (B, D).

    Raises:
        SettingsError: the network has fewer blocks, or none.
    """
    if blocks == 0:
        return [network.extract(inputs)]
    before = blocks_of(network.extract)[:-1]
    if not before or (blocks != "all" and blocks > len(before)):
        raise SettingsError(
            f"blocks: {blocks}, but the surrogate has {len(before)} blocks before its last one: "
            + ("set 0, for its penultimate features alone" if not before else f"set up to {len(before)}, or all")
        )
    chosen = before if blocks == "all" else before[-blocks:]
    seen: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, _: Any, output: Tensor) -> None:
        seen[module] = output

    with ExitStack() as hooks:
        for block in chosen:
            hooks.callback(block.register_forward_hook(keep).remove)
        last = network.extract(inputs)
    return [*(seen[block] for block in chosen), last]
