"""Read a dataset from whichever source its settings name.

Imports no torch and no source before one is asked for, so that the workflow can read settings at little cost.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from poisonlab import modules
from poisonlab.config.datasets import DatasetSettings, Npz, Parquet

if TYPE_CHECKING:
    from poisonlab.data.dataset import ImageDataset


def load_dataset(settings: DatasetSettings) -> ImageDataset:
    """Read the dataset that ``settings`` describes; see ``ImageDataset`` for shapes and dtypes.

    Raises:
        DataError: a file is missing, damaged or of the wrong shape, or a limit cannot be met.
    """
    dataset: ImageDataset = modules.load("data", settings.source).load(settings)
    return dataset if settings.validation is None else replace(dataset, validation=settings.validation)


def module_of(source: str) -> str:
    """Dotted name of the module that reads ``source``, such as ``poisonlab.data.digits_on_photos``."""
    return modules.module_name("data", source)


def files_of(settings: DatasetSettings) -> list[str]:
    """The single files the dataset is read from, present or not; empty for generated datasets and folders."""
    if isinstance(settings, Parquet):
        return [settings.train, settings.test]
    if isinstance(settings, Npz):
        return [settings.path]
    return []
