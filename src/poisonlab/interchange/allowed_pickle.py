"""Unpickling that runs nothing from the file: an allow-list for files of images, labels and indices.

``pickle.load`` runs whatever a file names. This module uses the standard library's unpickler in Python, whose stack and
memo cannot harm the interpreter. It carries out only the operations of plain data and replaces every name by an inert
stand-in (``stand_ins``). At the end it checks and decodes the stand-ins.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from poisonlab.errors import DataError
from poisonlab.interchange.stand_ins import ALLOWED, Inert, RefusedError, RgbImage, storage

__all__ = ["LARGEST_FILE", "RgbImage", "load", "load_zipped", "read_bytes"]

LARGEST_FILE = 1 << 31
_MOST_OPERATIONS = 10_000_000
_DEEPEST = 30

_OPERATIONS = (
    *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "NONE", "NEWTRUE", "NEWFALSE", "FLOAT", "BINFLOAT"),
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_DICT"),
)
_STANDARD: dict[int, Callable[[Any], None]] = pickle._Unpickler.dispatch


def load(path: Path) -> Any:
    """Read a pickle of lists, tuples, dicts, numbers, text, numpy arrays, torch tensors and PIL images.

    Nothing that the file names is imported or called.

    Returns:
        The content: numpy scalars as Python numbers, numpy arrays in this machine's byte order, torch tensors on
        the CPU, PIL images as ``RgbImage``.

    Raises:
        DataError: the file is missing, damaged or too large, or asks for anything else.
    """
    return _loaded(_Unpickler, read_bytes(path), path, "get a plain file from its author")


def load_zipped(data: bytes, path: Path) -> Any:
    """As ``load``, for a file of torch.save since version 1.6: a zip archive of a pickle and the memory of tensors.

    Args:
        data: the content.
        path: the file, for messages.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        [name] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        folder = name.removesuffix("data.pkl")
        order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in archive.namelist() else b"little"
        pickled = archive.read(name)
    except Exception as error:
        raise DataError(f"{path} is damaged; nothing in it was run: copy it again") from error
    if order != b"little":
        raise DataError(f"{path} was written on a machine of another byte order; save it again on this one")
    reading = partial(_ZippedUnpickler, memory=lambda key: archive.read(f"{folder}data/{key}"))
    return _loaded(reading, pickled, path, "save it again from plain tensors")


def _loaded(unpickler: Callable[[io.BytesIO], _Unpickler], data: bytes, path: Path, cure: str) -> Any:
    try:
        with warnings.catch_warnings():
            # Damaged text causes warnings about escape sequences before the damage is found.
            warnings.simplefilter("ignore")
            file = io.BytesIO(data)
            content = unpickler(file).load()
            if file.read(1):
                raise RefusedError("goes on after the end of its pickle")
            return _decoded(content, {}, 0)
    except RefusedError as error:
        raise DataError(f"{path} {error}; nothing in it was run: {cure}") from error
    # A damaged pickle can end in any exception: RecursionError, MemoryError, OverflowError, ...
    except Exception as error:
        raise DataError(f"{path} is damaged or not a pickle; nothing in it was run: copy it again") from error


def read_bytes(path: Path) -> bytes:
    """The content of a file of at most ``LARGEST_FILE`` bytes.

    Raises:
        DataError: the file is missing, unreadable or larger.
    """
    try:
        if not path.is_file():
            raise DataError(f"{path} is missing: correct the path, or put the file there")
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise DataError(f"{path} has {size} bytes, more than the {LARGEST_FILE} that are read: split it")
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        raise DataError(f"{path} cannot be read: check its permissions and the free memory") from error


class _Operations(dict[int, Callable[[Any], None]]):
    """The allowed operations by code; each look-up counts towards a limit."""

    def __init__(self) -> None:
        super().__init__({code: _STANDARD[code] for code in map(_code, _OPERATIONS)})
        # The standard operation allocates as many bytes as the file claims.
        self[_code("BYTEARRAY8")] = _STANDARD[_code("BINBYTES8")]
        for name in ("DICT", "SETITEM", "SETITEMS"):
            self[_code(name)] = partial(_fill, _STANDARD[_code(name)], single=name == "SETITEM")
        self._left = _MOST_OPERATIONS

    def __getitem__(self, code: int) -> Callable[[Any], None]:
        if self._left == 0:
            raise RefusedError(f"has more than {_MOST_OPERATIONS} pickle operations")
        self._left -= 1
        if code not in self:
            name = next(operation.name for operation in pickletools.opcodes if operation.code == chr(code))
            raise RefusedError(f"uses the pickle operation {name}, which no file of images needs")
        return super().__getitem__(code)


def _code(name: str) -> int:
    code: bytes = getattr(pickle, name)
    return code[0]


def _fill(standard: Callable[[Any], None], unpickler: _Unpickler, *, single: bool) -> None:
    """Fill a dict, unless a key is a tuple: hashing nested tuples can crash the interpreter or take for ever."""
    # Keys and values alternate: the last two entries of the stack for a single pair, else all since the mark.
    if any(isinstance(key, tuple) for key in unpickler.stack[-2 if single else 0 :: 2]):
        raise RefusedError("has a dict whose key is a tuple")
    standard(unpickler)


class _Unpickler(pickle._Unpickler):
    stack: list[Any]

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="latin-1")
        self.dispatch = _Operations()  # type: ignore[misc]

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            shown = f"{module}.{name}".encode("unicode_escape").decode("ascii")[:100]
            raise RefusedError(f"asks for {shown}, which no file of images needs") from None


class _ZippedUnpickler(_Unpickler):
    """Also reads the memory of tensors, which is outside the pickle."""

    def __init__(self, file: io.BytesIO, memory: Callable[[str], bytes]) -> None:
        super().__init__(file)
        self.dispatch[_code("BINPERSID")] = _STANDARD[_code("BINPERSID")]
        self._memory = memory
        self._read: dict[str, Any] = {}

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise RefusedError("asks for something else than the memory of a tensor")
        _, kind, key, _, count = pid
        if not isinstance(key, str) or not key.isalnum() or type(count) is not int:
            raise RefusedError("describes the memory of a tensor oddly")
        if key not in self._read:
            self._read[key] = storage(kind, self._memory(key), count)
        return self._read[key]


def _decoded(node: Any, done: dict[int, Any], depth: int) -> Any:
    """``node`` with every stand-in replaced by its decoded value; an object that occurs twice is decoded once."""
    if node is None or isinstance(node, bool | int | float | str | bytes):
        return node
    if id(node) in done:
        if done[id(node)] is done:
            raise RefusedError("holds a list that contains itself")
        return done[id(node)]
    if depth == _DEEPEST:
        raise RefusedError(f"nests its lists more than {_DEEPEST} deep")
    done[id(node)] = done
    done[id(node)] = value = _decoded_container(node, done, depth + 1)
    return value


def _decoded_container(node: Any, done: dict[int, Any], depth: int) -> Any:
    if isinstance(node, Inert):
        return node.value()
    if isinstance(node, list):
        return [_decoded(item, done, depth) for item in node]
    if isinstance(node, tuple):
        return tuple(_decoded(item, done, depth) for item in node)
    if isinstance(node, dict):
        return {_decoded(key, done, depth): _decoded(item, done, depth) for key, item in node.items()}
    raise RefusedError("holds a class or function instead of data")
