"""A folder of PNGs named after the training rows they replace.

``<row>.png`` are the poisons. ``target.png`` or ``targets/*.png`` are the targets, in natural order: 2 before 10.
``unpatched.png`` or ``unpatched/*.png`` are a backdoor's targets without the trigger, in the same order.
``poisons.json`` has the labels: ``{"adversarial_label": 1, "target_labels": [0], "labels": {"<row>": 1}}``, where
``adversarial_label`` may be a list with one label for each target. Only the poisons are required; the dataset supplies
the rest.
"""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.class_folders import SUFFIXES, natural
from poisonlab.data.decoding import decode, decode_all
from poisonlab.errors import DataError
from poisonlab.interchange import parts
from poisonlab.interchange.allowed_pickle import LARGEST_FILE, read_bytes
from poisonlab.interchange.imported_poisons import ImportedPoisons
from poisonlab.interchange.new_folder import check_replacements, new_folder

FACTS = "poisons.json"
_TARGET = "target.png"
_TARGETS = "targets"
_UNPATCHED = "unpatched"
_NAME = re.compile(r"[0-9]{1,15}")
_CURE = "bring all images to one size"
_KEYS = ("adversarial_label", "target_labels", "labels")
_LONGEST = 40
_OTHER_IMAGES = SUFFIXES - {".png"}


def read_png_folder(folder: Path) -> ImportedPoisons:
    """Read a folder of PNGs; every mode is converted to RGB.

    Returns:
        uint8 poisons in ascending order of their rows.

    Raises:
        DataError: there is no poison, a file name is not a row, two files have the same row, an image is no PNG,
            damaged, too large or of another size than the first, or ``poisons.json`` contradicts the images or has
            unknown keys.
    """
    rows = _poison_files(folder)
    images = decoded(list(rows.values()))
    target_files = _files_of(folder, _TARGET, _TARGETS)
    unpatched_files = _files_of(folder, f"{_UNPATCHED}.png", _UNPATCHED)
    facts = _facts(folder / FACTS)
    return ImportedPoisons(
        images=images,
        labels=_labels(facts.get("labels"), list(rows), str(folder / FACTS)),
        indices=torch.tensor(list(rows), dtype=torch.int64),
        targets=decoded(target_files) if target_files else None,
        unpatched_targets=decoded(unpatched_files) if unpatched_files else None,
        target_labels=_target_labels(facts.get("target_labels"), str(folder / FACTS)),
        adversarial_labels=_adversarial_labels(facts.get("adversarial_label"), str(folder / FACTS)),
        source=str(folder),
    )


def png_files(folder: Path) -> list[Path]:
    """The PNGs of ``folder`` in natural order of their names, without hidden ones.

    Raises:
        DataError: ``folder`` is missing or not a readable folder.
    """
    try:
        found = [file for file in folder.iterdir() if file.suffix.lower() == ".png" and not file.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} is missing or not a readable folder: correct the path") from error
    return sorted(found, key=lambda file: natural(file.name))


def only_png_files(folder: Path) -> list[Path]:
    """``png_files`` of a folder that must not hold other images.

    Raises:
        DataError: the folder holds other images, which would be silently ignored.
    """
    found = png_files(folder)
    others = [file for file in folder.iterdir() if file.suffix.lower() in _OTHER_IMAGES and file.name[0] != "."]
    if others:
        raise DataError(
            f"{min(others)} is no PNG: save poisons and targets as PNG from their pixels, since lossy formats such as "
            "JPEG change them, or remove the file"
        )
    return found


def row_of(file: Path) -> int | None:
    """The row that a file is named after; None if its name is no row."""
    return int(file.stem) if _NAME.fullmatch(file.stem) else None


def _poison_files(folder: Path) -> dict[int, Path]:
    """The poison of each training row, in ascending order."""
    rows: dict[int, Path] = {}
    for file in only_png_files(folder):
        if file.name in (_TARGET, f"{_UNPATCHED}.png"):
            continue
        if (row := row_of(file)) is None:
            raise DataError(f"{file} is not named after a training row: rename it to <row>.png, or remove it")
        if row in rows:
            raise DataError(f"{file} and {rows[row].name} are poisons for the same training row: keep one")
        rows[row] = file
    if not rows:
        raise DataError(f"{folder} holds no <row>.png: name each poison after the training row it replaces")
    return dict(sorted(rows.items()))


def _files_of(folder: Path, one: str, many: str) -> list[Path]:
    single, several = folder / one, folder / many
    if single.exists() and several.exists():
        raise DataError(f"{folder} has both {one} and {many}/: keep one of them")
    if several.exists():
        return only_png_files(several)
    return [single] if single.exists() else []


def decoded(files: list[Path]) -> Tensor:
    """Image files of one size as (P, 3, H, W) uint8.

    Raises:
        DataError: a file is damaged, too large or of another size than the first, or there are too many files.
    """
    first = decode(files[0], str(files[0]))
    # A PNG of one colour is a thousand times smaller than its pixels.
    if first.nbytes * len(files) > LARGEST_FILE:
        raise DataError(f"{files[0].parent} unfolds to more than {LARGEST_FILE} bytes of pixels: use smaller images")
    return decode_all(((str(file), file) for file in files), len(files), None, _CURE)


def _facts(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(read_bytes(path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged (not JSON): correct it or remove it") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is not a JSON object with adversarial_label, target_labels and labels")
    if unknown := [key for key in found if key not in _KEYS]:
        close = get_close_matches(unknown[0][:_LONGEST], _KEYS, n=1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        raise DataError(f"{path}: unknown key {unknown[0]!r}{meant}: the keys are {', '.join(_KEYS)}")
    return found


def _adversarial_labels(value: Any, where: str) -> Tensor | None:
    return None if value is None else parts.labels(value, f"{where}: adversarial_label")


def _target_labels(value: Any, where: str) -> Tensor | None:
    return None if value is None else parts.indices(value, f"{where}: target_labels")


def _labels(value: Any, rows: list[int], where: str) -> Tensor | None:
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) != {str(row) for row in rows}:
        raise DataError(f"{where}: labels must name every <row>.png beside it, and no other")
    labels = [parts.label(value[str(row)], f"{where}: label of {row}") for row in rows]
    return torch.tensor(labels, dtype=torch.int64)


def write_png_folder(folder: Path, poisons: PoisonSet) -> None:
    """Write ``poisons`` as a new folder of PNGs with all targets and ``poisons.json``; floats are rounded.

    Raises:
        DataError: the folder is not empty, or the format cannot hold these poisons: some are appended.
        PoisonlabError: the folder cannot be written.
    """
    check_replacements(poisons, folder)
    rows = poisons.indices.tolist()
    facts: dict[str, Any] = {"labels": dict(zip(map(str, rows), poisons.labels.tolist(), strict=True))}
    if (goal := poisons.goal) is not None:
        facts["adversarial_label"] = parts.plain_labels(goal.adversarial_labels)
        facts["target_labels"] = goal.target_labels.tolist()
    with new_folder(folder) as temporary:
        _write(temporary, [f"{row}.png" for row in rows], poisons.images)
        if goal is not None:
            width = len(str(len(goal) - 1))
            names = [f"{place:0{width}d}.png" for place in range(len(goal))]
            _write(temporary / _TARGETS, names, goal.targets)
            if goal.untriggered is not None:
                _write(temporary / _UNPATCHED, names, goal.untriggered)
        (temporary / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _write(folder: Path, names: list[str], images: Tensor) -> None:
    folder.mkdir(exist_ok=True)
    for name, image in zip(names, parts.to_levels(images), strict=True):
        parts.pil_image(image).save(folder / name)
