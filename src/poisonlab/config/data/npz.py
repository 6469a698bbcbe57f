"""Settings of a NumPy archive."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.data.source import FileDataset
from poisonlab.config.types import LATER, InputPath, ShortText

FourNames = Annotated[tuple[ShortText, ...], Field(min_length=4, max_length=4)]


class Npz(FileDataset):
    """One ``.npz`` with x_train, y_train, x_test, y_test; images (N, H, W, C), (N, C, H, W) or (N, H, W) uint8."""

    source: Literal["npz"]
    path: InputPath
    """The file."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes; numbers if not given."""
    arrays: Annotated[FourNames | None, LATER] = None
    """Names of the arrays of training images, training labels, test images and test labels. If not given, usual names
    are tried, such as X_train, train_images or trainx, and y_train, train_labels or trainy. Where none is called test,
    val, valid or validation is the test split."""

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (self.path,)
