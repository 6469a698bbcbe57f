"""Plain tensors saved with torch.save.

Either one file with a dict ``{"poisons": [(image, label), ...], "indices": ..., "target": ...,
"adversarial_label": ...}``, of which the last two may be missing, or a folder with ``poisons.pth``, ``indices.pth``
(or ``base_indices.pth``) and perhaps ``target.pth``. A target is (image, label) or a list of such pairs; the
adversarial label is one for all, or a list. Images are (3, H, W) uint8, or floats in [0, 1], or normalised floats.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.errors import DataError
from poisonlab.files import atomic_path
from poisonlab.interchange import parts
from poisonlab.interchange.allowed_pickle import LARGEST_FILE, read_bytes
from poisonlab.interchange.imported_poisons import ImportedPoisons
from poisonlab.interchange.new_folder import check_channels

POISONS = "poisons.pth"
_INDICES = ("indices.pth", "base_indices.pth")
_TARGET = "target.pth"
EXPECTED = (
    'save {"poisons": [(image, label), ...], "indices": [training row of each, ...]}, and "target": (image, label) '
    "where there is one"
)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_OUTSIDE = 1e-3
_TENSORS = (Tensor, torch.nn.Parameter)
_LARGEST_VIEW = 1 << 28


def read_tensors_pth(
    path: Path, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> ImportedPoisons:
    """Read poisons saved with torch.save; no code in the files is run.

    Args:
        path: the ``.pth`` file, or the folder with ``poisons.pth``.
        mean: three values in units of pixels in [0, 1], if the float images are normalised; undone.
        std: likewise.

    Returns:
        Poisons in uint8 if the file has uint8, or floats that all are whole levels of 255; else in float32.

    Raises:
        DataError: a file is missing, damaged, hostile, or its content contradicts the rest; or floats leave [0, 1],
            so that mean and std are missing or wrong.
    """
    undo = parts.normalisation(mean, std)
    path = path / POISONS if path.is_dir() else path
    found = _load(path)
    content = _content(path, found)
    images, labels = parts.pairs(content.get("poisons"), _pair, f"{path}: poisons")
    if undo is not None and images.dtype == torch.uint8:
        raise DataError(f"{path}: poisons are uint8, so they cannot be normalised: leave out mean and std")
    rows = content.get("indices", content.get("base_indices"))
    aim = content.get("adversarial_label")
    targets, target_labels = _targets(content.get("target"), undo, f"{path}: target")
    unpatched, _ = _targets(content.get("unpatched_target"), undo, f"{path}: unpatched_target")
    return ImportedPoisons(
        images=_pixels(images, undo, f"{path}: poisons"),
        labels=labels,
        indices=parts.indices(rows, f"{path}: indices"),
        targets=targets,
        target_labels=target_labels,
        unpatched_targets=unpatched,
        adversarial_labels=None if aim is None else parts.labels(aim, f"{path}: adversarial_label"),
        source=str(path),
    )


def _content(path: Path, found: Any) -> dict[str, Any]:
    """The dict of poisons, indices and targets.

    Raises:
        DataError: the file holds another thing, or poisons in another form.
    """
    if not isinstance(found, dict) and not _are_pairs(found):
        raise DataError(f"{path} holds {parts.described(found)}: {EXPECTED}")
    content = found if isinstance(found, dict) else _beside(path, found)
    poisons = content.get("poisons")
    if poisons is None:
        raise DataError(f"{path} holds {parts.described(found)}, and no poisons: {EXPECTED}")
    if isinstance(poisons, Tensor):
        raise DataError(
            f"{path}: poisons is not a list of (image, label) but {parts.described(poisons)}: save "
            "list(zip(poisons, labels)) in its place"
        )
    return content


def _are_pairs(found: Any) -> bool:
    return isinstance(found, list | tuple) and all(isinstance(each, list | tuple) for each in found)


def _beside(path: Path, poisons: Any) -> dict[str, Any]:
    """The dict that a list of poisons and the files beside it amount to."""
    content = {"poisons": poisons}
    present = [path.parent / name for name in _INDICES if (path.parent / name).exists()]
    if not present:
        raise DataError(f"{path} holds no indices, and there is no {_INDICES[0]} beside it: save the training rows")
    content["indices"] = _load(present[0])
    if (path.parent / _TARGET).exists():
        content["target"] = _load(path.parent / _TARGET)
    return content


def _load(path: Path) -> Any:
    data = read_bytes(path)
    try:
        with warnings.catch_warnings():
            # Reading old files warns about storage types that are on their way out.
            warnings.simplefilter("ignore")
            _check_unfolded(data, path)
            found = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
            _check_plain(found, path)
            return found
    except DataError:
        raise
    # Which exception comes depends on the damaged byte, and torch's own messages have many lines.
    except Exception as error:
        if "GLOBAL numpy" in str(error):
            raise DataError(
                f"{path} holds NumPy arrays or numbers, which may hold code; nothing in it was run: save them as "
                "tensors (torch.as_tensor) or lists"
            ) from error
        raise DataError(
            f"{path} is damaged or holds more than tensors, numbers, lists and dicts; nothing in it was run: "
            "save it again with torch.save from plain ones"
        ) from error


def _check_plain(content: Any, path: Path) -> None:
    """Check that every tensor is plain memory: torch.load also makes sparse, nested and quantized ones, ones without
    content, and views that repeat a few numbers without end."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            plain = value.layout is torch.strided and value.device.type == "cpu"
            if type(value) not in _TENSORS or not plain or value.is_nested or value.is_quantized:
                raise DataError(f"{path} holds a tensor that is not dense: save it with .to_dense() or .clone()")
            size = value.numel() * value.element_size()
            if size > max(_LARGEST_VIEW, value.untyped_storage().nbytes()):
                raise DataError(f"{path} holds a tensor that unfolds to {size} bytes: save it with .clone()")
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += value


def _check_unfolded(data: bytes, path: Path) -> None:
    """Check that the entries of a zip archive are not compressed to a tiny fraction."""
    content = io.BytesIO(data)
    if not zipfile.is_zipfile(content):
        return
    with zipfile.ZipFile(content) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > LARGEST_FILE:
            raise DataError(f"{path} unfolds to more than {LARGEST_FILE} bytes: split it")


def _pair(entry: Any, where: str) -> tuple[Tensor, int]:
    if not isinstance(entry, list | tuple) or len(entry) != 2 or not isinstance(entry[0], Tensor):
        raise DataError(f"{where} is not a pair of image tensor and label: save a list of (image, label)")
    image = entry[0].detach()
    plain = image.layout is torch.strided and image.device.type == "cpu"
    if not plain or image.ndim != 3 or image.shape[0] not in (1, 3) or image.numel() == 0:
        raise DataError(f"{where}: the image is not a dense (3, H, W) or (1, H, W) tensor: save it with channels first")
    if image.dtype != torch.uint8 and image.dtype not in _FLOATS:
        raise DataError(f"{where}: the image is neither uint8 nor float: save uint8, or floats in [0, 1]")
    return image, parts.label(entry[1], f"{where}: label")


def _targets(found: Any, undo: tuple[Tensor, Tensor] | None, where: str) -> tuple[Tensor | None, Tensor | None]:
    """Targets (T, C, H, W) uint8 and their labels (T,) int64."""
    if found is None:
        return None, None
    single = isinstance(found, list | tuple) and len(found) == 2 and isinstance(found[0], Tensor)
    images, labels = parts.pairs([found] if single else found, _pair, where)
    return parts.to_levels(_pixels(images, undo, where)), labels


def _pixels(images: Tensor, undo: tuple[Tensor, Tensor] | None, where: str) -> Tensor:
    """uint8, or float32 in [0, 1]."""
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
    # Written so that a NaN fails as well.
    if not (lowest >= -_OUTSIDE and highest <= 1 + _OUTSIDE):
        cure = "check mean and std" if undo else "if they are normalised, give mean and std"
        raise DataError(f"{where} lie in [{lowest:.3g}, {highest:.3g}], not in [0, 1]: {cure}")
    return parts.whole_levels(images.clamp(0, 1))


def write_tensors_pth(path: Path, poisons: PoisonSet) -> None:
    """Write ``poisons`` as one file, images as they are (uint8, or float32 in [0, 1]), with all targets.

    Raises:
        DataError: the images are neither grey nor RGB.
        PoisonlabError: the file cannot be written.
    """
    check_channels(poisons, path)
    content = {"poisons": _entries(poisons.images, poisons.labels), "indices": poisons.indices}
    if (goal := poisons.goal) is not None:
        targets = _entries(goal.targets, goal.target_labels)
        content["target"] = targets[0] if len(targets) == 1 else targets
        if goal.untriggered is not None:
            content["unpatched_target"] = _entries(goal.untriggered, goal.target_labels)
        content["adversarial_label"] = parts.plain_labels(goal.adversarial_labels)
    # Through memory, because torch.save writes a file's own, here temporary, name into it.
    written = io.BytesIO()
    torch.save(content, written)
    with atomic_path(path) as temporary:
        temporary.write_bytes(written.getvalue())


def _entries(images: Tensor, labels: Tensor) -> list[tuple[Tensor, int]]:
    return list(zip(images.detach().cpu().contiguous(), labels.tolist(), strict=True))
