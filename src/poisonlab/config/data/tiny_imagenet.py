"""Settings of TinyImageNet."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Literal

from poisonlab.config.class_folders import SUFFIXES
from poisonlab.config.data.source import FileDataset
from poisonlab.config.types import InputPath

_IMAGES = ("train/*/images/*", "val/images/*")
WNIDS, ANNOTATIONS = "wnids.txt", "val/val_annotations.txt"


class TinyImageNet(FileDataset):
    """TinyImageNet as tiny-imagenet-200.zip lays it out; its labelled validation images are the test split."""

    source: Literal["tiny-imagenet"]
    root: InputPath
    """The zip file, or the folder with ``train``, ``val`` and ``wnids.txt``."""

    @property
    def zipped(self) -> bool:
        """Whether the root is the zip file."""
        return self.root.lower().endswith(".zip")

    @property
    def files(self) -> tuple[str, ...]:
        """The zip file, if it is one."""
        return (self.root,) if self.zipped else ()

    @property
    def folder_files(self) -> tuple[str, ...]:
        """Every image, the list of classes and the classes of the test images, if it is a folder."""
        if self.zipped:
            return ()
        return tuple(str(Path(self.root) / name) for name in (WNIDS, ANNOTATIONS, *self.images))

    @property
    def images(self) -> tuple[str, ...]:
        """The image files of the folder, as paths from it, in order of their names."""
        found = [name for pattern in _IMAGES for name in sorted(glob.glob(pattern, root_dir=self.root))]
        return tuple(name for name in found if Path(name).suffix.lower() in SUFFIXES)
