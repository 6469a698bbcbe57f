"""Gray training images, which removes poisons of colour (Liu, Zhao, Larson 2023, "Image Shortcut Squeezing", ICML).

Images keep their channels, which become equal. Test images keep their colours, as by the release's default, and so do
validation images. The release converts images in every epoch, before augmentation. The conversion is deterministic, so
it is done once here, before the first epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from poisonlab.config.defenses.grayscale import Grayscale as Settings
from poisonlab.data.squeezing import gray, in_bytes
from poisonlab.data.training_set import TrainingSet
from poisonlab.training.defense import Defense


@dataclass(frozen=True)
class Grayscale(Defense):
    """Train on gray images."""

    settings: Settings

    @property
    def squeezes(self) -> bool:
        return True

    def prepare(self, data: TrainingSet) -> TrainingSet:
        return replace(data, images=gray(in_bytes(data.images)))


def build(settings: Settings, noise: Tensor | None = None) -> Grayscale:
    """The defense that ``settings`` describes."""
    return Grayscale(settings)
