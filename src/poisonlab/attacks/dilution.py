"""Poison sets that lost some of their poisons: the rows that these replaced are clean again."""

from __future__ import annotations

import torch

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.randomness import generator


def diluted(poisons: PoisonSet, share: float, seed: int) -> PoisonSet:
    """The poisons that are left in their order; the goal stays, what was noted in crafting does not.

    Args:
        poisons: P of them.
        share: of them that are taken away, in (0, 1): to the nearest number, but one poison is always left.
        seed: draws which; with the same seed, a larger share takes away the same ones and more.
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
