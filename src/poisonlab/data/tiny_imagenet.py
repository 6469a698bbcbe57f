"""tiny-imagenet: the folder or the zip file (http://cs231n.stanford.edu/tiny-imagenet-200.zip).

Training images are ``train/<wnid>/images/*.JPEG``. Test images are ``val/images/*.JPEG``, with their classes in
``val/val_annotations.txt``. Images in ``test`` have no classes and are not read.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from poisonlab.config.class_folders import SUFFIXES
from poisonlab.config.data.tiny_imagenet import ANNOTATIONS, WNIDS
from poisonlab.config.data.tiny_imagenet import TinyImageNet as Settings
from poisonlab.data.assembly import assemble
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.decoding import decode_all
from poisonlab.data.file_kinds import other_kind
from poisonlab.errors import DataError

_TRAIN = re.compile(r"train/([^/]+)/images/[^/.][^/]*")
_TEST = re.compile(r"val/images/([^/.][^/]*)")
_LARGEST = 1 << 26
_CURE = "unpack or download tiny-imagenet-200.zip again"

Read = Callable[[str], bytes]


def load(settings: Settings) -> ImageDataset:
    """Read every image; images are (N, 3, H, W) uint8, RGB.

    Classes are the entries of ``wnids.txt``, sorted by name as readers of class folders do, and not in the file's
    order. Training images are sorted by class and file name; test images are in the order of the annotations.

    Raises:
        DataError: a file is missing or damaged, a class has no images, an image has no class, or a limit cannot be met.
    """
    root = Path(settings.root)
    if not settings.zipped:
        if not root.is_dir():
            raise DataError(f"{root} is missing or not a folder: correct root in the config")
        return _assembled(settings, settings.images, lambda name: _of_folder(root / name))
    if not root.is_file():
        raise DataError(f"{root} is missing: correct root in the config, or put the file there")
    try:
        with zipfile.ZipFile(root) as archive:
            entries = _entries(archive, root)
            return _assembled(settings, sorted(entries), lambda name: _of_zip(archive, entries, name, root))
    except zipfile.BadZipFile as error:
        kind = other_kind(root, b"PK")
        raise DataError(
            f"{root} is damaged: download it again" if kind is None else f"{root} is no zip archive but {kind}"
        ) from error


def _assembled(settings: Settings, names: Sequence[str], read: Read) -> ImageDataset:
    """The dataset of the layout's files ``names``, whose content ``read`` returns."""
    classes = tuple(sorted(set(_text(read, WNIDS, settings).split())))
    if not classes:
        raise DataError(f"{settings.root}: {WNIDS} names no class: {_CURE}")
    number = {name: label for label, name in enumerate(classes)}
    train = [(name, found[1]) for name in names if (found := _TRAIN.fullmatch(name)) and _is_image(name)]
    annotated = dict(line.split("\t")[:2] for line in _text(read, ANNOTATIONS, settings).splitlines() if "\t" in line)
    present = {found[1]: name for name in names if (found := _TEST.fullmatch(name)) and _is_image(name)}
    if odd := sorted(present.keys() ^ annotated.keys()):
        problem = f"names {odd[0]}, which is missing" if odd[0] in annotated else f"does not name val/images/{odd[0]}"
        raise DataError(f"{settings.root}: {ANNOTATIONS} {problem}: {_CURE}")
    test = [(present[name], wnid) for name, wnid in annotated.items()]
    for name, wnid in (*train, *test):
        if wnid not in number:
            raise DataError(f"{settings.root}: {name} is of class {wnid!a}, which {WNIDS} does not name: {_CURE}")
    if missing := sorted(set(classes) - {wnid for _, wnid in train}):
        raise DataError(f"{settings.root}: train/{missing[0]}/images has no images: {_CURE}")
    if not test:
        raise DataError(f"{settings.root}: val/images has no images: {_CURE}")
    return assemble(
        *_split(train, number, read, settings),
        *_split(test, number, read, settings),
        class_names=classes,
        settings=settings,
        where=settings.root,
    )


def _split(
    files: Sequence[tuple[str, str]], number: dict[str, int], read: Read, settings: Settings
) -> tuple[Tensor, Tensor]:
    def contents() -> Iterator[tuple[str, bytes]]:
        for name, _ in files:
            yield f"{settings.root}: {name}", read(name)

    return decode_all(contents(), len(files), None, _CURE), torch.tensor([number[wnid] for _, wnid in files])


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _text(read: Read, name: str, settings: Settings) -> str:
    try:
        return read(name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{settings.root}: {name} is damaged (not UTF-8): {_CURE}") from error


def _of_folder(path: Path) -> bytes:
    try:
        # A pipe could block for ever.
        if path.is_file() and path.stat().st_size <= _LARGEST:
            return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: correct its permissions") from error
    raise DataError(f"{path} is missing, or larger than {_LARGEST} bytes: {_CURE}")


def _entries(archive: zipfile.ZipFile, root: Path) -> dict[str, zipfile.ZipInfo]:
    """The files of the archive by their paths from the folder that holds ``wnids.txt``."""
    found = [entry for entry in archive.infolist() if not entry.is_dir()]
    tops = [entry.filename.removesuffix(WNIDS) for entry in found if f"/{entry.filename}".endswith(f"/{WNIDS}")]
    tops = [top for top in tops if "__MACOSX" not in top]
    if len(tops) != 1:
        raise DataError(f"{root} has {len(tops) or 'no'} {WNIDS}, so it is not tiny-imagenet-200.zip: {_CURE}")
    return {entry.filename.removeprefix(tops[0]): entry for entry in found if entry.filename.startswith(tops[0])}


def _of_zip(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], name: str, root: Path) -> bytes:
    if name not in entries:
        raise DataError(f"{root} has no {name}: {_CURE}")
    if entries[name].file_size > _LARGEST:
        raise DataError(f"{root}: {name} unfolds to more than {_LARGEST} bytes: {_CURE}")
    try:
        return archive.read(entries[name])
    # The exception depends on the damaged byte: BadZipFile, zlib.error, NotImplementedError, RuntimeError, ...
    except Exception as error:
        raise DataError(f"{root}: {name} is damaged: {_CURE}") from error
