"""The forms in which programs save poisons, brought to one: a dict with the names that ``tensors`` reads.

Known by their shape and by usual names; what could mean two things is refused with the key that decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from poisonlab.errors import DataError
from poisonlab.interchange import parts

Holds = Literal["images", "changes"]

EXPECTED = (
    'save {"poisons": [(image, label), ...], "indices": [training row of each, ...]}, and "target": (image, label) '
    "where there is one"
)
_NAMES: Mapping[str, tuple[str, ...]] = {
    "poisons": ("poisons", "poison", "poison_images", "adv_inputs", "images", "x", "x_train", "data"),
    "changes": ("delta", "deltas", "poison_delta", "perturbation", "perturbations", "noise"),
    "labels": ("labels", "poison_labels", "label", "y", "y_train"),
    "indices": ("indices", "base_indices", "poison_indices", "poison_ids", "idx", "ids"),
}
# numpy.savez calls an array so that is given without a name.
_UNNAMED = "arr_0"
# Larger changes are no perturbations, and smaller pixels no images.
_HALF = 0.5


def as_content(found: Any, path: Path, holds: Holds | None) -> dict[str, Any]:
    """A dict with ``poisons`` (images or pairs) or ``changes``, and with ``labels``, ``indices``, ``target`` and so on
    where the file has them.

    Args:
        found: what the file holds.
        path: the file, for messages.
        holds: what a bare array means, where its values leave it open.

    Raises:
        DataError: it is none of the known forms, or could be two.
    """
    if isinstance(found, dict) and list(found) == [_UNNAMED]:
        found = found[_UNNAMED]
    if isinstance(found, dict):
        return _named(found, path)
    if isinstance(found, Tensor) and found.ndim == 4:
        return {_meaning(found, path) if holds is None else "changes" if holds == "changes" else "poisons": found}
    if isinstance(found, list | tuple) and len(found) == 2 and _are_numbers(found[1]):
        first, second = found
        if _are_pairs(first):
            return {"poisons": first, "indices": second}
        if isinstance(first, Tensor) and first.ndim == 4 and len(first) == len(second):
            return _two_arrays(first, second, path, holds)
    if _are_pairs(found):
        return {"poisons": found}
    raise DataError(f"{path} holds {parts.described(found)}: {EXPECTED}")


def _named(found: dict[Any, Any], path: Path) -> dict[str, Any]:
    """The parts of a dict by their usual names; other keys are kept."""
    content = {key: value for key, value in found.items() if isinstance(key, str)}
    for name, usual in _NAMES.items():
        present = [key for key in usual if found.get(key) is not None]
        if len(present) > 1:
            raise DataError(f"{path} has {' and '.join(present)}, which both could be the {name}: keep one")
        if present:
            content[name] = content.pop(present[0])
    if ("poisons" in content) == ("changes" in content):
        problem = "both poisons and changes" if "poisons" in content else "no poisons"
        raise DataError(f"{path} holds {parts.described(found)}, and {problem}: {EXPECTED}")
    return content


def _two_arrays(first: Tensor, second: Any, path: Path, holds: Holds | None) -> dict[str, Any]:
    """Images and labels, or changes and rows as the toolbox of Witches' Brew packs them."""
    numbers = parts.indices(second, f"{path}: entry 1")
    repeated = len(set(numbers.tolist())) < len(numbers)
    negative = bool((first < 0).any())
    if repeated and holds != "changes":
        return {"poisons": first, "labels": numbers}
    if not repeated and (holds or (negative and "changes")) == "changes":
        return {"changes": first, "indices": numbers, "normalised": True}
    raise DataError(
        f"{path} holds {parts.described([first, second])}, which could be images and labels or changes and rows: save "
        'a dict that names them ("poisons" and "labels", or "delta" and "indices")'
    )


def _meaning(values: Tensor, path: Path) -> str:
    """Whether a bare array is of images or of changes, by its values."""
    if values.dtype == torch.uint8:
        return "poisons"
    lowest, highest = float(values.min()) if values.numel() else 0.0, float(values.max()) if values.numel() else 0.0
    if lowest < 0 or not values.is_floating_point():
        return "changes"
    if highest > _HALF:
        return "poisons"
    raise DataError(
        f"{path} holds {parts.described(values)} with values in [{lowest:.3g}, {highest:.3g}], which could be images "
        "or changes of images: set holds: images, or holds: changes"
    )


def _are_numbers(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.ndim == 1 and not value.is_floating_point()
    return isinstance(value, list | tuple) and all(
        isinstance(each, int) or (isinstance(each, Tensor) and each.ndim == 0) for each in value
    )


def _are_pairs(found: Any) -> bool:
    return isinstance(found, list | tuple) and all(isinstance(each, list | tuple) for each in found)
