"""cifar10 and cifar100: the original archives, through torchvision."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100

from poisonlab.config.data.cifar import Cifar as Settings
from poisonlab.data.assembly import assemble
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import DataError

_READERS: dict[str, Any] = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def load(settings: Settings) -> ImageDataset:
    """Read the dataset, fetching it first if ``settings.download``; images are (N, 3, 32, 32) uint8.

    Raises:
        DataError: the files are missing or damaged, the download fails, or a limit cannot be met.
    """
    reader = _READERS[settings.source]
    folder = Path(settings.root).expanduser() / reader.base_folder
    try:
        train = reader(settings.root, train=True, download=settings.download)
        test = reader(settings.root, train=False)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, tarfile.TarError, KeyError) as error:
        raise _unreadable(settings, folder, error) from error
    return assemble(
        *_split(train), *_split(test), class_names=tuple(train.classes), settings=settings, where=str(folder)
    )


def _split(part: Any) -> tuple[Tensor, Tensor]:
    images = np.ascontiguousarray(part.data.transpose(0, 3, 1, 2))
    return torch.from_numpy(images), torch.tensor(part.targets, dtype=torch.int64)


def _unreadable(settings: Settings, folder: Path, error: Exception) -> DataError:
    name = settings.source
    if settings.download:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return DataError(
            f"cannot download {name} to {folder}: {reason}; check the network and free space, "
            f"or delete {folder.name}* in {folder.parent} and run again"
        )
    if not folder.is_dir():
        return DataError(f"{name} is missing, no folder {folder}: set download: true, or correct root in the config")
    return DataError(f"{name} in {folder} is damaged or incomplete: delete that folder and set download: true")
