"""Friendly noise in a file, for training programs: an array mapped into memory, and the image of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from poisonlab.artifacts.noise import KIND
from poisonlab.artifacts.noise import save_noise as write_noise
from poisonlab.artifacts.tensors import read_tensors
from poisonlab.defenses.friendly_noise import check_noise
from poisonlab.errors import DataError

_NOISE, _NAMES, _LEVELS = "noise", "names", "levels"
_TOLERANCE = 4
"""Levels by which resizing and decoding elsewhere may move the mean of an image."""


@dataclass(frozen=True, eq=False)
class StoredNoise:
    """The noise of a file. Worker processes that receive it open the file again and copy nothing.

    Attributes:
        values: (N, C, H, W) float16 in units of the [0, 1] pixel range, mapped from the file: rows are read on demand,
            and processes share the memory.
        names: of the N image files, ``class/file``; empty if the images were not files.
        facts: how the noise was made.
        path: the file.
        levels: the mean of each image that the noise was made for, in levels of 255; empty if the file has none.
    """

    values: Tensor
    names: tuple[str, ...]
    facts: Mapping[str, Any]
    path: Path
    levels: tuple[int, ...] = ()
    _places: dict[str, int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.values)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self.names, dict(self.facts), self.levels)

    def check_image(self, row: int, image: Tensor, where: str) -> None:
        """Refuse an image whose mean shows that the noise was made for another one.

        Args:
            row: of the noise.
            image: (C, H, W) float in [0, 1].
            where: the image's place, for the message.

        Raises:
            DataError: the means differ by more than four levels.
        """
        if not self.levels:
            return
        mean = 255 * float(image.mean())
        if abs(mean - self.levels[row]) > _TOLERANCE:
            raise DataError(
                f"{where} has {mean:.0f} levels on average, and the image that its noise was made for had "
                f"{self.levels[row]}: make the noise again, as the images have changed"
            )

    def rows(self, paths: Sequence[str | Path]) -> Tensor:
        """(M,) int64: the rows of the images at ``paths``, known by class folder and file name.

        Raises:
            DataError: the file has no names or lacks an image, or two different images have the same name.
        """
        if not self.names:
            raise DataError(f"{self.path} has no names of images: its rows are in the order of the dataset")
        if not self._places:
            self._places.update((name, row) for row, name in enumerate(self.names))
        keys = [_key(path) for path in paths]
        missing = [key for key in keys if key not in self._places]
        if missing:
            raise DataError(
                f"{self.path} has no noise for {len(missing)} of {len(keys)} images, {missing[0]!r} first: make it "
                "for the images that are trained on"
            )
        known: dict[str, str | Path] = {}
        for key, path in zip(keys, paths, strict=True):
            if Path(other := known.setdefault(key, path)) != Path(path):
                raise DataError(
                    f"{other} and {path} would both get the noise of {key!r}, which was made for one of them: take "
                    "only the images that the noise was made for, such as the folder train"
                )
        return torch.tensor([self._places[key] for key in keys], dtype=torch.int64)


def _key(path: str | Path) -> str:
    return "/".join(Path(path).parts[-2:])


def _reopened(path: Path, names: tuple[str, ...], facts: dict[str, Any], levels: tuple[int, ...]) -> StoredNoise:
    """The noise in another process, unchecked: the first process has checked the file."""
    with safe_open(path, framework="pt") as file:
        return StoredNoise(file.get_tensor(_NOISE), names, facts, path, levels)


def load_noise(path: str | Path) -> StoredNoise:
    """Open a file of friendly noise: of ``make protect``, of ``save_noise``, or of a study's ``noise/`` folder.

    The whole file is read once, to compare its checksum; afterwards rows are read on demand.

    Raises:
        DataError: the file is missing, damaged, or no friendly noise, or some of its images have no noise.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} is missing: correct the path, or make the noise with make protect")
    tensors, facts = read_tensors(path, KIND)
    values, names, levels = tensors.get(_NOISE), facts.pop(_NAMES, []), facts.pop(_LEVELS, [])
    if values is None or values.ndim != 4 or any(len(each) not in (0, len(values)) for each in (names, levels)):
        raise DataError(f"{path} lacks the noise: make it again")
    if (made := tensors.get("made")) is not None and not bool(made.all()):
        raise DataError(
            f"{path} has no noise for {int((~made).sum())} of {len(made)} images, which a filter or a validation set "
            "excluded: take the noise of a row without filters, from a study without poisoned validation"
        )
    return StoredNoise(values, tuple(map(str, names)), facts, path, tuple(map(int, levels)))


def save_noise(
    path: str | Path,
    noise: Tensor,
    names: Sequence[str | Path] = (),
    facts: Mapping[str, Any] | None = None,
    images: Tensor | None = None,
) -> None:
    """Write friendly noise; equal content gives equal bytes, and a failed write leaves no file.

    Args:
        path: of the file (.safetensors).
        noise: (N, C, H, W) float, in units of the [0, 1] pixel range, within [-1, 1]. It is stored as float16: exact
            to 1/32 of a level, or to 1/16 beyond 127 levels.
        names: paths of the N image files, in the order of the noise; their last two parts are stored, ``class/file``.
        facts: JSON-like facts about how it was made.
        images: (N, C, H, W) uint8, for which the noise was made. Their means are stored, so that ``FriendlyDataset``
            refuses images that have changed since.

    Raises:
        DataError: the noise has another shape or range, or names or images do not fit it.
    """
    check_noise(noise)
    keys = [_key(name) for name in names]
    if keys and len(keys) != len(noise):
        raise DataError(f"{len(keys)} names do not fit the noise of {len(noise)} images: give one for each")
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DataError(f"two images are called {twice!r}: files must differ in class folder or file name")
    told = {**(facts or {}), **({_NAMES: keys} if keys else {})}
    if images is not None:
        if images.shape != noise.shape or images.dtype != torch.uint8:
            raise DataError(
                f"images must be uint8 of the noise's shape {tuple(noise.shape)}, not {images.dtype} of "
                f"{tuple(images.shape)}"
            )
        told[_LEVELS] = [round(float(image.float().mean())) for image in images]
    write_noise(Path(path), noise, torch.arange(len(noise)), told)
