"""Folders of PNGs by split and class, as the toolbox of Witches' Brew exports them ("limited" and "full").

``train/<class>/<row>.png`` (or ``<class>/<row>.png``) are poisons, named after training rows and labelled by their
folder. ``targets/<class>/<row>.png`` are targets, named after test rows, in the folder of the class that the attacker
wants. A folder has the name or the number of its class. Other folders, such as ``test``, are not read.
"""

from __future__ import annotations

from pathlib import Path

import torch

from poisonlab.config.class_folders import natural
from poisonlab.errors import DataError
from poisonlab.interchange.imported_poisons import ImportedPoisons
from poisonlab.interchange.png_folder import decoded, only_png_files, png_files, row_of

_TRAIN, _TARGETS = "train", "targets"
_OTHERS = frozenset((_TRAIN, _TARGETS, "test", "clean", "unpatched", "poisons"))


def holds_class_folders(folder: Path) -> bool:
    """Whether a folder has folders of classes with PNGs."""
    return folder.is_dir() and bool(_classes(_root(folder)))


def read_class_folders(folder: Path) -> ImportedPoisons:
    """Read the folders; every mode is converted to RGB.

    Returns:
        uint8 poisons in ascending order of their rows, with the names of their classes.

    Raises:
        DataError: a file name is not a row, two files have the same row, or an image is no PNG, damaged, too large or
            of another size.
    """
    poisons = _by_row(_root(folder))
    targets = _by_row(folder / _TARGETS)
    return ImportedPoisons(
        images=decoded([file for file, _ in poisons.values()]),
        labels=None,
        label_names=tuple(name for _, name in poisons.values()),
        indices=torch.tensor(list(poisons)),
        targets=decoded([file for file, _ in targets.values()]) if targets else None,
        target_rows=torch.tensor(list(targets)) if targets else None,
        adversarial_names=tuple(name for _, name in targets.values()) if targets else None,
        source=str(folder),
    )


def _root(folder: Path) -> Path:
    return folder / _TRAIN if (folder / _TRAIN).is_dir() else folder


def _classes(root: Path) -> list[Path]:
    found = [each for each in root.iterdir() if each.is_dir() and each.name not in _OTHERS and each.name[0] not in "._"]
    return sorted((each for each in found if png_files(each)), key=lambda each: natural(each.name))


def _by_row(root: Path) -> dict[int, tuple[Path, str]]:
    """File and class of each row, in ascending order."""
    rows: dict[int, tuple[Path, str]] = {}
    for folder in _classes(root) if root.is_dir() else []:
        for file in only_png_files(folder):
            if (row := row_of(file)) is None:
                raise DataError(f"{file} is not named after a row: rename it to <row>.png, or remove it")
            if row in rows:
                raise DataError(f"{file} and {rows[row][0]} are of the same row: keep one")
            rows[row] = file, folder.name
    return dict(sorted(rows.items()))
