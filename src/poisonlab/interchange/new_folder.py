"""Writes a folder of files completely or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.errors import DataError
from poisonlab.files import write_error


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to ``folder`` if the block succeeds, and removed otherwise.

    Raises:
        DataError: ``folder`` exists and is not an empty folder, so that old files could be taken for new ones.
        PoisonlabError: the folder cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists already: remove it, or choose another folder to export to")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.replace(folder)
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_replacements(poisons: PoisonSet, folder: Path) -> None:
    """Check that ``poisons`` fit a format in which every image replaces a training row.

    Raises:
        DataError: an image is neither grey nor RGB, or is appended to the training set.
    """
    check_channels(poisons, folder)
    if bool((poisons.indices < 0).any()):
        raise DataError(f"{folder}: this format cannot hold appended poisons (index -1): export tensors (.pth)")


def check_channels(poisons: PoisonSet, path: Path) -> None:
    """Check that ``poisons`` are grey or RGB.

    Raises:
        DataError: they have neither one channel nor three.
    """
    if poisons.images.shape[1] not in (1, 3):
        raise DataError(f"{path}: this format holds grey or RGB images, not {poisons.images.shape[1]} channels")
