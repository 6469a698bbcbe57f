"""Common settings of data sources."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from poisonlab.config.types import LATER, NonNegativeFloat, PositiveInt, Settings
from poisonlab.config.validation import Validation


def _of_the_range(value: float) -> float:
    if value > 1:
        raise ValueError(
            f"{value:g} is more than 1: statistics are of pixels scaled to [0, 1], so divide it by 255, which gives "
            f"{value / 255:.4g}"
        )
    return value


ChannelValue = Annotated[NonNegativeFloat, AfterValidator(_of_the_range)]
ChannelValues = Annotated[tuple[ChannelValue, ...], Field(min_length=1)]


class Source(Settings):
    """Settings that every data source has, besides its own."""

    source: str
    """Names the module of ``poisonlab.data`` that reads it."""
    validation: Annotated[Validation | None, LATER] = None
    """Training images to set apart for early stopping; none if not given."""

    @property
    def files(self) -> tuple[str, ...]:
        """The single files that the dataset is read from, present or not; none for generated datasets and folders."""
        return ()

    @property
    def folder_files(self) -> tuple[str, ...]:
        """The files that now exist in the folders that the dataset is read from; of an empty folder, the folder itself.
        Empty if the reader checks contents itself."""
        return ()


class FileDataset(Source):
    """Common settings of the sources that read files."""

    train_limit: PositiveInt | None = None
    """Use only this many training images, drawn class-balanced with ``subset_seed``."""
    test_limit: PositiveInt | None = None
    """Use only this many test images."""
    subset_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the subset's draw."""
    mean: ChannelValues | None = None
    """Normalisation mean per channel in [0, 1]; measured on the training images if not given."""
    std: ChannelValues | None = None
    """Normalisation standard deviation per channel in [0, 1]; measured if not given."""
