"""Finds the data source that reads a path. The workflow uses this module before any job: it imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from poisonlab.config.class_folders import SUFFIXES, class_folders, image_files, renaming, split_folders, splits_alone
from poisonlab.config.data.cifar import Cifar
from poisonlab.config.data.idx import Idx
from poisonlab.config.data.image_folder import ImageFolder
from poisonlab.config.data.npz import Npz
from poisonlab.config.data.parquet import Parquet
from poisonlab.config.data.shards import SPLITS, shard_files
from poisonlab.config.data.source import FileDataset
from poisonlab.config.data.svhn import Svhn
from poisonlab.config.data.tiny_imagenet import WNIDS, TinyImageNet
from poisonlab.config.data.webdataset import WebDataset
from poisonlab.config.explaining import explained
from poisonlab.config.types import InputPath
from poisonlab.data.array_names import of_one_split
from poisonlab.data.file_kinds import other_kind
from poisonlab.errors import DataError, SettingsError
from poisonlab.files import read_error

_CIFAR = {"cifar-10-batches-py": "cifar10", "cifar-100-python": "cifar100"}


def source_at(path: Path) -> FileDataset:
    """Settings of the data source that reads a path, chosen by file names.

    A folder holds class folders (also in ``train``), Parquet files or tar archives, or is CIFAR, MNIST, SVHN or
    TinyImageNet in its published layout. A file is ``.npz``, ``.parquet``, ``.tar`` or TinyImageNet's ``.zip``. If the
    path holds a single split (a file, a folder, or the arrays of an ``.npz``), this split serves as both.

    Raises:
        SettingsError: the path is not allowed in settings.
        DataError: the path is missing, cannot be read, or is none of these.
    """
    # Programs would take such a path for an option.
    path = path.absolute() if str(path).startswith("-") else path
    where = str(path)
    try:
        TypeAdapter(InputPath).validate_python(where)
        is_folder, is_file = path.is_dir(), path.is_file()
    except ValidationError as error:
        raise explained(error, FileDataset, "data") from error
    except OSError as error:
        raise read_error(path, error) from error
    if is_folder:
        return _folder(path)
    if not is_file:
        raise DataError(f"{path} is missing: name a folder of class folders, or a file of images and labels")
    match path.suffix.lower():
        case ".npz":
            alone = of_one_split(path)
            return Npz(source="npz", path=where, arrays=None if alone is None else (*alone, *alone))
        case ".parquet":
            return Parquet(source="parquet", train=where, test=where)
        case ".tar":
            return WebDataset(source="webdataset", train=where, test=where)
        case ".zip":
            return TinyImageNet(source="tiny-imagenet", root=where)
    kind = other_kind(path)
    raise DataError(f"{path} is not a dataset that its path identifies" + (f" but {kind}" if kind else _CURE))


def with_folder_keys(dataset: Any, keys: Mapping[str, Any]) -> Any:
    """The keys of ``dataset`` with all ``keys`` (names of ``BESIDE_A_PATH``) that are not None.

    Raises:
        SettingsError: a key is not None, and ``dataset`` is no mapping or of another source than image-folder.
    """
    given = {name: value for name, value in keys.items() if value is not None}
    if given and (not isinstance(dataset, Mapping) or dataset.get("source") != "image-folder"):
        raise SettingsError(_OF_FOLDERS[next(iter(given))])
    return {**dataset, **given} if given else dataset


_OF_FOLDERS = {
    "size": "size resizes folders of images only: other formats hold images of one size",
    "class_order": "class_order is for folders of images only: other formats number their classes, so take it away",
}


_CURE = ": name a .npz, .parquet or .tar file or a folder, or write its keys under dataset in a settings file"


def _folder(path: Path) -> FileDataset:
    try:
        where, names = str(path), [entry.name for entry in path.iterdir()]
    except OSError as error:
        raise read_error(path, error) from error
    for name, source in _CIFAR.items():
        if name in (path.name, *names):
            root = path if name in names else path.parent
            return Cifar.model_validate({"source": source, "root": str(root)})
    if WNIDS in names:
        return TinyImageNet(source="tiny-imagenet", root=where)
    if "train_32x32.mat" in names:
        return Svhn(source="svhn", root=where)
    if any("idx3-ubyte" in name for name in names):
        return Idx(source="idx", root=where)
    training = training_folder(path)
    if shards := sorted(name for name in names if name.endswith((".parquet", ".tar"))):
        if _has_images(training):
            raise DataError(
                f"{path} has class folders with images and {shards[0]}: name {path / shards[0]} to read it alone, or "
                "move it elsewhere to read the folders"
            )
        return _shards(where, Path(shards[0]).suffix)
    if _has_images(training):
        if training == path and splits_alone(class_folders(path)):
            raise DataError(
                f"{path} has no classes: its folders {', '.join(class_folders(path))} are named after splits. "
                f"Sort the images into {path}/train/<class>/ and so on"
            )
        apart = training != path and _has_images(split_folders(path)[1])
        return ImageFolder(source="image-folder", root=where if apart else str(training), splits=apart)
    raise DataError(f"{path} has no class folders with images{_where_images_are(path)}")


def _shards(where: str, suffix: str) -> FileDataset:
    """Settings of a folder of shards; if the file names show a single split, it serves as both."""
    train, test = (shard_files(where, split, suffix) for split in SPLITS)
    only = test if train == (where,) else train
    given = only if (where,) in (train, test) else where
    if suffix == ".parquet":
        return Parquet(source="parquet", train=given, test=given)
    return WebDataset(source="webdataset", train=given, test=given)


def _where_images_are(path: Path) -> str:
    """End of the message on a folder without class folders with images: its actual content and the cure."""
    if image_files(path)[0]:
        return (
            ": its images lie side by side. If it is one class of several, name the folder above it; else sort them "
            f"into {path}/<class>/"
        )
    if (cure := renaming(path)) is not None:
        return f", but splits of other names: {cure}"
    for below in sorted(folder for folder in path.iterdir() if folder.is_dir()):
        if _has_images(below) and splits_alone(names := class_folders(below), least=1):
            return (
                f": {below} is a class, and has the splits {', '.join(names)} inside it. Put the splits above the "
                f"classes: move its images to {path}/{names[0]}/{below.name}/ and so on"
            )
        if _has_images(training_folder(below)):
            return f", but {below} has: name that folder"
        if any(file.suffix in (".parquet", ".tar") for file in below.iterdir()):
            return f", but {below} has Parquet or tar files: name that folder"
    return f" ({', '.join(sorted(SUFFIXES))}){_CURE}"


def training_folder(root: Path) -> Path:
    """``root/train`` if it has class folders with images, else ``root``."""
    return root / "train" if _has_images(root / "train") else root


def _has_images(folder: Path) -> bool:
    try:
        return any(image_files(folder / name)[0] for name in class_folders(folder))
    except DataError:
        return False
