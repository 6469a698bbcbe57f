"""Arrays of images with labels and rows in a single file, in each form that programs save.

``forms`` tells the forms apart. A file holds one of these:

- a dict ``{"poisons": ..., "labels": ..., "indices": ..., "target": ..., "adversarial_label": ...}``, of which only the
  poisons are required. ``delta``, ``perturbation`` or a similar name in place of ``poisons`` holds changes of images;
- a list of (image, label);
- a list of two entries: such pairs or stacked images, and their rows;
- one array for the whole training set.

A folder holds ``poisons.pth``, ``indices.pth`` (or ``base_indices.pth``) and perhaps ``labels.pth`` and ``target.pth``,
or the two ``.npy`` files of Witches' Brew. A target is (image, label), a list of such pairs, or an image or stacked
images without labels. The adversarial label is one for all targets, or a list. Images are (3, H, W) uint8, floats in
[0, 1], or normalised floats; stacked images may have their channels last.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.errors import DataError, DataWarning
from poisonlab.files import atomic_path
from poisonlab.interchange import parts
from poisonlab.interchange.file_content import SUFFIXES, TORCH, read_content
from poisonlab.interchange.forms import Holds, as_content
from poisonlab.interchange.imported_poisons import ImportedPoisons
from poisonlab.interchange.new_folder import check_channels

POISONS = "poisons.pth"
WHOLE, WHOLE_LABELS = "poisoned_training_data.npy", "poisoned_training_labels.npy"
_BESIDE = {
    "indices.pth": "indices",
    "base_indices.pth": "indices",
    "labels.pth": "labels",
    "target.pth": "target",
}
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_OUTSIDE = 1e-3
_LEVELS = 255
# The largest bound of the papers is 0.1 of the range, convex polytope's.
_USUAL = 32


def holds_tensors(path: Path) -> bool:
    """Whether a path is a file of arrays, or a folder with one of this module's names."""
    if path.is_file():
        return path.suffix in SUFFIXES
    return (path / POISONS).is_file() or (path / WHOLE).is_file()


def read_tensors(
    path: Path,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    holds: Holds | None = None,
) -> ImportedPoisons:
    """Read poisons from a file of arrays; no code in it is run.

    Args:
        path: the file, or the folder with ``poisons.pth`` or ``poisoned_training_data.npy``.
        mean: three values in units of pixels in [0, 1], if the float images are normalised; it is added back.
        std: three values in the same units, with ``mean``; images and changes are multiplied by it.
        holds: the meaning of a bare array whose values are ambiguous.

    Returns:
        Poisons in uint8: floats are rounded to the nearest level. Changes in float32, in units of pixels in [0, 1].

    Raises:
        DataError: a file is missing, damaged, hostile, or its content contradicts the rest; or floats leave [0, 1],
            so that mean and std are missing or wrong.
    """
    undo = parts.normalisation(mean, std)
    path, content = _content(path, holds, undo is not None)
    where = f"{path}: poisons"
    changes, labels = "changes" in content, content.get("labels")
    if changes:
        images = _changes(content["changes"], undo, bool(content.get("normalised")), f"{path}: changes")
    else:
        images, paired = _images(content["poisons"], where)
        if paired is not None and labels is not None:
            raise DataError(f"{path} has labels beside poisons that are pairs of image and label: keep one of them")
        labels = paired if labels is None else labels
        if undo is not None and not images.is_floating_point():
            raise DataError(f"{where} are integers, so they cannot be normalised: leave out mean and std")
        images = _pixels(images, undo, where)
    rows, aim = content.get("indices"), content.get("adversarial_label")
    targets, target_labels = _targets(content.get("target"), undo, f"{path}: target")
    unpatched, _ = _targets(content.get("unpatched_target"), undo, f"{path}: unpatched_target")
    return ImportedPoisons(
        images=images,
        labels=None if labels is None else parts.indices(_whole(labels), f"{path}: labels"),
        indices=None if rows is None else parts.indices(_whole(rows), f"{path}: indices"),
        changes=changes,
        targets=targets,
        target_labels=target_labels,
        unpatched_targets=unpatched,
        adversarial_labels=None if aim is None else parts.labels(aim, f"{path}: adversarial_label"),
        source=str(path),
    )


def _content(path: Path, holds: Holds | None, normalised: bool) -> tuple[Path, dict[str, Any]]:
    """The file and its parts, including parts from files beside it."""
    if (path / WHOLE).is_file():
        content = {"poisons": read_content(path / WHOLE)}
        if (path / WHOLE_LABELS).is_file():
            content["labels"] = read_content(path / WHOLE_LABELS)
        return path / WHOLE, content
    path = path / POISONS if path.is_dir() else path
    content = as_content(read_content(path), path, holds, normalised)
    for name, part in _BESIDE.items() if path.name == POISONS else ():
        if content.get(part) is None and (path.parent / name).exists():
            content[part] = read_content(path.parent / name)
    return path, content


def _whole(numbers: Any) -> Any:
    """Whole floats, as numpy.zeros makes them, as integers; other values as they are."""
    if isinstance(numbers, Tensor) and numbers.is_floating_point() and bool((numbers == numbers.round()).all()):
        return numbers.long()
    return numbers


def _images(poisons: Any, where: str) -> tuple[Tensor, Tensor | None]:
    """Images (P, C, H, W), and labels (P,) int64 if each image is paired with one."""
    if not isinstance(poisons, Tensor):
        return parts.pairs(poisons, _pair, where)
    return _stacked(poisons, where), None


def _stacked(images: Tensor, where: str) -> Tensor:
    """Stacked images or changes with their channels first."""
    if images.ndim != 4 or images.numel() == 0:
        raise DataError(f"{where} are {parts.described(images)}, not (P, 3, H, W) and at least one")
    first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
    if first == last:
        problem = "could have its channels first or last" if first else "has not 1 or 3 channels"
        raise DataError(f"{where}: {parts.described(images)} {problem}: save (P, 3, H, W)")
    return images.detach() if first else images.detach().permute(0, 3, 1, 2).contiguous()


def _changes(values: Any, undo: tuple[Tensor, Tensor] | None, normalised: bool, where: str) -> Tensor:
    """Changes of pixels in [0, 1], float32 in [-1, 1], from integers in levels, floats, or normalised floats."""
    if not isinstance(values, Tensor):
        raise DataError(f"{where} are {parts.described(values)}, not a tensor (P, 3, H, W)")
    found = _stacked(values, where)
    if not found.is_floating_point():
        if undo is not None or found.dtype == torch.bool:
            raise DataError(f"{where} are integers, so in levels of 1/255: leave out mean and std")
        if found.dtype == torch.uint8 and int(found.max()) > 127:
            raise DataError(f"{where} are uint8 up to {int(found.max())}, in which -3 has become 253: save int16")
        return _told_if_large(found / _LEVELS, where)
    if undo is None and normalised:
        raise DataError(
            f"{where} and their rows are packed, so the changes are of normalised pixels: give mean and std (0 and 1 "
            "in each channel, if they are of pixels in [0, 1])"
        )
    if undo is not None:
        found = found.double() * undo[1]
    largest = float(found.abs().max())
    if undo is None and largest > 1 + _OUTSIDE and largest <= _LEVELS and bool((found == found.round()).all()):
        return _told_if_large(found / _LEVELS, where)
    # Written so that a NaN fails as well.
    if not largest <= 1 + _OUTSIDE:
        levels = "divide them by 255 if they are in levels; " * (largest <= _LEVELS)
        cure = "check std" if undo else f"{levels}if they are of normalised pixels, give mean and std"
        raise DataError(f"{where} are as large as {largest:.3g}, beyond the range of pixels: {cure}")
    return _told_if_large(found.clamp(-1, 1), where)


def _told_if_large(changes: Tensor, where: str) -> Tensor:
    """The changes in float32; a warning is issued if they exceed the bounds of all known attacks."""
    if (largest := float(changes.abs().max())) * _LEVELS > _USUAL:
        warnings.warn(
            f"{where} reach {largest * _LEVELS:.0f} levels of 255, more than the bounds of known attacks: check mean "
            "and std, if they are of normalised pixels; with eps the bound is checked",
            DataWarning,
            stacklevel=4,
        )
    return changes.float()


def _pair(entry: Any, where: str) -> tuple[Tensor, int]:
    if not isinstance(entry, list | tuple) or len(entry) != 2 or not isinstance(entry[0], Tensor):
        raise DataError(f"{where} is not a pair of image tensor and label: save a list of (image, label)")
    image = entry[0].detach()
    if image.ndim == 4 and len(image) == 1:
        image = image[0]
    if image.ndim != 3 or image.shape[0] not in (1, 3) or image.numel() == 0:
        raise DataError(f"{where}: the image is not a (3, H, W) or (1, H, W) tensor: save it with channels first")
    if image.dtype != torch.uint8 and image.dtype not in _FLOATS:
        raise DataError(f"{where}: the image is neither uint8 nor float: save uint8, or floats in [0, 1]")
    return image, parts.label(entry[1], f"{where}: label")


def _targets(found: Any, undo: tuple[Tensor, Tensor] | None, where: str) -> tuple[Tensor | None, Tensor | None]:
    """Targets (T, C, H, W) uint8, and labels (T,) int64 if each target is paired with one."""
    if found is None:
        return None, None
    if isinstance(found, Tensor):
        return _pixels(_stacked(found if found.ndim == 4 else found[None], where), undo, where), None
    single = isinstance(found, list | tuple) and len(found) == 2 and isinstance(found[0], Tensor)
    images, labels = parts.pairs([found] if single else found, _pair, where)
    return _pixels(images, undo, where), labels


def _pixels(images: Tensor, undo: tuple[Tensor, Tensor] | None, where: str) -> Tensor:
    """uint8; floats are rounded to the nearest level."""
    if images.dtype == torch.uint8:
        return images
    if undo is not None:
        mean, std = undo
        if len(mean) not in (1, images.shape[1]):
            raise DataError(
                f"{where} have {images.shape[1]} channels, but mean and std {len(mean)} values: give one each"
            )
        images = images.double() * std + mean
    lowest, highest = float(images.min()), float(images.max())
    if not images.is_floating_point():
        if images.dtype == torch.bool or lowest < 0 or highest > _LEVELS:
            raise DataError(f"{where} are integers in [{lowest:g}, {highest:g}]: save 0 to 255, or floats in [0, 1]")
        return images.to(torch.uint8)
    if undo is None and lowest >= 0 and 1 + _OUTSIDE < highest <= _LEVELS and bool((images == images.round()).all()):
        return images.to(torch.uint8)
    # Written so that a NaN fails as well.
    if not (lowest >= -_OUTSIDE and highest <= 1 + _OUTSIDE):
        levels = lowest >= 0 and highest <= _LEVELS
        cure = "divide them by 255" if levels else "if they are normalised, give mean and std"
        cure = "check mean and std" if undo else cure
        raise DataError(f"{where} lie in [{lowest:.3g}, {highest:.3g}], not in [0, 1]: {cure}")
    return parts.to_levels(images)


def write_tensors_pth(path: Path, poisons: PoisonSet) -> None:
    """Write ``poisons`` as one file, images as they are (uint8, or float32 in [0, 1]), with all targets.

    Raises:
        DataError: the images are neither grey nor RGB, or the path does not end in ``.pth`` (or ``.pt``).
        PoisonlabError: the file cannot be written.
    """
    check_channels(poisons, path)
    if path.suffix not in TORCH:
        raise DataError(f"{path} must end in .pth, by which readers know it: choose another name")
    content = {"poisons": _entries(poisons.images, poisons.labels), "indices": poisons.indices}
    if (goal := poisons.goal) is not None:
        targets = _entries(goal.targets, goal.target_labels)
        content["target"] = targets[0] if len(targets) == 1 else targets
        if goal.untriggered is not None:
            content["unpatched_target"] = _entries(goal.untriggered, goal.target_labels)
        content["adversarial_label"] = parts.plain_labels(goal.adversarial_labels)
    # Saved to memory first, because torch.save would store the file's temporary name in it.
    written = io.BytesIO()
    torch.save(content, written)
    with atomic_path(path) as temporary:
        temporary.write_bytes(written.getvalue())


def _entries(images: Tensor, labels: Tensor) -> list[tuple[Tensor, int]]:
    return list(zip(images.detach().cpu().contiguous(), labels.tolist(), strict=True))
