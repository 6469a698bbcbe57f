"""Settings of idx files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from poisonlab.config.data.source import FileDataset
from poisonlab.config.types import InputPath

_PARTS = (("train", "images"), ("train", "labels"), ("test", "images"), ("test", "labels"))
_BEGINNINGS = {"train": ("train",), "test": ("t10k", "test")}
_DIMENSIONS = {"images": 3, "labels": 1}


class Idx(FileDataset):
    """The four idx files of MNIST, Fashion-MNIST or KMNIST, as published, unpacked or as ``.gz``; images are grey."""

    source: Literal["idx"]
    root: InputPath
    """Folder that holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
    t10k-labels-idx1-ubyte."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes; numbers if not given."""

    @property
    def files(self) -> tuple[str, ...]:
        """Training images, training labels, test images and test labels; unpacked ones where both are there."""
        return tuple(_file(Path(self.root), split, kind) for split, kind in _PARTS)


def _file(root: Path, split: str, kind: str) -> str:
    names = [
        f"{beginning}-{kind}{mark}idx{_DIMENSIONS[kind]}-ubyte{packed}"
        for packed in ("", ".gz")
        for beginning in _BEGINNINGS[split]
        for mark in "-."
    ]
    found = [name for name in names if (root / name).is_file()]
    return str(root / (found or names)[0])
