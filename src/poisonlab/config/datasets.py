"""The data sources that a study can choose from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from poisonlab.config.data.cifar import Cifar
from poisonlab.config.data.digits_on_photos import DigitsOnPhotos
from poisonlab.config.data.idx import Idx
from poisonlab.config.data.image_folder import ImageFolder
from poisonlab.config.data.npz import Npz
from poisonlab.config.data.parquet import Parquet
from poisonlab.config.data.svhn import Svhn
from poisonlab.config.data.tiny_imagenet import TinyImageNet
from poisonlab.config.data.webdataset import WebDataset

# A new source joins this union.
DatasetSettings = Annotated[
    DigitsOnPhotos | Cifar | Parquet | Npz | ImageFolder | Idx | Svhn | TinyImageNet | WebDataset,
    Field(discriminator="source"),
]
