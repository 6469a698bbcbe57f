"""Poison sets with some poisons removed: the rows of the removed poisons are clean again."""

from __future__ import annotations

import torch

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.randomness import generator


def diluted(poisons: PoisonSet, share: float, seed: int) -> PoisonSet:
    """The remaining poisons, in their order, with the goal and the facts; the diagnostics of crafting are dropped.

    Args:
        poisons: a set of P poisons.
        share: of the poisons to remove, in (0, 1), rounded to whole poisons; at least one poison remains.
        seed: draws the removed poisons; with the same seed, a larger share removes the same poisons and more.
    """
    count = len(poisons.indices)
    gone = min(round(share * count), count - 1)
    order = torch.randperm(count, generator=generator("cpu", seed, "dilution"))
    left = order[gone:].sort().values
    return PoisonSet(
        indices=poisons.indices[left],
        images=poisons.images[left],
        labels=poisons.labels[left],
        base_images=poisons.base_images[left],
        goal=poisons.goal,
        facts=poisons.facts,
    )
