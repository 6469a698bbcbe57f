"""Reads the images of a path, and the names of its training images."""

from __future__ import annotations

import warnings
from pathlib import Path

from poisonlab.config.class_folders import class_folders
from poisonlab.config.data.image_folder import ImageFolder
from poisonlab.config.data.source import Source
from poisonlab.data.assembly import assemble
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.image_folder import class_files, decode_files
from poisonlab.data.source_at import training_folder
from poisonlab.data.sources import load_dataset
from poisonlab.data.unread import told, unread
from poisonlab.errors import DataWarning


def read_images(settings: Source) -> tuple[ImageDataset, tuple[str, ...]]:
    """The dataset, and the path of each training image relative to the folder of classes.

    Use only the training split. There are no paths if images are not files of their own. An ``image-folder`` needs no
    test split here, and may have its class folders at its root. A ``DataWarning`` counts its files that get no noise.

    Raises:
        DataError: a file is missing, damaged or of the wrong shape.
    """
    if not isinstance(settings, ImageFolder):
        with warnings.catch_warnings():
            # A file with one split serves as both, which does no harm: only its training images are used.
            warnings.filterwarnings("ignore", ".* of both splits", DataWarning)
            return load_dataset(settings), ()
    folder = training_folder(Path(settings.root))
    classes = class_folders(folder, settings.class_order)
    files, labels = class_files(folder, classes)
    if passed_over := unread(folder, [folder]):
        warnings.warn(f"{folder}: no noise is made for {told(passed_over)}", DataWarning, stacklevel=2)
    images = decode_files(files, settings.size)
    # ImageDataset requires a test split, which is not used here.
    dataset = assemble(images, labels, images[:1], labels[:1], classes, settings, str(folder))
    return dataset, tuple(str(file.relative_to(folder)) for file in files)
