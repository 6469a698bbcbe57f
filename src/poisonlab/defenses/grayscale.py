"""Gray training images: poisons of colour are gone (Liu, Zhao, Larson 2023, "Image Shortcut Squeezing", ICML).

The network keeps its channels, which all hold the same. By the release's default test images keep their colours, and so
do they here; validation images do, too. The release makes images gray in every epoch, before it augments them; as this
draws nothing, it is done once, before the first epoch.
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
