"""Settings of a NumPy archive."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.data.source import FileDataset
from poisonlab.config.types import InputPath


class Npz(FileDataset):
    """One ``.npz`` with x_train, y_train, x_test, y_test; images (N, H, W, C) or (N, C, H, W) uint8."""

    source: Literal["npz"]
    path: InputPath
    """The file."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes; numbers if not given."""

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (self.path,)
