"""Settings of folders of images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.data.source import FileDataset
from poisonlab.config.types import InputPath


class ImageFolder(FileDataset):
    """Folders ``<root>/train/<class>/*`` and ``<root>/test/<class>/*`` of image files."""

    source: Literal["image-folder"]
    root: InputPath
    """Folder that holds ``train`` and ``test``."""
    size: Annotated[int, Field(ge=8, le=4096)] | None = None
    """Resize so that the image is size x size; without it all images must have one shape."""
