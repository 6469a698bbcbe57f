"""Settings of WebDataset archives."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.data.shards import SplitName, shard_files
from poisonlab.config.data.source import FileDataset
from poisonlab.config.types import InputPaths


class WebDataset(FileDataset):
    """Tar archives in the WebDataset layout: ``<key>.png`` or ``.jpg`` and ``<key>.cls`` or ``.json`` of each image."""

    source: Literal["webdataset"]
    train: InputPaths
    """Archive of the training split, or a list of its shards; ``*`` in a name matches any text, and a folder means its
    files that end in .tar."""
    test: InputPaths
    """Archive or archives of the test split, as in ``train``."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes. Labels may be these names or their places from 0; without it they are numbers."""

    def split(self, name: SplitName) -> tuple[str, ...]:
        """The files of a split, see ``shard_files``."""
        return shard_files(getattr(self, name), name, ".tar")

    @property
    def files(self) -> tuple[str, ...]:
        """Both splits."""
        return (*self.split("train"), *self.split("test"))
