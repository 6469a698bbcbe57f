"""Records of BackdoorBench (v2): ``attack_result.pt`` and the PNGs beside it.

For each row, the record's ``bd_train`` and ``bd_test`` hold the label that the victim sees and the true label
(``bd_data_container.data_dict[row]["other_info"]``). The images are ``bd_train_dataset/<true class>/<row>.png`` and
``bd_test_dataset/<true class>/<row>.png``, or in the record itself if the attack kept them in memory. Test images carry
the trigger, and their label is the class the attacker wants.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poisonlab.data.decoding import decode
from poisonlab.errors import DataError
from poisonlab.interchange import parts
from poisonlab.interchange.file_content import read_content
from poisonlab.interchange.imported_poisons import ImportedPoisons
from poisonlab.interchange.png_folder import row_of

RECORD = "attack_result.pt"
_TRAIN, _TEST = "bd_train", "bd_test"


@dataclass(frozen=True)
class _Part:
    """Images (P, 3, H, W) uint8, their rows in the split, the labels a victim sees, and true labels, (P,) int64."""

    images: Tensor
    rows: Tensor
    labels: Tensor
    true_labels: Tensor


def read_record(path: Path) -> ImportedPoisons:
    """Read a record; no code in it is run.

    Args:
        path: the folder, or the ``attack_result.pt`` in it.

    Raises:
        DataError: the record is missing, damaged or hostile, or lacks the label or image of a row.
    """
    folder = path if path.is_dir() else path.parent
    found = read_content(folder / RECORD)
    if not isinstance(found, dict) or not isinstance(found.get(_TRAIN), dict):
        raise DataError(f"{folder / RECORD} has no {_TRAIN}, so it is no record of an attack by BackdoorBench")
    train = _part(found[_TRAIN], folder, _TRAIN)
    if train is None:
        raise DataError(f"{folder / RECORD}: {_TRAIN} names no poisoned image: check that it is the right record")
    test = _part(found[_TEST], folder, _TEST) if isinstance(found.get(_TEST), dict) else None
    return ImportedPoisons(
        images=train.images,
        labels=train.labels,
        indices=train.rows,
        original_labels=train.true_labels,
        targets=None if test is None else test.images,
        target_labels=None if test is None else test.true_labels,
        target_rows=None if test is None else test.rows,
        adversarial_labels=None if test is None else test.labels,
        source=str(folder),
    )


def _part(state: dict[Any, Any], folder: Path, name: str) -> _Part | None:
    """Poisoned images of one split in ascending order of their rows; None if there are none."""
    container = state.get("bd_data_container")
    entries = container.get("data_dict") if isinstance(container, dict) else None
    files = _files(folder / f"{name}_dataset")
    if not isinstance(entries, dict) or (not entries and files):
        raise DataError(f"{folder / RECORD}: {name} has no bd_data_container with a data_dict: save the record again")
    if not entries:
        return None
    where = f"{folder / RECORD}: {name}"
    rows = sorted(parts.whole_number(row, f"{where}: row") for row in entries)
    if unnamed := sorted(set(files) - set(rows)):
        raise DataError(
            f"{where} has no label for row {unnamed[0]}, whose image is {files[unnamed[0]]}: remove the image"
        )
    images, labels, true_labels = [], [], []
    for row in rows:
        image, found = _entry(entries[row], files.get(row), f"{where}: row {row}")
        images.append(image)
        labels.append(parts.label(found[0], f"{where}: label of row {row}"))
        true_labels.append(parts.label(found[-1], f"{where}: true class of row {row}"))
    stacked = parts.stack_images(images, where)
    return _Part(stacked, torch.tensor(rows), torch.tensor(labels), torch.tensor(true_labels))


def _entry(entry: Any, file: Path | None, where: str) -> tuple[Tensor, list[Any]]:
    """The image, and the label and true label as a list."""
    if isinstance(entry, list | tuple) and len(entry) == 3 and isinstance(entry[0], Tensor):
        return entry[0], list(entry[1:])
    told = entry.get("other_info") if isinstance(entry, dict) else None
    if not isinstance(told, list | tuple) or len(told) != 2:
        raise DataError(f"{where} does not say its label and its true class (other_info): save the record again")
    if file is None:
        raise DataError(f"{where} has no image in {where.rsplit(': ', 2)[1]}_dataset: copy the whole record")
    return torch.from_numpy(decode(file, str(file)).copy()), list(told)


def _files(folder: Path) -> dict[int, Path]:
    """The image of each row."""
    found: dict[int, Path] = {}
    for file in sorted(folder.glob("*/*.png")):
        if (row := row_of(file)) is not None:
            if row in found:
                raise DataError(f"{file} and {found[row]} are images of the same row: keep one")
            found[row] = file
    return found
