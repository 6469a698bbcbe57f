"""Random filter: drop a random share of all examples, the baseline that any filter should beat.

Peri et al. 2020, "Deep k-NN Defense against Clean-label Data Poisoning Attacks", section 4; the text says 1 %, the
tables show 10 %.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poisonlab.config.filters.random_filter import RandomFilter as Settings
from poisonlab.filters.per_class import share_to_drop
from poisonlab.filters.verdict import Verdict
from poisonlab.randomness import generator


def random_filter(labels: Tensor, *, fraction: float, seed: int = 0) -> Verdict:
    """Drop floor(fraction * N) examples, each equally likely.

    Args:
        labels: (N,) int64; only their number and device matter.
        fraction: share of all examples to drop.
        seed: of the choice, which is the same on every device.

    Returns:
        keep (N,) bool; no score.

    Raises:
        SettingsError: ``fraction`` is not in [0, 1), or so small that it drops no example.
    """
    order = torch.randperm(len(labels), generator=generator("cpu", seed, "random-filter"))
    keep = torch.ones(len(labels), dtype=torch.bool)
    keep[order[: share_to_drop(fraction, len(labels))]] = False
    return Verdict(keep.to(labels.device))


def judge(settings: Settings, features: Tensor, labels: Tensor, *, seed: int = 0) -> Verdict:
    """The verdict of the filter that ``settings`` describes."""
    return random_filter(labels, fraction=settings.fraction, seed=seed)
