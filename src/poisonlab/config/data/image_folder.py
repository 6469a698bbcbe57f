"""Settings of folders of images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.class_folders import ClassOrder, class_folders, image_files, split_folders
from poisonlab.config.data.source import FileDataset
from poisonlab.config.types import LATER, InputPath
from poisonlab.errors import DataError

BESIDE_A_PATH = ("size", "class_order")
"""Keys that scans and ``make protect`` take beside the path of a folder of images."""


class ImageFolder(FileDataset):
    """Folders ``<root>/train/<class>/*`` and ``<root>/test/<class>/*`` (or ``val``) of image files."""

    source: Literal["image-folder"]
    root: InputPath
    """Folder that holds ``train`` and ``test``. Where ``test`` has no class folders, ``val``, ``valid`` or
    ``validation`` is the test split."""
    size: Annotated[int, Field(ge=8, le=4096)] | None = None
    """Resize so that the image is size x size; without it all images must have one shape."""

    splits: Annotated[bool, LATER] = True
    """Whether ``root`` holds the folders of two splits. If not, it holds class folders, and their images are both."""

    class_order: Annotated[ClassOrder, LATER] = "natural"
    """How class folders are numbered: ``natural`` has 2 before 10, ``text`` has 10 before 2, as torchvision's
    ``ImageFolder``. Weights that were trained elsewhere need the order that they were trained with."""

    @property
    def folders(self) -> tuple[Path, Path]:
        """Where the class folders of the training and of the test split lie."""
        root = Path(self.root)
        return split_folders(root) if self.splits else (root, root)

    @property
    def folder_files(self) -> tuple[str, ...]:
        """Every image file."""
        return tuple(self._found())

    def _found(self) -> Iterator[str]:
        for split in dict.fromkeys(self.folders):
            try:
                for name in class_folders(split):
                    images, _ = image_files(split / name)
                    yield from map(str, images or [split / name])
            except DataError:
                yield str(split)
