"""Settings of the data sources; ``source`` names the module of ``poisonlab.data`` that reads it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.types import LATER, InputPath, NonNegativeFloat, PositiveInt, Settings
from poisonlab.config.validation import Validation

ChannelValues = Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)]


class Dataset(Settings):
    """Settings that every source has."""

    validation: Annotated[Validation | None, LATER] = None
    """Training images to set apart for early stopping; none if not given."""


class DigitsOnPhotos(Dataset):
    """Handwritten digits blended onto photographs; ships with scikit-learn, needs no download."""

    source: Literal["digits-on-photos"] = "digits-on-photos"
    train_size: Annotated[int, Field(ge=10, le=10_000_000)] = 3000
    """Training images; the ten classes are balanced."""
    test_size: Annotated[int, Field(ge=10, le=10_000_000)] = 1000
    """Test images; the ten classes are balanced."""
    size: Annotated[int, Field(ge=16, le=128)] = 32
    """Height and width in pixels."""
    contrast: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Strength of the digit's stroke over the photograph; smaller is harder."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the whole drawing of the dataset."""


class FileDataset(Dataset):
    """What the sources that read files have in common."""

    train_limit: PositiveInt | None = None
    """Use only this many training images, drawn class-balanced with ``subset_seed``."""
    test_limit: PositiveInt | None = None
    """Use only this many test images."""
    subset_seed: Annotated[int, Field(ge=0)] = 0
    """Of the draw of the subset."""
    mean: ChannelValues | None = None
    """Normalisation mean per channel in [0, 1]; measured on the training images if not given."""
    std: ChannelValues | None = None
    """Normalisation standard deviation per channel in [0, 1]; measured if not given."""


class Cifar(FileDataset):
    """CIFAR-10 or CIFAR-100 as torchvision stores them."""

    source: Literal["cifar10", "cifar100"]
    """Which of the two."""
    root: InputPath = "data"
    """Folder that torchvision keeps the dataset in."""
    download: bool = False
    """Download it if it is not there."""


class Parquet(FileDataset):
    """Parquet files in the Hugging Face layout: an image column (struct with ``bytes``) and a label column."""

    source: Literal["parquet"]
    train: InputPath
    """File of the training split."""
    test: InputPath
    """File of the test split."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, if the files do not record them."""


class Npz(FileDataset):
    """One ``.npz`` with x_train, y_train, x_test, y_test; images (N, H, W, C) or (N, C, H, W) uint8."""

    source: Literal["npz"]
    path: InputPath
    """The file."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes; numbers if not given."""


class ImageFolder(FileDataset):
    """Folders ``<root>/train/<class>/*`` and ``<root>/test/<class>/*`` of image files."""

    source: Literal["image-folder"]
    root: InputPath
    """Folder that holds ``train`` and ``test``."""
    size: Annotated[int, Field(ge=8, le=4096)] | None = None
    """Resize so that the image is size x size; without it all images must have one shape."""


DatasetSettings = Annotated[
    DigitsOnPhotos | Cifar | Parquet | Npz | ImageFolder,
    Field(discriminator="source"),
]
