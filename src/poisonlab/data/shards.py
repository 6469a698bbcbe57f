"""Splits that lie in several files (shards): reads them in order, and refuses a split that lacks one."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from poisonlab.errors import DataError, DataWarning

_SHARD = re.compile(r"(?P<split>.*-|)(?P<place>[0-9]{5})-of-(?P<count>[0-9]{5})(?:-[0-9a-f]+)?\.parquet", re.DOTALL)

ClassNames = tuple[str, ...] | None
Part = tuple[Tensor, Tensor, ClassNames]
"""Images (N, C, H, W) uint8, labels (N,) int64 and the names of the classes, if they are recorded."""


OF_BOTH = "of both splits: accuracy is measured on images of the training, unless the test images are named apart"


def named(files: Sequence[str]) -> str:
    """How a message names some files."""
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def warn_of_both(train: Sequence[str], test: Sequence[str]) -> None:
    """Issue a ``DataWarning`` if a file belongs to both splits."""
    if twice := sorted(set(train) & set(test)):
        warnings.warn(f"{twice[0]} is a file {OF_BOTH}", DataWarning, stacklevel=3)


def read_split(files: Sequence[str], read: Callable[[Path], Part]) -> Part:
    """Read one split from its shards, in order.

    Args:
        files: at least one.
        read: reads one shard.

    Raises:
        DataError: a shard is missing, or images or class names do not fit together.
    """
    _check_shards(files)
    parts = []
    for file in files:
        if Path(file).is_dir():
            raise DataError(
                f"{file} is a folder without files of this split: add them, or name each split's files in the config"
            )
        if not Path(file).is_file():
            raise DataError(f"{file} is missing: correct the path in the config, or put the file there")
        parts.append(read(Path(file)))
    for file, (images, _, names) in zip(files, parts, strict=True):
        if images.shape[1:] != parts[0][0].shape[1:]:
            raise DataError(
                f"{file} has images of {tuple(images.shape[1:])} but {files[0]} of {tuple(parts[0][0].shape[1:])}: "
                "resize the images to one shape and write the files again"
            )
        if names != parts[0][2]:
            raise DataError(f"{file} and {files[0]} name different classes: use shards of the same dataset")
    return torch.cat([images for images, _, _ in parts]), torch.cat([labels for _, labels, _ in parts]), parts[0][2]


def _check_shards(files: Sequence[str]) -> None:
    """Refuse a split that lacks shards, judged by the file names of the Hugging Face layout.

    Raises:
        DataError: a shard is missing.
    """
    found: dict[tuple[str, int], set[int]] = {}
    for file in files:
        if (shard := _SHARD.fullmatch(file)) is not None:
            found.setdefault((shard["split"], int(shard["count"])), set()).add(int(shard["place"]))
    for (split, count), places in found.items():
        if missing := sorted(set(range(count)) - places):
            raise DataError(
                f"{files[0]} is one of {count} shards, and shard {missing[0]} is not among the files: name all of "
                f"them in a list, or as {split}*-of-{count:05d}*.parquet"
            )
