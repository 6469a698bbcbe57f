"""The data sources that a study can choose from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from poisonlab.config.data.cifar import Cifar
from poisonlab.config.data.digits_on_photos import DigitsOnPhotos
from poisonlab.config.data.image_folder import ImageFolder
from poisonlab.config.data.npz import Npz
from poisonlab.config.data.parquet import Parquet

# A new source joins this union.
DatasetSettings = Annotated[
    DigitsOnPhotos | Cifar | Parquet | Npz | ImageFolder,
    Field(discriminator="source"),
]
