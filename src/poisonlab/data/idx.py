"""idx: the four files of MNIST and its drop-in replacements (http://yann.lecun.com/exdb/mnist, file formats)."""

from __future__ import annotations

import gzip
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poisonlab.config.data.idx import Idx as Settings
from poisonlab.data.assembly import assemble
from poisonlab.data.compression import most_bytes
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.file_kinds import other_kind
from poisonlab.errors import DataError

_UNSIGNED_BYTES = 8


def load(settings: Settings) -> ImageDataset:
    """Read the four files; images are (N, 1, H, W) uint8.

    Raises:
        DataError: a file is missing, damaged or of another kind, labels and images differ in number, or a limit cannot
            be met.
    """
    train_images, train_labels, test_images, test_labels = (Path(file) for file in settings.files)
    return assemble(
        *_split(train_images, train_labels),
        *_split(test_images, test_labels),
        class_names=settings.class_names,
        settings=settings,
        where=settings.root,
    )


def _split(images_file: Path, labels_file: Path) -> tuple[Tensor, Tensor]:
    images, labels = _read(images_file, 3), _read(labels_file, 1)
    if len(images) != len(labels):
        raise DataError(f"{labels_file} has {len(labels)} labels for {len(images)} images: download both files again")
    return torch.from_numpy(images[:, None]), torch.from_numpy(labels.astype(np.int64))


def _read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array of a file: two zero bytes, the type, the number of dimensions, each length in 4 bytes, the values."""
    if not path.is_file():
        raise DataError(f"{path} is missing: correct root in the config, or put the file there")
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            return _array(gzip.GzipFile(fileobj=file) if packed else file, dimensions, path)
    except DataError:
        raise
    # gzip raises BadGzipFile, EOFError or zlib.error; a claimed size beyond the memory raises MemoryError.
    except Exception as error:
        raise DataError(f"{path} is damaged: download it again") from error


def _array(file: BufferedIOBase, dimensions: int, path: Path) -> NDArray[np.uint8]:
    header = file.read(4 + 4 * dimensions)
    if len(header) < 4 + 4 * dimensions or header[:2] != b"\0\0" or header[3] != dimensions:
        kind = None if header[:2] == b"\0\0" else other_kind(path)
        raise DataError(
            f"{path} is no idx file of {dimensions} dimensions{'' if kind is None else f' but {kind}'}: download it "
            "again"
        )
    if header[2] != _UNSIGNED_BYTES:
        raise DataError(f"{path} holds values of type {header[2]}, not unsigned bytes ({_UNSIGNED_BYTES}): convert it")
    shape = [int.from_bytes(header[4 + 4 * place : 8 + 4 * place], "big") for place in range(dimensions)]
    size = 1
    for length in shape:
        size *= length
    stored = path.stat().st_size
    if size > most_bytes(stored):
        raise DataError(f"{path} claims {size} values in {stored} bytes, more than any images: download it again")
    content = file.read(size + 1)
    if len(content) != size:
        problem = f"ends after {len(content)}" if len(content) < size else "goes on after the last"
        raise DataError(f"{path} {problem} of {size} values: download it again")
    # A copy, because bytes are read-only.
    return np.frombuffer(content, dtype=np.uint8).reshape(shape).copy()
