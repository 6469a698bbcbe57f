"""What arrays of a NumPy archive are usually called. No torch: the workflow asks before any job."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

IMAGES = ("x", "images", "data", "img", "image", "inputs")
LABELS = ("y", "labels", "targets", "label", "fine_labels")
SPLITS = ("train", "test")


def named(present: Sequence[str], words: Sequence[str], split: str) -> list[str]:
    """The arrays that are called by one of ``words`` and a split, in either order; by the word alone if it is ""."""
    # Without underscores on both sides, as fine_labels_train has several.
    plain = [word.replace("_", "") for word in words]
    usual = {f"{first}{second}" for word in plain for first, second in ((word, split), (split, word))}
    return [name for name in present if name.replace("_", "").lower() in usual]


def of_one_split(path: Path) -> tuple[str, str] | None:
    """The images and the labels of an archive that holds one split, as x and y or x_train and y_train; None of others,
    and of files that cannot be read, of which the reader says why."""
    try:
        with zipfile.ZipFile(path) as archive:
            present = [name.removesuffix(".npy") for name in archive.namelist()]
    # Which exception comes depends on the damaged byte.
    except Exception:
        return None
    pairs = [(named(present, IMAGES, split), named(present, LABELS, split)) for split in ("", *SPLITS)]
    match [pair for pair in pairs if pair != ([], [])]:
        case [([images], [labels])]:
            return images, labels
    return None
