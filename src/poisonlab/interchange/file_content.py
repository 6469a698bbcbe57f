"""Reads a single file of images, labels and rows, from any program; arrays become tensors.

=================  ==========================================================================================
``.pth``, ``.pt``  torch.save; NumPy arrays and PIL images in it are read by the allow-list of pickles
``.npz``           numpy.savez, without Python objects: a dict of its arrays
``.npy``           numpy.save, without Python objects: one array
``.pickle``        pickle.dump, read by the allow-list; also ``.pkl``
=================  ==========================================================================================
"""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poisonlab.data.file_kinds import other_kind
from poisonlab.errors import DataError
from poisonlab.interchange import allowed_pickle
from poisonlab.interchange.allowed_pickle import LARGEST_FILE, RgbImage, read_bytes

TORCH = (".pth", ".pt")
NUMPY = (".npz", ".npy")
PICKLES = (".pickle", ".pkl")
SUFFIXES = (*TORCH, *NUMPY, *PICKLES)
_TENSORS = (Tensor, torch.nn.Parameter)
_LARGEST_VIEW = 1 << 28


def read_content(path: Path) -> Any:
    """The content of a file, read according to its suffix; no code in it is run.

    Returns:
        Numbers, text, lists, tuples and dicts of them; arrays as tensors, unsigned integers of more than 8 bits as
        int64; PIL images as (3, H, W) uint8 tensors.

    Raises:
        DataError: the file is missing, damaged, hostile or too large.
    """
    if path.suffix in NUMPY:
        return _as_tensors(_numpy(path), {})
    return _torch(path) if path.suffix in TORCH else _as_tensors(allowed_pickle.load(path), {})


def _as_tensors(value: Any, done: dict[int, Any]) -> Any:
    """``value``, nested at most as deep as the allow-list lets through, with tensors for arrays and images."""
    if isinstance(value, RgbImage):
        return value.pixels
    if isinstance(value, list | tuple | dict | np.ndarray):
        # An object that occurs often is converted once.
        if id(value) not in done:
            done[id(value)] = (value, _converted(value, done))
        return done[id(value)][1]
    return value


def _converted(value: Any, done: dict[int, Any]) -> Any:
    if isinstance(value, np.ndarray):
        signed = value.astype(np.int64) if value.dtype.kind == "u" and value.dtype.itemsize > 1 else value
        return torch.from_numpy(np.array(signed))
    if isinstance(value, dict):
        return {key: _as_tensors(each, done) for key, each in value.items()}
    each = [_as_tensors(item, done) for item in value]
    return each if isinstance(value, list) else tuple(each)


def _numpy(path: Path) -> dict[str, NDArray[Any]] | NDArray[Any]:
    data = read_bytes(path)
    if data.startswith(b"PK") != (path.suffix == ".npz") or (path.suffix == ".npy" and data[:6] != b"\x93NUMPY"):
        kind = other_kind(path) or "of no known kind: save it again"
        raise DataError(f"{path} is not the NumPy file of its suffix but {kind}")
    try:
        _check_unfolded(data, path)
        found = np.load(io.BytesIO(data), allow_pickle=False)
        arrays = {name: found[name] for name in found.files} if path.suffix == ".npz" else {"": found}
    except DataError:
        raise
    # The exception depends on the damaged byte: ValueError, BadZipFile, zlib.error, SyntaxError, ...
    except Exception as error:
        if "allow_pickle" in str(error):
            raise DataError(f"{path} holds Python objects, which may run code: save arrays of numbers") from error
        raise DataError(f"{path} is damaged or no NumPy file: copy it again") from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
            raise DataError(f"{path} array {name!a} is not of plain numbers: save integers or floats")
    native = {name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in arrays.items()}
    return native if path.suffix == ".npz" else native[""]


def _torch(path: Path) -> Any:
    data = read_bytes(path)
    try:
        with warnings.catch_warnings():
            # torch warns about the deprecated storage types of old files.
            warnings.simplefilter("ignore")
            _check_unfolded(data, path)
            found = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
            _check_plain(found, path)
            return found
    except DataError:
        raise
    # The exception depends on the damaged byte, and torch's own messages have many lines.
    except Exception as error:
        if "GLOBAL" in str(error) and zipfile.is_zipfile(io.BytesIO(data)):
            return _as_tensors(allowed_pickle.load_zipped(data, path), {})
        raise DataError(
            f"{path} is damaged or holds more than tensors, numbers, lists and dicts; nothing in it was run: "
            "save it again with torch.save from plain ones"
        ) from error


def _check_plain(content: Any, path: Path) -> None:
    """Check that every tensor is dense and no larger than its memory.

    torch.load also makes sparse, nested and quantized tensors, tensors without content, and views that repeat a few
    numbers without end."""
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
    """Check that the entries of a zip archive unfold to at most ``LARGEST_FILE`` bytes."""
    content = io.BytesIO(data)
    if not zipfile.is_zipfile(content):
        return
    with zipfile.ZipFile(content) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > LARGEST_FILE:
            raise DataError(f"{path} unfolds to more than {LARGEST_FILE} bytes: split it")
