"""Settings of Parquet files."""

from __future__ import annotations

import glob
from typing import Annotated, Literal

from poisonlab.config.data.source import FileDataset
from poisonlab.config.types import LATER, InputPaths, ShortText


class Parquet(FileDataset):
    """Parquet files in the Hugging Face layout: an image column (struct with ``bytes``) and a label column."""

    source: Literal["parquet"]
    train: InputPaths
    """File of the training split, or a list of its shards; ``*`` in a name stands for any text."""
    test: InputPaths
    """File of the test split, likewise."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, if the files do not record them."""
    image_column: Annotated[ShortText | None, LATER] = None
    """Column of the images; the only one, img or image if not given."""
    label_column: Annotated[ShortText | None, LATER] = None
    """Column of the labels, such as coarse_label; label, fine_label or labels if not given."""

    def split(self, name: Literal["train", "test"]) -> tuple[str, ...]:
        """The files of a split in order of their names; a pattern that no file fits stands for itself."""
        given: str | tuple[str, ...] = getattr(self, name)
        files: list[str] = []
        for path in (given,) if isinstance(given, str) else given:
            files += (sorted(glob.glob(path)) or [path]) if "*" in path else [path]
        return tuple(files)

    @property
    def files(self) -> tuple[str, ...]:
        """Both splits."""
        return (*self.split("train"), *self.split("test"))
