"""The data sources that a study can choose from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from poisonlab.config.data.cifar import Cifar
from poisonlab.config.data.digits_on_photos import DigitsOnPhotos
from poisonlab.config.data.idx import Idx
from poisonlab.config.data.image_folder import ImageFolder
from poisonlab.config.data.npz import Npz
from poisonlab.config.data.parquet import Parquet
from poisonlab.config.data.set_apart import SetApart
from poisonlab.config.data.svhn import Svhn
from poisonlab.config.data.tiny_imagenet import TinyImageNet
from poisonlab.config.data.webdataset import WebDataset

# A new source joins this union.
OneSource = DigitsOnPhotos | Cifar | Parquet | Npz | ImageFolder | Idx | Svhn | TinyImageNet | WebDataset


class Reordered(SetApart):
    """The images of another source, reordered: those that victims are fine-tuned on come last in each class.

    Among the last ``last_per_class`` training images of a class, the first ``first`` move behind the others; each class
    keeps its rows. With ``held_out_per_class: 200`` and ``fine_tune_per_class: 50`` this is the split of convex
    polytope (Zhu et al. 2019) and of the deep k-NN paper. Networks are pretrained on images 0 to 4,799 of a class and
    fine-tuned on 4,800 to 4,849; 4,850 to 4,999 are targets.
    """

    of: Annotated[OneSource, Field(discriminator="source")]
    """The source that the images come from, with its own settings but for ``validation``."""

    @model_validator(mode="after")
    def _check_validation(self) -> Reordered:
        if self.of.validation is not None:
            raise ValueError("set validation beside 'of', not inside it")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """The other source's files."""
        return self.of.files

    @property
    def folder_files(self) -> tuple[str, ...]:
        """The other source's files in folders."""
        return self.of.folder_files


DatasetSettings = Annotated[OneSource | Reordered, Field(discriminator="source")]


def source_of(dataset: DatasetSettings) -> OneSource:
    """The source that the images come from, whatever order they are put in."""
    return dataset.of if isinstance(dataset, Reordered) else dataset
