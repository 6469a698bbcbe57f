"""webdataset: tar archives that name the files of an example by its key (https://github.com/webdataset/webdataset).

The key is the path up to the first dot of the file's name. Archives are read in place: nothing is unpacked to disk.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch

from poisonlab.config.data.webdataset import WebDataset as Settings
from poisonlab.data.assembly import assemble
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.decoding import decode_all
from poisonlab.data.file_kinds import other_kind
from poisonlab.data.shards import ClassNames, Part, named, read_split, warn_of_both
from poisonlab.errors import DataError

_IMAGES = frozenset(("png", "jpg", "jpeg", "webp", "bmp", "ppm", "pgm"))
_LABELS = frozenset(("cls", "json"))
_LABEL_KEYS = ("label", "cls", "class", "class_id", "target")
_LARGEST_IMAGE = 1 << 26
_LARGEST_LABEL = 1 << 20


@dataclass
class _Example:
    """An example: offset and size in bytes of its image in the archive, and its labels by file ending."""

    image: tuple[int, int] | None = None
    labels: dict[str, int] | None = None


def load(settings: Settings) -> ImageDataset:
    """Read both splits; images are (N, 3, H, W) uint8, decoded to RGB, in the order of the archives.

    Raises:
        DataError: an archive is missing or damaged, an example lacks an image or a label or has two, the images differ
            in shape, or a limit cannot be met.
    """
    train_files, test_files = settings.split("train"), settings.split("test")
    warn_of_both(train_files, test_files)
    read = partial(_read, class_names=settings.class_names)
    train_images, train_labels, _ = read_split(train_files, read)
    test_images, test_labels, _ = read_split(test_files, read)
    return assemble(
        train_images,
        train_labels,
        test_images,
        test_labels,
        class_names=settings.class_names,
        settings=settings,
        where=f"{named(train_files)} and {named(test_files)}",
    )


def _read(path: Path, class_names: ClassNames) -> Part:
    examples: dict[str, _Example] = {}
    try:
        # Compressed archives are refused, because one could unfold without end.
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                _note(member, file, examples, class_names, path)
            _check_end(archive, file, path)
            labels = [_label_of(key, example, path) for key, example in examples.items()]
            if not labels:
                raise DataError(f"{path} holds no images with labels (<key>.jpg and <key>.cls): check the path")
            images = decode_all(_encoded(file, examples, path), len(labels), None, "resize the images to one shape")
    except DataError:
        raise
    # The exception depends on the damaged byte: TarError, OSError, ValueError, OverflowError, ...
    except Exception as error:
        if (kind := other_kind(path)) is not None and not kind.startswith("a tar"):
            raise DataError(f"{path} is no tar archive but {kind}") from error
        raise DataError(f"{path} is damaged or not a tar archive: copy or download it again") from error
    return images, torch.tensor(labels), None


def _note(
    member: tarfile.TarInfo, file: BinaryIO, examples: dict[str, _Example], class_names: ClassNames, path: Path
) -> None:
    """Enter a member's image or label into its example; other files are passed over."""
    folder, _, name = member.name.rpartition("/")
    start, _, ending = name.partition(".")
    kind = ending.rpartition(".")[2].lower()
    if not member.isreg() or not start or kind not in _IMAGES | _LABELS:
        return
    where = f"{path}: {member.name!a}"
    if member.issparse() or not 0 <= member.size <= (_LARGEST_IMAGE if kind in _IMAGES else _LARGEST_LABEL):
        raise DataError(f"{where} is sparse or has {member.size} bytes, more than any image or label: remove it")
    example = examples.setdefault(f"{folder}/{start}", _Example(labels={}))
    assert example.labels is not None
    if kind in example.labels or (kind in _IMAGES and example.image is not None):
        raise DataError(f"{where} is the second of its example: keep one image and one label for each key")
    if kind in _IMAGES:
        example.image = (member.offset_data, member.size)
        return
    place = file.tell()
    file.seek(member.offset_data)
    label = _label(file.read(member.size), kind, class_names, where)
    if label is not None:
        example.labels[kind] = label
    file.seek(place)


def _label(content: bytes, kind: str, class_names: ClassNames, where: str) -> int | None:
    """A label from the text of a ``.cls`` file, or from a number or a mapping in a ``.json`` file; None for a mapping
    without a label."""
    try:
        value: Any = content.decode("utf-8").strip()
        if kind == "json":
            value = json.loads(value)
            if isinstance(value, dict):
                keys = [key for key in _LABEL_KEYS if key in value]
                if not keys:
                    return None
                value = value[keys[0]]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is damaged (not {kind}): write the archive again") from error
    if isinstance(value, str) and class_names is not None and value in class_names:
        return class_names.index(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    if type(value) is int and 0 <= value < 1 << 31:
        return value
    raise DataError(
        f"{where} holds no label 0, 1, 2, ... {'' if kind == 'cls' else f'as {_LABEL_KEYS[0]} '}and no name among "
        "class_names: number the classes, or give class_names"
    )


def _label_of(key: str, example: _Example, path: Path) -> int:
    """The label of a complete example; the label of a ``.cls`` file goes before that of a ``.json`` file."""
    if example.image is None or not example.labels:
        missing = "label (.cls, or .json with label)" if not example.labels else "image"
        raise DataError(f"{path}: example {key.lstrip('/')!a} has no {missing}: add it, or remove the example")
    return example.labels.get("cls", next(iter(example.labels.values())))


def _check_end(archive: tarfile.TarFile, file: BinaryIO, path: Path) -> None:
    """Check that the archive ends where the reader stopped, because tarfile takes a damaged header for the end."""
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise DataError(f"{path} is damaged or cut off: copy or download it again")


def _encoded(file: BinaryIO, examples: dict[str, _Example], path: Path) -> Iterator[tuple[str, bytes]]:
    """Each example's place and encoded image."""
    for key, example in examples.items():
        assert example.image is not None
        start, size = example.image
        file.seek(start)
        yield f"{path}: {key.lstrip('/')!a}", file.read(size)
