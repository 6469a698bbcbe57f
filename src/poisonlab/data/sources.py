"""Read a dataset from whichever source its settings name."""

from __future__ import annotations

from dataclasses import replace

from poisonlab import modules
from poisonlab.config.data.source import Source
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import SettingsError


def load_dataset(settings: Source) -> ImageDataset:
    """Read the dataset that ``settings`` describes; see ``ImageDataset`` for shapes and dtypes.

    Raises:
        DataError: a file is missing, damaged or of the wrong shape, or a limit cannot be met.
        SettingsError: ``settings`` are not those of a source, but for example a path.
    """
    if not isinstance(settings, Source):
        raise SettingsError(
            f"load_dataset takes the settings of a source, not a {type(settings).__name__}: source_at(Path(...)) of "
            "poisonlab.data.source_at finds those of a folder or file"
        )
    dataset: ImageDataset = modules.load("data", settings.source).load(settings)
    return dataset if settings.validation is None else replace(dataset, validation=settings.validation)
