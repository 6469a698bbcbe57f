"""Arrays of numbers in MATLAB files of version 5 (MAT-File Format, The MathWorks, chapter 1).

SciPy is not used, because damaged files crash the interpreter in its compiled reader.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonlab.data.compression import most_bytes
from poisonlab.data.file_kinds import other_kind
from poisonlab.errors import DataError

_MAGIC = b"MATLAB 5.0"
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
# Types of stored numbers, and classes of arrays: an array of doubles may be stored as bytes.
_TYPES = dict(enumerate(("i1", "u1", "i2", "u2", "i4", "u4", "f4"), 1)) | {9: "f8", 12: "i8", 13: "u8"}
_CLASSES = dict(enumerate(("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), 6))
_COMPLEX = 0x800
_MOST_DIMENSIONS = 8
_LARGEST_FILE = 1 << 31


def read_matlab(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """The file's arrays of real numbers among ``names``, with axes in MATLAB's order.

    Raises:
        DataError: the file is missing, of another kind, damaged or too large.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing: correct root in the config, or put the file there")
    if (stored := path.stat().st_size) > _LARGEST_FILE:
        raise DataError(f"{path} has {stored} bytes, more than the {_LARGEST_FILE} that are read: split it")
    data = path.read_bytes()
    if not data.startswith(_MAGIC):
        called = other_kind(path) or "of no known kind: download it again"
        raise DataError(f"{path} is no MATLAB file of version 5 but {called}")
    try:
        order = {b"IM": "<", b"MI": ">"}[data[_HEADER - 2 : _HEADER]]
        found = {}
        for kind, body in _elements(memoryview(data)[_HEADER:], order):
            name, array = _named(kind, body, order, most_bytes(stored))
            if name in names and array is not None:
                found[name] = array
        return found
    # A cut or damaged file raises struct.error, zlib.error, KeyError, ValueError, IndexError, MemoryError, ...
    except Exception as error:
        raise DataError(f"{path} is damaged: download it again") from error


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and content of each element.

    A content of up to four bytes follows its type within eight bytes; a longer one is padded to a multiple of eight.
    """
    place = 0
    while place < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        if kind >> 16:
            kind, size, start, end = kind & 0xFFFF, kind >> 16, place + 4, place + 8
        else:
            start = place + 8
            end = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if size > end - start or start + size > len(data):
            raise ValueError("cut off")
        yield kind, data[start : start + size]
        place = end


def _named(kind: int, body: memoryview, order: str, most: int) -> tuple[str, NDArray[Any] | None]:
    """Name and array of an element; the array is None if it is not one of real numbers."""
    if kind == _COMPRESSED:
        unfolding = zlib.decompressobj()
        unfolded = unfolding.decompress(body, most)
        if not unfolding.eof:
            raise ValueError("cut off, or larger than any images")
        [(kind, body)] = _elements(memoryview(unfolded), order)
    if kind != _MATRIX:
        return "", None
    parts = _elements(body, order)
    flags = int(_numbers(*next(parts), order)[0])
    shape = tuple(_numbers(*next(parts), order).tolist())
    _, name = next(parts)
    called = bytes(name).decode("latin-1")
    if flags & 0xFF not in _CLASSES or flags & _COMPLEX:
        return called, None
    values = _numbers(*next(parts), order)
    if len(shape) > _MOST_DIMENSIONS or min(shape) < 0 or math.prod(shape) != len(values):
        raise ValueError("another shape")
    return called, values.astype(_CLASSES[flags & 0xFF], copy=False).reshape(shape, order="F")


def _numbers(kind: int, body: memoryview, order: str) -> NDArray[Any]:
    stored = np.frombuffer(body, dtype=np.dtype(order + _TYPES[kind]))
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)
