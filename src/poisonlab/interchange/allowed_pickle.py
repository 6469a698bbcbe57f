"""Unpickling without running anything: an allow-list of what a file of images, labels and indices can hold.

``pickle.load`` runs whatever a file names. Here a file is first scanned, operation by operation, for anything that
pickles of plain data do not contain; then the standard unpickler reads it with every name replaced by an inert
stand-in (``stand_ins``); at last the stand-ins are checked and decoded.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import warnings
from pathlib import Path
from typing import Any

from poisonlab.errors import DataError
from poisonlab.interchange.stand_ins import ALLOWED, Inert, RefusedError, RgbImage

__all__ = ["LARGEST_FILE", "RgbImage", "load", "read_bytes"]

LARGEST_FILE = 1 << 31
_MOST_OPERATIONS = 10_000_000
_DEEPEST = 30

_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_TUPLES = frozenset(("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"))
_FRAMING = frozenset(("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE"))
_OBJECTS = frozenset(("GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD"))
_INTEGERS = frozenset(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"))
_OTHER_ATOMS = frozenset(("NONE", "NEWTRUE", "NEWFALSE", "FLOAT", "BINFLOAT"))
_TEXT = frozenset(
    ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
)
_BYTES = frozenset(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"))
_LISTS = frozenset(("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE"))
_FILLED_DICTS = frozenset(("DICT", "SETITEM", "SETITEMS"))
_OPERATIONS = frozenset(("EMPTY_DICT",)).union(
    _PUTS, _GETS, _TUPLES, _FRAMING, _OBJECTS, _INTEGERS, _OTHER_ATOMS, _TEXT, _BYTES, _LISTS, _FILLED_DICTS
)


def load(path: Path) -> Any:
    """Read a pickle of lists, tuples, dicts, numbers, text, numpy arrays, torch tensors and PIL images.

    Nothing that the file names is imported or called.

    Returns:
        The content: numpy scalars as Python numbers, numpy arrays in this machine's byte order, torch tensors on
        the CPU, PIL images as ``RgbImage``.

    Raises:
        DataError: the file is missing, damaged or too large, or asks for anything else.
    """
    data = read_bytes(path)
    try:
        with warnings.catch_warnings():
            # Damaged text warns of its escape sequences before anything is known to be wrong.
            warnings.simplefilter("ignore")
            _scan(data)
            return _decoded(_Unpickler(io.BytesIO(data), encoding="latin-1").load(), {}, 0)
    except RefusedError as error:
        raise DataError(f"{path} {error}; nothing in it was run: get a plain file from its author") from error
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


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return ALLOWED[module_name, global_name]
        except KeyError:
            raise RefusedError(
                f"asks for {_shown(f'{module_name}.{global_name}')}, which no file of images needs"
            ) from None


def _shown(text: str) -> str:
    """``text`` on one line, shortened."""
    return text.encode("unicode_escape").decode("ascii")[:100]


def _scan(data: bytes) -> None:
    """Check every operation before one is carried out.

    The stack is followed far enough to know which dict keys are tuples: hashing nested ones takes the interpreter
    down, or takes for ever. Memo places are checked because the unpickler allocates as many as the highest number.

    Raises:
        RefusedError: an operation that pickles of plain data do not contain.
    """
    # One entry per object: None is a mark, True an object that may be a dict key, False a tuple.
    stack: list[bool | None] = []
    memo: dict[int, bool | None] = {}
    end = -1
    for count, (operation, argument, position) in enumerate(pickletools.genops(data)):
        name = operation.name
        if name not in _OPERATIONS:
            named = f" {_shown(argument.replace(' ', '.'))}" if isinstance(argument, str) else ""
            raise RefusedError(f"uses the pickle operation {name}{named}, which no file of images needs")
        if count == _MOST_OPERATIONS:
            raise RefusedError(f"has more than {_MOST_OPERATIONS} pickle operations")
        end = (position or 0) + 1
        if name in _GETS:
            stack.append(memo[argument or 0])
        elif name in _PUTS or name == "MEMOIZE":
            place = len(memo) if name == "MEMOIZE" else argument or 0
            if not 0 <= place <= count:
                raise RefusedError(f"numbers its objects oddly ({place} at operation {count})")
            memo[place] = stack[-1]
        else:
            _follow(operation, stack)
    if end != len(data):
        raise RefusedError("goes on after the end of its pickle")


def _follow(operation: pickletools.OpcodeInfo, stack: list[bool | None]) -> None:
    """What ``operation`` takes from and puts on ``stack``."""
    before = operation.stack_before
    keys: list[bool | None] = []
    fixed = len(before)
    if pickletools.markobject in before:
        items: list[bool | None] = []
        while (item := stack.pop()) is not None:
            items.append(item)
        # Reversed: value, key, value, key, ...
        keys = items[1::2]
        fixed = before.index(pickletools.markobject)
    elif operation.name == "SETITEM":
        keys = [stack[-2]]
    if operation.name in _FILLED_DICTS and not all(keys):
        raise RefusedError("has a dict whose key is a tuple")
    if len(stack) < fixed:
        raise ValueError("stack underflow")
    del stack[len(stack) - fixed :]
    plain = operation.name not in _TUPLES
    stack += [None if made is pickletools.markobject else plain for made in operation.stack_after]


def _decoded(node: Any, done: dict[int, Any], depth: int) -> Any:
    """``node`` with every stand-in replaced by what it stands for; an object that occurs twice is decoded once."""
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
    if isinstance(node, bytearray):
        return bytes(node)
    raise RefusedError("holds a class or function instead of data")
