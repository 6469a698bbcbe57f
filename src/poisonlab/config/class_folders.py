"""Which class folders and image files an image folder has. No torch: the workflow lists the files before any job."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from poisonlab.errors import DataError

ClassOrder = Literal["natural", "text"]

_TEST_SPLITS = ("test", "val", "valid", "validation")
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
)


def natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts names by the numbers in them: class2 before class10."""
    # Texts and numbers alternate, so that no text is compared with a number.
    parts = re.split("([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def _in_order(names: Iterable[str], order: ClassOrder) -> tuple[str, ...]:
    return tuple(sorted(names, key=natural) if order == "natural" else sorted(names))


def other_order(names: Sequence[str], order: ClassOrder) -> ClassOrder | None:
    """The other order, if it numbers these classes differently; else None."""
    other: ClassOrder = "text" if order == "natural" else "natural"
    return None if _in_order(names, other) == _in_order(names, order) else other


def split_folders(root: Path) -> tuple[Path, Path]:
    """Where the training and the test split lie: ``train``, and the first of ``test``, ``val``, ``valid`` and
    ``validation`` that has class folders."""
    found = [root / name for name in _TEST_SPLITS if _has_class_folders(root / name)]
    return root / "train", found[0] if found else root / "test"


def _has_class_folders(folder: Path) -> bool:
    try:
        return bool(class_folders(folder))
    except DataError:
        return False


def renaming(root: Path) -> str | None:
    """Which folders to rename if splits have other names, such as ``Train`` and ``testing``; None if none has."""
    try:
        names = sorted(entry.name for entry in root.iterdir() if _has_class_folders(entry))
    except OSError:
        return None
    meant = {name: name.lower().removesuffix("ing") for name in names}
    wrong = [f"{name} to {split}" for name, split in meant.items() if name != split in ("train", *_TEST_SPLITS)]
    return f"rename {' and '.join(wrong)}" if wrong else None


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def class_folders(folder: Path, order: ClassOrder = "natural") -> tuple[str, ...]:
    """The names of a split's class folders in order; hidden ones, and ``__MACOSX`` from a zip, are skipped.

    Raises:
        DataError: the split is missing or has no class folder.
    """
    try:
        names = [entry.name for entry in folder.iterdir() if entry.is_dir() and not _is_hidden(entry.name)]
    except OSError as error:
        raise DataError(f"{folder} is missing or not a readable folder: correct root in the config") from error
    if not names:
        raise DataError(f"{folder} has no class folders: put the images in {folder}/<class>/")
    return _in_order(names, order)


def count_images(folder: Path) -> int | None:
    """How many image files a split's classes have; None if the split cannot be read, which its reader reports."""
    try:
        return sum(len(image_files(folder / name)[0]) for name in class_folders(folder))
    except DataError:
        return None


def _is_file(file: Path) -> bool:
    return file.is_file() or leads_nowhere(file)


def leads_nowhere(file: Path) -> bool:
    """Whether the file is a broken link, as git-annex and DVC leave it until its content is fetched."""
    return file.is_symlink() and not file.exists()


def splits_alone(names: Sequence[str], least: int = 2) -> bool:
    """Whether there are ``least`` folders or more and all have names of splits: then their images have no classes."""
    meant = {name.lower().removesuffix("ing") for name in names}
    return len(meant) >= least and meant <= {"train", *_TEST_SPLITS}


def image_files(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The image files of one class, sorted by name, and the number of other files by suffix.

    Hidden files are not counted. A broken link counts as a file; its reader reports it.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith(".") and _is_file(file))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: correct its permissions") from error
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    return images, Counter(file.suffix.lower() for file in files if file.suffix.lower() not in SUFFIXES)
