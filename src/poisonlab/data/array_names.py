"""Usual names of the arrays in a NumPy archive. The workflow uses this module before any job: it imports no torch."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

IMAGES = ("x", "images", "data", "img", "image", "inputs")
LABELS = ("y", "labels", "targets", "label", "fine_labels")
_TEST_SPLITS = ("test", "val", "valid", "validation")


def named(present: Sequence[str], words: Sequence[str], split: str) -> list[str]:
    """Names in ``present`` that join one of ``words`` and ``split``, in either order; the word alone if that is ""."""
    # Names are compared without underscores, because fine_labels_train has several.
    plain = [word.replace("_", "") for word in words]
    usual = {f"{first}{second}" for word in plain for first, second in ((word, split), (split, word))}
    return [name for name in present if name.replace("_", "").lower() in usual]


def splits(present: Sequence[str]) -> tuple[str, str]:
    """The words for both splits: ``train``, and the first of ``test``, ``val``, ``valid`` and ``validation`` for which
    ``present`` has images; ``test`` if it has none."""
    found = [split for split in _TEST_SPLITS if named(present, IMAGES, split)]
    return "train", found[0] if found else "test"


def of_one_split(path: Path) -> tuple[str, str] | None:
    """Names of the images and labels of an archive that holds one split, such as x and y, or x_train and y_train.

    None for other archives, and for unreadable files: the reader reports these."""
    try:
        with zipfile.ZipFile(path) as archive:
            present = [name.removesuffix(".npy") for name in archive.namelist()]
    # The exception depends on the damaged byte.
    except Exception:
        return None
    pairs = [(named(present, IMAGES, split), named(present, LABELS, split)) for split in ("", *splits(present))]
    match [pair for pair in pairs if pair != ([], [])]:
        case [([images], [labels])]:
            return images, labels
    return None
