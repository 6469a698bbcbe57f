"""Inert stand-ins for the names in an allow-listed pickle: they record, and are checked and decoded afterwards.

A pickle can call any name and set the state of any object it made, with any arguments. Therefore no stand-in is the
pickled class or function, each stand-in refuses an unexpected state, and values are decoded only after the whole pickle
has been read.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGEST_PIXELS = 1 << 25
_MOST_DIMENSIONS = 8
_NUMBERS = frozenset(("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"))
_STORAGES = {
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "HalfStorage": torch.float16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16,
}


class RefusedError(Exception):
    """A pickle holds what no file of images needs; the message continues "<file> ..."."""


@dataclass(frozen=True)
class RgbImage:
    """A pickled PIL image.

    Attributes:
        pixels: (3, H, W) uint8.
    """

    pixels: Tensor


class Inert:
    """The base of all stand-ins: it has no state to set, cannot be called, and has no value."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise RefusedError("sets the state of something that has none")

    def value(self) -> Any:
        """The decoded object.

        Raises:
            RefusedError: it is none of the objects that a file of images holds.
        """
        raise RefusedError("holds a class or function instead of data")


class _Function(Inert):
    """A wrapped function: a bare function would keep attributes that a pickle sets."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


class _Dtype(Inert):
    """numpy.dtype."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: object, *_: object) -> None:
        if code in ("O8", "O", "object"):
            raise RefusedError("holds a numpy array of Python objects")
        # Only text is looked up, because hashing nested tuples can take for ever.
        if not isinstance(code, str) or code not in _NUMBERS:
            raise RefusedError("holds a numpy array that is not of plain numbers")
        self._code, self._order = code, "="

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise RefusedError("describes a numpy dtype oddly")
        self._order = state[1]

    def decode(self, data: bytes) -> NDArray[Any]:
        """``data`` as a flat array in the byte order of this machine."""
        stored = np.frombuffer(data, dtype=np.dtype(self._order + self._code))
        return stored.astype(stored.dtype.newbyteorder("="))


class _Array(Inert):
    """numpy.ndarray."""

    __slots__ = ("_parts",)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise RefusedError("describes a numpy array oddly")
        _, shape, dtype, fortran, data = state
        self.describe(shape, dtype, "F" if fortran else "C", data, None)

    def describe(self, shape: Any, dtype: object, order: object, data: object, axes: Any) -> None:
        """Record shape, dtype, memory order, bytes and permutation of the axes."""
        if not isinstance(dtype, _Dtype):
            raise RefusedError("describes a numpy array oddly")
        self._parts = (shape, dtype, order, _bytes(data), axes)

    def value(self) -> NDArray[Any]:
        if not hasattr(self, "_parts"):
            raise RefusedError("holds a numpy array without content")
        shape, dtype, order, data, axes = self._parts
        flat = dtype.decode(data)
        if _elements(shape) != flat.size:
            raise RefusedError("holds a numpy array of another length than it claims")
        if axes is not None:
            return np.ascontiguousarray(flat.reshape(shape).transpose(axes))
        return np.ascontiguousarray(flat.reshape(shape, order="F" if order == "F" else "C")).reshape(shape)


class Picture(Inert):
    """PIL.Image.Image; its state is a list that begins with info, mode, size, palette and bytes.

    A class and not a wrapped function, because pickles make it with ``__new__``.
    """

    __slots__ = ("_state",)

    def __setstate__(self, state: Any) -> None:
        # Some file formats add entries of their own.
        if not isinstance(state, list | tuple) or len(state) < 5:
            raise RefusedError("describes a PIL image oddly")
        self._state = state

    def value(self) -> RgbImage:
        _, mode, size, _, data = getattr(self, "_state", (None,) * 5)[:5]
        if mode != "RGB":
            shown = mode if isinstance(mode, str) and mode.isalnum() and len(mode) < 10 else "unknown"
            raise RefusedError(f"holds a PIL image of mode {shown}, not RGB: convert it with .convert('RGB')")
        if not isinstance(size, list | tuple) or len(size) != 2 or _elements(tuple(size)) == 0:
            raise RefusedError("holds a PIL image without a size")
        width, height = size
        if width * height > LARGEST_PIXELS:
            raise RefusedError(f"holds a PIL image of {width}x{height} pixels, more than {LARGEST_PIXELS} in all")
        pixels = np.frombuffer(_bytes(data), dtype=np.uint8)
        if pixels.size != 3 * width * height:
            raise RefusedError(f"holds a PIL image of {width}x{height} pixels with {pixels.size} bytes")
        channels_first = pixels.reshape(height, width, 3).transpose(2, 0, 1)
        return RgbImage(torch.from_numpy(channels_first.copy()))


class _Storage(Inert):
    """The memory of a torch tensor, one-dimensional."""

    __slots__ = ("elements",)

    def __init__(self, elements: Tensor) -> None:
        self.elements = elements


class _StorageType(_Function):
    """torch.FloatStorage and similar classes."""

    __slots__ = ("dtype",)

    def __init__(self, function: Callable[..., Any], dtype: torch.dtype) -> None:
        super().__init__(function)
        self.dtype = dtype


def storage(kind: object, data: bytes, count: int) -> Inert:
    """The memory of a tensor, stored outside the pickle.

    Args:
        kind: the stand-in of the storage's class.
        data: its bytes.
        count: how many elements the pickle claims.

    Raises:
        RefusedError: ``kind`` is no storage class, or ``data`` does not hold ``count`` elements.
    """
    if not isinstance(kind, _StorageType) or count * kind.dtype.itemsize != len(data):
        raise RefusedError("holds the memory of a tensor that is not what it claims")
    # A copy, because bytes are read-only. torch.frombuffer refuses empty data.
    return _Storage(torch.frombuffer(bytearray(data), dtype=kind.dtype) if data else torch.empty(0, dtype=kind.dtype))


class _Ordered(dict[str, object]):
    """collections.OrderedDict; attributes, such as the versions of a network's layers, are passed over."""

    def __setstate__(self, state: object) -> None:
        pass


class _Held(Inert):
    """A wrapped tensor: a pickle could set the state of a bare tensor."""

    __slots__ = ("_tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def value(self) -> Tensor:
        return self._tensor


def _bytes(data: object) -> bytes:
    # Python 2 had one type for bytes and text; it is read as Latin-1, which keeps every byte.
    if isinstance(data, str):
        return data.encode("latin-1")
    if isinstance(data, bytes):
        return data
    raise RefusedError("holds something else where bytes belong")


def _elements(shape: Any) -> int:
    """How many elements ``shape`` has."""
    plain = isinstance(shape, tuple) and all(type(length) is int and length >= 0 for length in shape)
    if not plain or len(shape) > _MOST_DIMENSIONS:
        raise RefusedError("gives an odd shape")
    return math.prod(shape)


def _encode(text: object, encoding: object = None) -> bytes:
    """_codecs.encode, with which protocols 0 to 2 write bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise RefusedError("encodes something else than bytes")
    return text.encode("latin-1")


def _empty_bytes(*arguments: object) -> bytes:
    """bytes, with which protocols 0 to 2 write empty bytes."""
    if arguments:
        raise RefusedError("builds bytes oddly")
    return b""


def _ordered_dict(*arguments: object) -> dict[str, object]:
    """collections.OrderedDict, made empty: a tensor's hooks stay so, the weights of a network are filled in later."""
    if arguments not in ((), ([],)):
        raise RefusedError("holds a filled OrderedDict")
    return _Ordered()


def _reconstructor(made: object, base: object, state: object) -> Picture:
    """copyreg._reconstructor, with which protocols 0 and 1 make a PIL image."""
    if made is not Picture or base is not _OBJECT or state is not None:
        raise RefusedError("builds something else than an image")
    return Picture()


def _reconstruct(made: object, *_: object) -> _Array:
    """numpy's _reconstruct: an array without its state."""
    if made is not _NDARRAY:
        raise RefusedError("builds something else than a numpy array")
    return _Array()


def _from_buffer(data: object, dtype: object, shape: object, order: object, axes: object = None) -> _Array:
    """numpy's _frombuffer, which protocol 5 uses."""
    array = _Array()
    array.describe(shape, dtype, order, data, axes if order == "K" else None)
    return array


def _scalar(dtype: object, data: object = None) -> Any:
    """numpy's scalar: a Python int, float or bool."""
    if not isinstance(dtype, _Dtype):
        raise RefusedError("describes a numpy scalar oddly")
    decoded = dtype.decode(_bytes(data))
    if decoded.size != 1:
        raise RefusedError("describes a numpy scalar oddly")
    return decoded[0].item()


def _storage_from_bytes(data: object) -> _Storage:
    """torch.storage._load_from_bytes, which would unpickle ``data`` without any check."""
    content = io.BytesIO(_bytes(data))
    try:
        with warnings.catch_warnings():
            # torch warns about the old storage types, which cannot be read in another way.
            warnings.simplefilter("ignore")
            loaded = torch.load(content, weights_only=True, map_location="cpu")
            known = isinstance(loaded, torch.storage.TypedStorage) and loaded.dtype in _STORAGES.values()
            elements = torch.empty(0, dtype=loaded.dtype).set_(loaded.untyped()) if known else None
    # The exception depends on the damaged byte.
    except Exception as error:
        raise RefusedError("holds a tensor that torch.load does not read with weights_only=True") from error
    if elements is None:
        raise RefusedError("holds a tensor that is not of plain numbers")
    return _Storage(elements)


def _typed_storage(dtype: torch.dtype) -> _StorageType:
    """torch.LongStorage and similar classes, which the first versions of torch made from a list."""

    def build(values: object = ()) -> _Storage:
        if not isinstance(values, list | tuple) or not all(isinstance(value, int | float) for value in values):
            raise RefusedError("holds a tensor that is not of plain numbers")
        return _Storage(torch.tensor(values, dtype=dtype))

    return _StorageType(build, dtype)


def _tensor(storage: object, offset: Any, size: Any, stride: Any, *_: object) -> _Held:
    """torch._utils._rebuild_tensor and _rebuild_tensor_v2, without gradient, hooks and metadata."""
    if not isinstance(storage, _Storage) or type(offset) is not int or offset < 0:
        raise RefusedError("describes a torch tensor oddly")
    count, available = _elements(size), storage.elements.numel()
    _elements(stride)
    # Without this check, as_strided could read beyond the memory, and a stride of 0 could repeat one element endlessly.
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if count > available or (count > 0 and last >= available):
        raise RefusedError("holds a torch tensor that is larger than its memory")
    if count == 0:
        return _Held(torch.empty(size, dtype=storage.elements.dtype))
    return _Held(storage.elements.as_strided(size, stride, offset).clone(memory_format=torch.contiguous_format))


def _parameter(tensor: object, *_: object) -> _Held:
    """torch._utils._rebuild_parameter."""
    if not isinstance(tensor, _Held):
        raise RefusedError("describes a torch parameter oddly")
    return tensor


# Classes that are only ever arguments.
_NDARRAY = Inert()
_OBJECT = Inert()


def _allow_list() -> dict[tuple[str, str], object]:
    allowed: dict[tuple[str, str], object] = {
        ("numpy", "ndarray"): _NDARRAY,
        ("numpy", "dtype"): _Function(_Dtype),
        ("_codecs", "encode"): _Function(_encode),
        ("collections", "OrderedDict"): _Function(_ordered_dict),
        ("PIL.Image", "Image"): Picture,
        # An image that was opened from a file and not converted keeps its reader's class.
        ("PIL.PngImagePlugin", "PngImageFile"): Picture,
        ("PIL.JpegImagePlugin", "JpegImageFile"): Picture,
        ("torch.storage", "_load_from_bytes"): _Function(_storage_from_bytes),
        ("torch._utils", "_rebuild_tensor"): _Function(_tensor),
        ("torch._utils", "_rebuild_tensor_v2"): _Function(_tensor),
        ("torch._utils", "_rebuild_parameter"): _Function(_parameter),
    }
    # numpy 1 and numpy 2.
    for core in ("numpy.core", "numpy._core"):
        allowed[f"{core}.multiarray", "_reconstruct"] = _Function(_reconstruct)
        allowed[f"{core}.multiarray", "scalar"] = _Function(_scalar)
        allowed[f"{core}.numeric", "_frombuffer"] = _Function(_from_buffer)
    # Python 2 and 3; protocols 0 to 2 write the names of Python 2 in either.
    for builtins, copyreg in (("__builtin__", "copy_reg"), ("builtins", "copyreg")):
        allowed[builtins, "bytes"] = _Function(_empty_bytes)
        allowed[builtins, "object"] = _OBJECT
        allowed[copyreg, "_reconstructor"] = _Function(_reconstructor)
    for name, dtype in _STORAGES.items():
        allowed["torch", name] = _typed_storage(dtype)
    return allowed


ALLOWED = _allow_list()
