"""The images of a path that a user names: which format it is, and how its training images are called."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from poisonlab.config.class_folders import SUFFIXES, class_folders, image_files
from poisonlab.config.data.cifar import Cifar
from poisonlab.config.data.idx import Idx
from poisonlab.config.data.image_folder import ImageFolder
from poisonlab.config.data.npz import Npz
from poisonlab.config.data.parquet import Parquet
from poisonlab.config.data.source import FileDataset, Source
from poisonlab.config.data.svhn import Svhn
from poisonlab.config.data.tiny_imagenet import WNIDS, TinyImageNet
from poisonlab.config.data.webdataset import WebDataset
from poisonlab.data.assembly import assemble
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.decoding import decode_all
from poisonlab.data.file_kinds import other_kind
from poisonlab.data.sources import load_dataset
from poisonlab.errors import DataError, DataWarning

_CIFAR = {"cifar-10-batches-py": "cifar10", "cifar-100-python": "cifar100"}


def source_at(path: Path) -> FileDataset:
    """Settings of the data source that reads a path, by the names of files.

    A folder is one of class folders (or has them in ``train``), of Parquet files or of tar archives. The layouts in
    which CIFAR, MNIST, SVHN and TinyImageNet are published are known, too. A file is ``.npz``, ``.parquet``, ``.tar``
    or TinyImageNet's ``.zip``. A file that is one split is both splits.

    Raises:
        DataError: the path is missing, or none of these.
    """
    where = str(path)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise DataError(f"{path} is missing: name a folder of class folders, or a file of images and labels")
    match path.suffix.lower():
        case ".npz":
            return Npz(source="npz", path=where)
        case ".parquet":
            return Parquet(source="parquet", train=where, test=where)
        case ".tar":
            return WebDataset(source="webdataset", train=where, test=where)
        case ".zip":
            return TinyImageNet(source="tiny-imagenet", root=where)
    kind = other_kind(path)
    raise DataError(f"{path} is no dataset that is read by its path" + (f" but {kind}" if kind else _CURE))


_CURE = ": name a .npz, .parquet or .tar file or a folder, or write its keys under dataset in a settings file"


def _folder(path: Path) -> FileDataset:
    where, names = str(path), [entry.name for entry in path.iterdir()]
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
    if any(name.endswith(".parquet") for name in names):
        return Parquet(source="parquet", train=where, test=where)
    if any(name.endswith(".tar") for name in names):
        return WebDataset(source="webdataset", train=where, test=where)
    if _has_images(_training_folder(path)):
        return ImageFolder(source="image-folder", root=where)
    raise DataError(f"{path} has no class folders with images ({', '.join(sorted(SUFFIXES))}){_CURE}")


def _training_folder(root: Path) -> Path:
    """``train`` where it has class folders, else the folder itself."""
    return root / "train" if _has_images(root / "train") else root


def _has_images(folder: Path) -> bool:
    try:
        return any(image_files(folder / name)[0] for name in class_folders(folder))
    except DataError:
        return False


def read_images(settings: Source) -> tuple[ImageDataset, tuple[str, ...]]:
    """The dataset, whose training split counts, and the path of each training image from the folder of classes; no
    paths if images are not files of their own.

    An ``image-folder`` needs no test split here, and may have its class folders at its root.

    Raises:
        DataError: a file is missing, damaged or of the wrong shape.
    """
    if not isinstance(settings, ImageFolder):
        with warnings.catch_warnings():
            # A file that is one split is named as both, and only its training images are looked at.
            warnings.filterwarnings("ignore", ".* is a file of both splits", DataWarning)
            return load_dataset(settings), ()
    folder = _training_folder(Path(settings.root))
    classes = class_folders(folder)
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found, _ = image_files(folder / name)
        if not found:
            raise DataError(f"{folder / name} has no images ({', '.join(sorted(SUFFIXES))}): add some or remove it")
        files += found
        labels += [label] * len(found)
    images = decode_all(
        ((str(file), file) for file in files), len(files), settings.size, "set size to resize every image to one shape"
    )
    each = torch.tensor(labels, dtype=torch.int64)
    # A dataset has a test split; nothing here looks at it.
    dataset = assemble(images, each, images[:1], each[:1], classes, settings, str(folder))
    return dataset, tuple(str(file.relative_to(folder)) for file in files)
