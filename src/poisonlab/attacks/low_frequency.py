"""Low-frequency noise (Sandoval-Segura et al. 2022, section 3.3): one smooth random pattern for every class.

In the discrete cosine transform of a pattern, the n x n lowest coefficients of each channel are drawn from a normal
distribution; the others are zero. Nothing is optimised, so the attack needs no surrogate. The paper states neither the
transform's normalisation nor the scaling: see ``scaling``. Here the transform is orthonormal. In a transform without
normalisation, such as scipy's default, frequency 0 of each axis has a weight smaller by the root of 2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.whole_set import poisoned_rows, with_class_noise
from poisonlab.config.attacks.low_frequency import LowFrequency as Settings
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import SettingsError
from poisonlab.randomness import generator


def craft(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, *, seed: int, progress: bool = False
) -> PoisonSet:
    """Add the noise of its class to every image that ``seed`` draws, or to all if the budget is 1.

    Args:
        dataset: clean data.
        attacker: only the rows that the victim is trained on are used.
        settings: frequencies, budget, bound.
        seed: of the coefficients and of the poisoned rows.
        progress: ignored; crafting takes too little time for a progress bar.

    Returns:
        Poisons without a goal, with the labels of their bases; pixels are cut off at 0 and 255.
        ``diagnostics["class_noise"]`` is (K, C, H, W) int16, in levels.

    Raises:
        SettingsError: there are more frequencies than pixels along an axis.
    """
    rows = poisoned_rows(dataset, attacker, settings.budget, seed, "low-frequency")
    noise = class_noise(dataset.num_classes, dataset.image_shape, settings, seed)
    return with_class_noise(dataset, rows, noise, settings.eps)


def class_noise(classes: int, shape: tuple[int, int, int], settings: Settings, seed: int) -> Tensor:
    """(K, C, H, W) int16 levels: every class's pattern, scaled to a largest change of ``eps`` and rounded.

    Raises:
        SettingsError: there are more frequencies than pixels along an axis.
    """
    channels, height, width = shape
    count = settings.frequencies
    if count > min(height, width):
        raise SettingsError(
            f"frequencies: {count} along each axis are more than images of {height} x {width} pixels have: lower them"
        )
    stream = generator("cpu", seed, "low-frequency", "coefficients")
    drawn = torch.randn(classes, channels, count, count, generator=stream, dtype=torch.float64)
    waves = cosines(height)[:count].T @ drawn @ cosines(width)[:count]
    axes = (1, 2, 3) if settings.scaling == "image" else (2, 3)
    return (settings.eps * waves / waves.abs().amax(axes, keepdim=True)).round().to(torch.int16)


def cosines(size: int) -> Tensor:
    """(size, size) float64: the orthonormal basis of DCT-II, one vector per row; row k has k half periods."""
    frequency, place = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi / size * (place + 0.5) * frequency) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis
