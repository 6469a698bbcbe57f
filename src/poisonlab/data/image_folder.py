"""image-folder: ``<root>/train/<class>/*`` and ``<root>/test/<class>/*`` (or ``val``), one image per file."""

from __future__ import annotations

import warnings
from pathlib import Path
from unicodedata import normalize

import torch
from torch import Tensor

from poisonlab.config.class_folders import (
    SUFFIXES,
    class_folders,
    count_images,
    image_files,
    renaming,
    split_folders,
    splits_alone,
)
from poisonlab.config.data.image_folder import ImageFolder as Settings
from poisonlab.data.assembly import assemble
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.decoding import decode_all
from poisonlab.data.shards import OF_BOTH
from poisonlab.data.unread import told, unread
from poisonlab.errors import DataError, DataWarning


def load(settings: Settings) -> ImageDataset:
    """Read every image, sorted by class and file name; images are (N, 3, H, W) uint8, RGB.

    Classes are the folders of ``train``, in ``class_order``. Hidden entries are passed over. A ``DataWarning`` counts
    other files that are passed over: files without an image suffix, and images not directly in a class folder. Another
    warning is issued if one folder serves as both splits.

    Raises:
        DataError: a folder is missing or empty, the splits have different classes, an image is damaged, the
            images differ in shape and no ``size`` is set, or a limit cannot be met.
    """
    root = Path(settings.root)
    splits = settings.folders
    _check_layout(root, splits)
    if not settings.splits:
        warnings.warn(f"{root} is a folder {OF_BOTH}", DataWarning, stacklevel=2)
    train_classes, test_classes = (class_folders(split, settings.class_order) for split in splits)
    if train_classes != test_classes:
        odd = sorted(set(train_classes) ^ set(test_classes))[0]
        present, absent = splits if odd in train_classes else reversed(splits)
        alike = {normalize("NFC", name): name for name in (*train_classes, *test_classes) if name != odd}
        if (other := alike.get(normalize("NFC", odd))) is not None:
            raise DataError(
                f"{present / odd} and {absent / other} differ only in the Unicode form of their names, which macOS "
                "changes: rename one, for example with convmv --nfc"
            )
        raise DataError(f"{present / odd} has no counterpart in {absent}: give both splits the same class folders")
    files, labels = class_files(splits[0], train_classes)
    train = test = decode_files(files, settings.size), labels
    if settings.splits:
        files, labels = class_files(splits[1], train_classes)
        test = decode_files(files, settings.size), labels
    for split in dict.fromkeys(splits):
        if found := unread(split, [split]):
            warnings.warn(
                f"{split}: files passed over: {sum(each.files for each in found):,} ({told(found)}), because only "
                "images right in a class folder are read: move images into one, and convert others to PNG or JPEG",
                DataWarning,
                stacklevel=2,
            )
    return assemble(*train, *test, class_names=train_classes, settings=settings, where=str(root))


def _check_layout(root: Path, splits: tuple[Path, Path]) -> None:
    """Refuse folders of another layout, with the cure.

    Raises:
        DataError: ``root`` is TinyImageNet as its zip lays it out, its splits have other names, its classes are named
            after splits, or it is itself one of two splits or has none.
    """
    if (root / "wnids.txt").is_file() and (root / "val" / "val_annotations.txt").is_file():
        raise DataError(
            f"{root} is TinyImageNet as its zip lays it out: read it with source: tiny-imagenet, and the same root"
        )
    for split in splits:
        if not split.is_dir() and (cure := renaming(root)) is not None:
            raise DataError(f"{split} is missing, but there are splits of other names: {cure}")
    if not splits[1].is_dir() and count_images(splits[0]):
        raise DataError(f"{splits[1]} is missing: make it, and move a part of each class from {splits[0]} to it")
    if splits == (root, root) and splits_alone(names := class_folders(root)):
        cure = f"leave out splits: false, and sort the images into {root}/train/<class>/ and so on"
        raise DataError(f"{root} has no classes: its folders {', '.join(names)} are named after splits; {cure}")
    if not splits[0].is_dir() and count_images(root):
        if all(map(count_images, beside := split_folders(root.absolute().parent))) and root.absolute() in beside:
            raise DataError(f"{root} is one of two splits: set root to the folder above it, {beside[0].parent}")
        raise DataError(
            f"{root} has class folders and no folders train and test: make both, and move a part of each class to test"
        )


def _has_images(folder: Path) -> bool:
    return folder.is_dir() and bool(image_files(folder)[0])


def class_files(folder: Path, class_names: tuple[str, ...]) -> tuple[list[Path], Tensor]:
    """The image files of a split, sorted by class and file name, and their labels (N,) int64.

    Raises:
        DataError: a class has no images.
    """
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        found, passed_over = image_files(folder / name)
        if not found:
            beside = f", but {', '.join(sorted(passed_over))}" if passed_over else ""
            below = next((inner for inner in sorted((folder / name).iterdir()) if _has_images(inner)), None)
            move = f"move those of {below} up into it" if below else "add some, or remove the class from every split"
            cure = renaming(folder) or move
            raise DataError(f"{folder / name} has no images ({', '.join(sorted(SUFFIXES))}){beside}: {cure}")
        files += found
        labels += [label] * len(found)
    return files, torch.tensor(labels, dtype=torch.int64)


def decode_files(files: list[Path], size: int | None) -> Tensor:
    """Images (N, 3, H, W) uint8 of at least one file; see ``decode_all``."""
    cure = "set size (with make: SIZE=32) to resize every image to one shape"
    return decode_all(((str(file), file) for file in files), len(files), size, cure)
