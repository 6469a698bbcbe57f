"""Regions noise (Sandoval-Segura et al. 2022, section 3): one pattern of coloured patches for every class.

A network learns to distinguish such patterns sooner than the content of the images. The colours are drawn and not
optimised, so the attack needs no surrogate. In the paper's names, R1 has 1 patch and RN one patch per pixel. The paper
gives no shape for R2 and R128. Here a grid with twice a square number of patches has twice as many rows as columns, or
columns as rows (``patch_shape``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.whole_set import poisoned_rows, with_class_noise
from poisonlab.config.attacks.regions import Regions as Settings
from poisonlab.config.attacks.regions import grid_of
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
        settings: patches, budget, bound.
        seed: of the colours and of the poisoned rows.
        progress: ignored; crafting takes too little time for a progress bar.

    Returns:
        Poisons without a goal, with the labels of their bases; pixels are cut off at 0 and 255.
        ``diagnostics["class_noise"]`` is (K, C, H, W) int16, in levels.

    Raises:
        SettingsError: the patches do not tile the images.
    """
    rows = poisoned_rows(dataset, attacker, settings.budget, seed, "regions")
    noise = class_noise(dataset.num_classes, dataset.image_shape, settings, seed)
    return with_class_noise(dataset, rows, noise, settings.eps)


def class_noise(classes: int, shape: tuple[int, int, int], settings: Settings, seed: int) -> Tensor:
    """(K, C, H, W) int16 levels: every class's patches.

    Raises:
        SettingsError: the patches do not tile the image.
    """
    channels, height, width = shape
    rows, columns = grid_of(settings.regions)
    if settings.patch_shape == "tall":
        rows, columns = columns, rows
    if height % rows or width % columns:
        raise SettingsError(
            f"regions: {settings.regions} is a grid of {rows} x {columns} patches, which does not tile images of "
            f"{height} x {width} pixels: choose another number"
        )
    stream = generator("cpu", seed, "regions", "colours")
    drawn = torch.randint(0, 2, (classes, channels, rows, columns), generator=stream, dtype=torch.int16)
    colours = (2 * drawn - 1 if settings.signs == "both" else drawn) * settings.eps
    return colours.repeat_interleave(height // rows, 2).repeat_interleave(width // columns, 3)
