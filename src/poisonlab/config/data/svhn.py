"""Settings of SVHN."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from poisonlab.config.data.source import FileDataset
from poisonlab.config.types import InputPath


class Svhn(FileDataset):
    """Street View House Numbers, cropped digits: the files train_32x32.mat and test_32x32.mat as published."""

    source: Literal["svhn"]
    root: InputPath
    """Folder that holds both files."""

    @property
    def files(self) -> tuple[str, ...]:
        """Training and test split."""
        return tuple(str(Path(self.root) / f"{split}_32x32.mat") for split in ("train", "test"))
