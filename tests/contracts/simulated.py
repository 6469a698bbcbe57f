"""A device that is not the CPU, simulated on the CPU: it refuses what CUDA refuses, and computes the same numbers.

Its tensors wrap tensors of the CPU and say that they are elsewhere. What raises:

- an operator on tensors of both devices, but for copies, indices on the CPU, and scalars on the CPU;
- a generator of the other device;
- ``numpy()`` of a tensor that was not brought back.

Nothing of CUDA's kernels, memory or speed is simulated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

try:
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend as set_up
except ImportError:  # an older torch
    set_up = None

NAME = "elsewhere"

_COPIES = {"aten::copy_", "aten::_to_copy"}
_INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}


class Elsewhere(Tensor):
    """A tensor of the simulated device.

    Attributes:
        inner: what it is on the CPU.
    """

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        made: Elsewhere = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=f"{NAME}:0",
        )
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.inner})"

    @property
    def data(self) -> Tensor:  # type: ignore[override]
        return self.detach()

    @data.setter
    def data(self, value: Elsewhere) -> None:
        # In its place: the wrapper's strides cannot change.
        self.inner.detach().copy_(value.inner)

    def tolist(self) -> Any:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class ElsewhereGenerator(torch.Generator):
    """A generator of the simulated device."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device(NAME)


class _Generator(torch.Generator):
    """Stands in for torch.Generator."""

    def __new__(cls, device: torch.device | str = "cpu") -> torch.Generator:  # type: ignore[misc]
        return ElsewhereGenerator() if torch.device(device).type == NAME else _TORCHS()


_TORCHS = torch.Generator


class _Mode(TorchDispatchMode):
    """Sees the operators that make tensors of the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if (device is not None and device.type == NAME) or any(isinstance(x, Elsewhere) for x in tree_leaves(args)):
            return _computed(func, args, kwargs)
        return func(*args, **kwargs)


# What backward passes did; an error inside them would end the process.
_FAULTS: list[str] = []


class _Functions(TorchFunctionMode):
    """Sees the generators that functions are given, which operators no longer tell apart, and the ends of backward
    passes."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and torch.device(kwargs.get("device") or "cpu").type == NAME:
            return func(*args, **{**kwargs, "device": "cpu"}).to(NAME)  # no mode sees how torch brings it there
        found: Any = func(*args, **kwargs)
        drawn = kwargs.get("generator")
        elsewhere = isinstance(found, Tensor) and found.device.type == NAME
        if drawn is not None and isinstance(found, Tensor) and isinstance(drawn, ElsewhereGenerator) != elsewhere:
            raise RuntimeError(f"{func.__name__}: a generator on {drawn.device} for a tensor on {found.device}")
        if _FAULTS and torch._C._current_graph_task_id() == -1:
            raise RuntimeError(_FAULTS.pop())
        return found


def _computed(func: Any, args: Any, kwargs: Any) -> Any:
    """The operator on the CPU, after a look at where its tensors are."""
    name = func._schema.name
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    _check(name, args, tensors)
    device = kwargs.get("device")
    there = any(isinstance(each, Elsewhere) for each in tensors) if device is None else device.type == NAME
    inner = func(*tree_map(_inside, args), **tree_map(_inside, kwargs))
    if torch.Tag.inplace_view in func.tags:
        with no_dispatch():
            func(*args, **kwargs)  # the wrapper's own shape
    if func._schema.is_mutable:
        changed = {id(_inside(each)): each for each in tensors}
        return tree_map(lambda each: changed.get(id(each), _outside(each, there)), inner)
    return tree_map(lambda each: _outside(each, there), inner)


def _check(name: str, args: Any, tensors: list[Tensor]) -> None:
    if name in _COPIES:
        return
    if name in _INDEXED and isinstance(args[0], Elsewhere):
        tensors = [args[0], *(each for each in args[2:3] if isinstance(each, Tensor))]
    apart = [each for each in tensors if not isinstance(each, Elsewhere) and each.ndim > 0]
    if apart and any(isinstance(each, Elsewhere) for each in tensors):
        shapes = ", ".join(str(tuple(each.shape)) for each in apart)
        _refuse(f"{name}: tensors of both devices; those on the CPU have shapes {shapes}")


def _refuse(why: str) -> None:
    if torch._C._current_graph_task_id() == -1:
        raise RuntimeError(why)
    _FAULTS.append(why)


def _inside(value: Any) -> Any:
    if isinstance(value, Elsewhere):
        return value.inner
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _outside(value: Any, there: bool) -> Any:
    return Elsewhere(value) if there and isinstance(value, Tensor) else value


def register() -> None:
    """Make the device known; must come before the first backward pass of the process, which counts the devices.

    Not beside a GPU: autograd would take this device for the accelerator whose streams backward passes run on.
    """
    if set_up is not None and not torch.cuda.is_available() and torch._C._get_privateuse1_backend_name() != NAME:
        set_up(NAME)


def _autocast() -> Any:
    """Tests of mixed precision are skipped: it has no kernels there."""
    original = torch.autocast

    def made(device_type: str, *args: Any, **kwargs: Any) -> torch.autocast:
        if device_type == NAME and kwargs.get("enabled", True):
            pytest.skip("the simulated device has no mixed precision")
        return original("cpu", enabled=False) if device_type == NAME else original(device_type, *args, **kwargs)

    return mock.patch.object(torch, "autocast", made)


@contextmanager
def simulated() -> Iterator[torch.device]:
    """The device, usable inside the block; the test is skipped where this torch cannot simulate one."""
    if torch._C._get_privateuse1_backend_name() != NAME:
        pytest.skip("this torch has no devices in Python, or a GPU is here")
    _FAULTS.clear()
    replaced = torch.__future__.get_overwrite_module_params_on_conversion()
    # Layouts of parameters change in new ones, as those of a wrapper cannot.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    with mock.patch.object(torch, "Generator", _Generator), _autocast(), _Functions(), _Mode():
        try:
            yield torch.device(NAME)
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(replaced)
