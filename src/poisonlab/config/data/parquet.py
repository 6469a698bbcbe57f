"""Settings of Parquet files."""

from __future__ import annotations

from typing import Annotated, Literal

from poisonlab.config.data.shards import SplitName, shard_files
from poisonlab.config.data.source import FileDataset
from poisonlab.config.types import LATER, InputPaths, ShortText


class Parquet(FileDataset):
    """Parquet files in the Hugging Face layout: a column of images (bytes or structs with ``bytes``), one of labels."""

    source: Literal["parquet"]
    train: InputPaths
    """File of the training split, or a list of its shards; ``*`` in a name matches any text, and a folder means its
    files that end in .parquet."""
    test: InputPaths
    """File or files of the test split, as in ``train``."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, if the files do not record them."""
    image_column: Annotated[ShortText | None, LATER] = None
    """Column of the images; the only one, img or image if not given."""
    label_column: Annotated[ShortText | None, LATER] = None
    """Column of the labels, such as coarse_label. If not given: label, fine_label, labels, or the only column of
    classes or of integers."""

    def split(self, name: SplitName) -> tuple[str, ...]:
        """The files of a split, see ``shard_files``."""
        return shard_files(getattr(self, name), name, ".parquet")

    @property
    def files(self) -> tuple[str, ...]:
        """Both splits."""
        return (*self.split("train"), *self.split("test"))
