"""Read a dataset from whichever source its settings name."""

from __future__ import annotations

from dataclasses import replace

from poisonlab import modules
from poisonlab.config.data.source import Source
from poisonlab.data.dataset import ImageDataset


def load_dataset(settings: Source) -> ImageDataset:
    """Read the dataset that ``settings`` describes; see ``ImageDataset`` for shapes and dtypes.

    Raises:
        DataError: a file is missing, damaged or of the wrong shape, or a limit cannot be met.
    """
    dataset: ImageDataset = modules.load("data", settings.source).load(settings)
    return dataset if settings.validation is None else replace(dataset, validation=settings.validation)
