"""Converts the forms in which programs save poisons to one: a dict with the names that ``tensors`` reads.

Forms are recognised by shapes and usual names. Ambiguous content is refused, with the key that decides.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from poisonlab.errors import DataError, DataWarning
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
# numpy.savez gives this name to an unnamed array.
_UNNAMED = "arr_0"
_BESIDE = ("target", "unpatched_target", "adversarial_label")
# A key with one of these words describes the poisons, so it must not be passed over.
_TELLING = ("label", "target", "class", "index", "indices", "image", "poison")
# Perturbations stay below this share of the range; images have pixels above it.
_HALF = 0.5
# The brightest pixel, with errors of rounding.
_BRIGHTEST = 1 + 1e-3


def as_content(found: Any, path: Path, holds: Holds | None, normalised: bool = False) -> dict[str, Any]:
    """A dict with ``poisons`` (images or pairs) or ``changes``, and with ``labels``, ``indices``, ``target`` and so on
    where the file has them.

    Args:
        found: what the file holds.
        path: the file, for messages.
        holds: the meaning of a bare array whose values are ambiguous.
        normalised: whether its floats are normalised, so that negative values do not prove changes.

    Raises:
        DataError: the content has no known form, or could have two.
    """
    if isinstance(found, dict) and list(found) == [_UNNAMED]:
        found = found[_UNNAMED]
    if isinstance(found, dict):
        return _named(found, path)
    if isinstance(found, Tensor) and found.ndim == 4:
        meaning = _meaning(found, path, normalised) if holds is None else "poisons" if holds == "images" else holds
        return {meaning: found}
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
    """The parts of a dict by their usual names. A warning names keys that are passed over.

    Raises:
        DataError: a part has two names, or an unknown key seems to describe the poisons.
    """
    known = {*_BESIDE, *(key for usual in _NAMES.values() for key in usual)}
    content = {key: value for key, value in found.items() if key in known}
    unknown = sorted(key for key in found.keys() - known if isinstance(key, str))
    if telling := [key for key in unknown if any(part in key.lower() for part in _TELLING)]:
        raise DataError(
            f"{path} has the unknown key {telling[0]!r}: leave it out, or rename it to labels, indices, "
            f"{' or '.join(_BESIDE)}"
        )
    if unknown:
        warnings.warn(f"{path}: passed over {', '.join(map(repr, unknown))}", DataWarning, stacklevel=3)
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


def _meaning(values: Tensor, path: Path, normalised: bool) -> str:
    """Whether a bare array is of images or of changes, by its values."""
    if values.dtype == torch.uint8:
        return "poisons"
    whole = not values.is_floating_point()
    lowest, highest = float(values.min()) if values.numel() else 0.0, float(values.max()) if values.numel() else 0.0
    if whole or not normalised:
        bright = highest > (255 * _HALF if whole else _HALF)
        # Negative floats beside bright ones may be images in [-1, 1], or in [0, 1] with errors of rounding.
        if lowest < 0 and (whole or not bright or highest > _BRIGHTEST):
            return "changes"
        if lowest >= 0 and bright:
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
