"""image-folder: ``<root>/train/<class>/*`` and ``<root>/test/<class>/*``, one image per file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from poisonlab.config.data.image_folder import ImageFolder as Settings
from poisonlab.data.assembly import assemble
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.decoding import decode_all
from poisonlab.errors import DataError

_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"))


def load(settings: Settings) -> ImageDataset:
    """Read every image, sorted by class and file name; images are (N, 3, H, W) uint8, RGB.

    Classes are the folders of ``train``, sorted. Hidden entries and files without an image suffix are passed
    over.

    Raises:
        DataError: a folder is missing or empty, the splits have different classes, an image is damaged, the
            images differ in shape and no ``size`` is set, or a limit cannot be met.
    """
    root = Path(settings.root)
    class_names = _classes(root / "train")
    test_classes = _classes(root / "test")
    if class_names != test_classes:
        odd = sorted(set(class_names) ^ set(test_classes))[0]
        present, absent = ("train", "test") if odd in class_names else ("test", "train")
        raise DataError(
            f"{root / present / odd} has no counterpart in {root / absent}: give both splits the same class folders"
        )
    return assemble(
        *_split(root / "train", class_names, settings.size),
        *_split(root / "test", class_names, settings.size),
        class_names=class_names,
        settings=settings,
        where=str(root),
    )


def _classes(folder: Path) -> tuple[str, ...]:
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} is missing or not a readable folder: correct root in the config") from error
    if not names:
        raise DataError(f"{folder} has no class folders: put the images in {folder}/<class>/")
    return tuple(names)


def _split(folder: Path, class_names: tuple[str, ...], size: int | None) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) uint8 and labels (N,) int64 of one split."""
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        found = _image_files(folder / name)
        files += found
        labels += [label] * len(found)
    images = decode_all(
        ((str(file), file) for file in files),
        len(files),
        size,
        "set size in the config to resize every image to one shape",
    )
    return images, torch.tensor(labels, dtype=torch.int64)


def _image_files(folder: Path) -> list[Path]:
    try:
        files = sorted(
            file
            for file in folder.iterdir()
            if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".") and file.is_file()
        )
    except OSError as error:
        raise DataError(f"{folder} cannot be read: correct its permissions") from error
    if not files:
        raise DataError(f"{folder} has no images ({', '.join(sorted(_SUFFIXES))}): add some or remove the folder")
    return files
