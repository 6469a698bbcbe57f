"""JPEG training images, which removes fine detail of poisons (Liu, Zhao, Larson 2023, "Image Shortcut Squeezing").

Pillow encodes each image as JPEG and decodes it again, as in the release. Test images are not compressed, as by the
release's default, and neither are validation images. The release compresses in every epoch, before augmentation. The
compression is deterministic, so it is done once here, before the first epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from poisonlab.config.defenses.jpeg import Jpeg as Settings
from poisonlab.data.squeezing import in_bytes, through_jpeg
from poisonlab.data.training_set import TrainingSet
from poisonlab.training.defense import Defense


@dataclass(frozen=True)
class Jpeg(Defense):
    """Train on images of JPEG quality ``settings.quality``."""

    settings: Settings

    @property
    def squeezes(self) -> bool:
        return True

    def prepare(self, data: TrainingSet) -> TrainingSet:
        return replace(data, images=through_jpeg(in_bytes(data.images), self.settings.quality))


def build(settings: Settings, noise: Tensor | None = None) -> Jpeg:
    """The defense that ``settings`` describes."""
    return Jpeg(settings)
