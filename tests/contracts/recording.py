"""Steps recorded and repeated on a CPU, in the place of CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from poisonlab.training import capture, loop

_LOOKS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::masked_select", "aten::is_nonzero"}


class Recording(TorchDispatchMode):
    """What a CUDA graph is made of: operations, the numbers they were given, and the places they read and write.

    As with a graph, recording leaves everything as it was, a look at a value is an error, and a replay writes to the
    recorded places without running any Python of the step. Generators go on from their own states.

    Attributes:
        replays: how often it was repeated.
    """

    def __init__(self) -> None:
        super().__init__()
        self.replays = 0
        self._calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        self._own: set[int] = set()
        self._before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.name().split(".")[0] in _LOOKS:
            raise RuntimeError(f"{func.name()} is not permitted when a stream is capturing")
        for tensor in _tensors([args, kwargs]):
            place = tensor.untyped_storage()._cdata
            if place not in self._own and place not in self._before:
                whole = tensor.new_empty(0).set_(tensor.untyped_storage())
                self._before[place] = (whole, whole.clone())
        outputs = func(*args, **kwargs)
        found = _tensors(outputs)
        self._own |= {one.untyped_storage()._cdata for one in found} - self._before.keys()
        self._calls.append((func, args, kwargs, found))
        return outputs

    def undo(self) -> None:
        """Put back what was there before the recording."""
        for tensor, value in self._before.values():
            tensor.copy_(value)

    @torch.no_grad()
    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, outputs in self._calls:
            for old, new in zip(outputs, _tensors(func(*args, **kwargs)), strict=True):
                if old.data_ptr() != new.data_ptr():  # neither a view nor changed in place
                    old.detach().copy_(new)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def replayed_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> list[Recording]:
    """From now on ``train(..., capture=True)`` records on a CPU; returns the recordings to come."""
    made: list[Recording] = []

    def record(step: capture.Step, chosen: Tensor, streams: Sequence[torch.Generator]) -> capture.Step:
        positions, recording = chosen.clone(), Recording()
        drawn_from = [*streams, torch.default_generator]
        states = [stream.get_state() for stream in drawn_from]
        with recording:
            loss = step(positions)
        recording.undo()
        for stream, state in zip(drawn_from, states, strict=True):
            stream.set_state(state)
        made.append(recording)

        def replayed(chosen: Tensor) -> Tensor:
            positions.copy_(chosen)
            recording.replay()
            return loss

        return replayed

    monkeypatch.setattr(loop, "can_capture", lambda device: True)
    monkeypatch.setattr(capture, "record", record)
    monkeypatch.setattr(capture, "aside", lambda step, chosen: step(chosen))
    return made
