"""npz: one NumPy archive with x_train, y_train, x_test and y_test, or arrays of other names."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poisonlab.config.data.npz import Npz as Settings
from poisonlab.data.array_names import IMAGES, LABELS, named, splits
from poisonlab.data.assembly import assemble
from poisonlab.data.compression import most_bytes
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.file_kinds import other_kind
from poisonlab.data.shards import OF_BOTH
from poisonlab.errors import DataError, DataWarning

_NEAR = 3
"""Largest size of usual normalised pixels, cut off to a whole number."""


def load(settings: Settings) -> ImageDataset:
    """Read the archive; images are (N, C, H, W) uint8 with one channel or three.

    Raises:
        DataError: the file is missing or damaged, an array is missing or has the wrong shape, dtype or range,
            labels lie out of range, or a limit cannot be met.
    """
    path = Path(settings.path)
    (x_train, train_images), (y_train, train_labels), (x_test, test_images), (y_test, test_labels) = _read(
        path, settings.arrays
    )
    if x_train == x_test:
        warnings.warn(f"{path}: {x_train} is an array {OF_BOTH}", DataWarning, stacklevel=2)
    return assemble(
        _images(train_images, x_train, path),
        _labels(train_labels, y_train, len(train_images), path),
        _images(test_images, x_test, path),
        _labels(test_labels, y_test, len(test_images), path),
        class_names=settings.class_names,
        settings=settings,
        where=str(path),
    )


def _read(path: Path, wanted: Sequence[str] | None) -> list[tuple[str, NDArray[Any]]]:
    """Name and content of the training images, training labels, test images and test labels."""
    if path.is_dir():
        raise DataError(f"{path} is a folder: name the .npz file, or read folders of images with source: image-folder")
    if not path.is_file():
        raise DataError(f"{path} is missing: correct the path in the config, or put the file there")
    damaged = f"{path} is damaged or not an .npz archive: copy it again or write it with numpy.savez"
    # Checked first, because np.load takes any other file for a pickle or a bare array.
    if not zipfile.is_zipfile(path):
        kind = other_kind(path, b"PK")
        raise DataError(damaged if kind is None else f"{path} is no .npz archive but {kind}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return [(name, _member(archive, name, path)) for name in _names(archive.files, wanted, path)]
    except DataError:
        raise
    # The exception depends on the damaged byte: BadZipFile, zlib.error, SyntaxError, NotImplementedError, ...
    except Exception as error:
        raise DataError(damaged) from error


def _names(present: Sequence[str], wanted: Sequence[str] | None, path: Path) -> list[str]:
    """Names of the four arrays: ``wanted`` if given, else those in ``present`` with a usual name.

    Raises:
        DataError: an array is missing, or several have a usual name.
    """
    found = ", ".join(map(ascii, present[:8])) or "none"
    if wanted is not None:
        if missing := [name for name in wanted if name not in present]:
            raise DataError(f"{path} has no array {missing[0]} (but {found}): correct arrays in the config")
        return list(wanted)
    names = []
    for split in splits(present):
        for words in (IMAGES, LABELS):
            fitting = named(present, words, split)
            first = f"{words[0]}_{split}"
            if first not in fitting and len(fitting) != 1:
                problem = f"several arrays that could be {first}" if fitting else f"no array {first}"
                raise DataError(
                    f"{path} has {problem} (but {found}): it needs x_train, y_train, x_test, y_test, or their names in "
                    "the config (arrays: [train images, train labels, test images, test labels])"
                )
            names.append(first if first in fitting else fitting[0])
    return names


def _member(archive: Any, name: str, path: Path) -> NDArray[Any]:
    entry = archive.zip.NameToInfo.get(f"{name}.npy") or archive.zip.getinfo(name)
    if entry.file_size > most_bytes(entry.compress_size):
        raise DataError(f"{path} array {name} unfolds to {entry.file_size} bytes, more than any images: save it again")
    try:
        found = archive[name]
    except MemoryError as error:
        raise DataError(f"{path} array {name} claims more than the memory holds: use a smaller dataset") from error
    except ValueError as error:
        # NumPy refuses pickled objects with a ValueError; they could run any code.
        if "allow_pickle" in str(error):
            raise DataError(f"{path} array {name} holds Python objects: save it as a plain integer array") from error
        raise
    if not isinstance(found, np.ndarray):
        raise DataError(f"{path} member {name} is not a NumPy array: write the file with numpy.savez")
    return found


def _images(array: NDArray[Any], name: str, path: Path) -> Tensor:
    """(N, C, H, W) uint8 from (N, H, W), (N, H, W, C) or (N, C, H, W)."""
    if array.dtype != np.uint8:
        raise DataError(
            f"{path} array {name} is {array.dtype}, not uint8: {_conversion(array)}save it with .astype('uint8')"
        )
    if array.size and array.max() <= 1:
        raise DataError(
            f"{path} array {name} holds no value above {array.max()}: save pixels of 0 to 255 (floats in [0, 1] must "
            "be multiplied by 255 and rounded before .astype('uint8'))"
        )
    if _is_wrapped(array):
        raise DataError(
            f"{path} array {name} holds only 0 to {_NEAR} and {256 - _NEAR} to 255, as if normalised pixels had been "
            "cast to uint8, so that -1 became 255: save pixels of 0 to 255"
        )
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4:
        first, last = array.shape[1] in (1, 3), array.shape[3] in (1, 3)
        if first == last:
            problem = "could have its channels first or last" if first else "has not 1 or 3 channels"
            raise DataError(f"{path} array {name} of shape {array.shape} {problem}: save it as (N, H, W, 3)")
        if last:
            array = array.transpose(0, 3, 1, 2)
    else:
        raise DataError(f"{path} array {name} has shape {array.shape}: save it as (N, H, W, 3)")
    return torch.from_numpy(np.ascontiguousarray(array))


def _is_wrapped(array: NDArray[np.uint8]) -> bool:
    """Whether all pixels are small whole numbers of either sign, modulo 256, and not only black and white."""
    # Image by image, because the first image is usually enough.
    near = all(not image.size or int((image + np.uint8(_NEAR)).max()) <= 2 * _NEAR for image in array)
    return near and not bool(np.isin(array, (0, 255)).all())


def _conversion(array: NDArray[Any]) -> str:
    """How to turn an array of another type into pixels of 0 to 255, judged by its range: a part of the cure."""
    if array.dtype.kind not in "biuf" or not array.size:
        return ""
    lowest, highest = float(array.min()), float(array.max())
    # Written so that a NaN reaches the last line.
    if lowest >= 0 and highest <= 1:
        return "multiply by 255, round and "
    if lowest >= 0 and highest <= 255:
        return "round and " if array.dtype.kind == "f" else ""
    # Cameras and scanners store 10 to 14 bits as uint16, too.
    if array.dtype == np.uint16 and highest >= 1 << 14:
        return "divide by 257, round and "
    return f"its values lie in [{lowest:g}, {highest:g}], so bring them to 0 to 255, round and "


def _labels(array: NDArray[Any], name: str, count: int, path: Path) -> Tensor:
    """(N,) int64 from (N,) or (N, 1) of any integer dtype."""
    if not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"{path} array {name} is {array.dtype}, not integer: save the class numbers 0, 1, 2, ...")
    if array.shape not in ((count,), (count, 1)):
        raise DataError(f"{path} array {name} has shape {array.shape}, not ({count},): save one label per image")
    return torch.from_numpy(array.reshape(-1).astype(np.int64))
