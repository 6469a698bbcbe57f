"""Files of an image folder that no reader looks at, such as images in folders below a class or in a third split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from poisonlab.config.class_folders import SUFFIXES, class_folders, image_files

_NAMED = 8


@dataclass(frozen=True, order=True)
class Unread:
    """Files that were passed over.

    Attributes:
        folder: their folder, relative to the root.
        suffix: their suffix in lower case; may be empty.
        files: number of files.
    """

    folder: str
    suffix: str
    files: int

    def __str__(self) -> str:
        return f"{self.files:,} {self.suffix or 'without suffix'} in {self.folder}"


def unread(root: Path, splits: Collection[Path]) -> list[Unread]:
    """Unread files below ``root``: images that are not directly in a class folder, and other files that are.

    Hidden entries do not count as data, nor do other files than images outside class folders. Only class folders may be
    links; other links to folders are not followed.

    Args:
        root: the folder of images.
        splits: the folders that hold the class folders.

    Raises:
        DataError: a split has no class folders, or one cannot be read.
    """
    read = {split / name for split in splits for name in class_folders(split)}
    found: Counter[tuple[str, str]] = Counter()
    for folder in read:
        for suffix, files in image_files(folder)[1].items():
            found[os.path.relpath(folder, root), suffix] += files
    for place, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".") and name != "__MACOSX"]
        for name in names if Path(place) not in read else ():
            suffix = Path(name).suffix.lower()
            if not name.startswith(".") and suffix in SUFFIXES:
                found[os.path.relpath(place, root), suffix] += 1
    return sorted(Unread(folder, suffix, count) for (folder, suffix), count in found.items())


def told(found: Collection[Unread]) -> str:
    """The first entries of ``found`` in words, for messages."""
    more = f" and in {len(found) - _NAMED} more folders" if len(found) > _NAMED else ""
    return ", ".join(map(str, list(found)[:_NAMED])) + more
