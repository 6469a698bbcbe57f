"""How large a dataset is, which is all that the work depends on."""

from __future__ import annotations

from dataclasses import dataclass

from poisonlab.config.data.cifar import Cifar
from poisonlab.config.data.digits_on_photos import DigitsOnPhotos
from poisonlab.config.datasets import DatasetSettings
from poisonlab.config.start import Start
from poisonlab.data.sources import load_dataset

_CIFAR_TRAIN, _CIFAR_TEST = 50_000, 10_000


@dataclass(frozen=True)
class Sizes:
    """Images of both splits, classes (taken to be equally large), and (C, H, W) of an image."""

    train: int
    test: int
    classes: int
    image_shape: tuple[int, int, int]

    def of_class(self, images: int) -> int:
        """How many of ``images`` are of one class."""
        return max(1, round(images / self.classes))

    def trained_on(self, start: Start) -> int:
        """Images that a victim is trained on."""
        each = start.fine_tune_per_class
        return self.train if each is None else min(self.train, each * self.classes)


def sizes_of(settings: DatasetSettings) -> Sizes:
    """The sizes of the dataset that ``settings`` describe; files are read unless the sizes are known without.

    Raises:
        DataError: a file is missing, damaged or of the wrong shape, or a limit cannot be met.
    """
    if isinstance(settings, DigitsOnPhotos):
        return Sizes(settings.train_size, settings.test_size, 10, (3, settings.size, settings.size))
    if isinstance(settings, Cifar):
        train = min(_CIFAR_TRAIN, settings.train_limit or _CIFAR_TRAIN)
        test = min(_CIFAR_TEST, settings.test_limit or _CIFAR_TEST)
        return Sizes(train, test, 10 if settings.source == "cifar10" else 100, (3, 32, 32))
    dataset = load_dataset(settings)
    return Sizes(len(dataset.train_labels), len(dataset.test_labels), dataset.num_classes, dataset.image_shape)
