"""Settings of Parquet files."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.data.source import FileDataset
from poisonlab.config.types import InputPath


class Parquet(FileDataset):
    """Parquet files in the Hugging Face layout: an image column (struct with ``bytes``) and a label column."""

    source: Literal["parquet"]
    train: InputPath
    """File of the training split."""
    test: InputPath
    """File of the test split."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, if the files do not record them."""

    @property
    def files(self) -> tuple[str, ...]:
        """Both splits."""
        return (self.train, self.test)
