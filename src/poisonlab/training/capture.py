"""Steps of a training as CUDA graphs: recorded once in an epoch, then started as a whole.

On a GPU a step of a small network is hundreds of kernels, and Python takes longer to start them than they take to run.
A CUDA graph starts all kernels at once, with the addresses and numbers of the recording. So a recorded step

- reads everything that changes between steps from tensors that stay in place: the batch's positions, the learning rate,
  the random streams' states;
- never looks at a value, as in ``if loss > 1`` or ``loss.item()``;
- uses nothing else of Python that changes within an epoch. Every epoch makes a new recording.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache

import torch
from torch import Tensor

Step = Callable[[Tensor], Tensor]
"""Takes a step on the examples at positions (B,) int64, on the device; returns the loss, a scalar."""

WARM_UP = 3
"""Steps of a training before the first recording. In them, libraries choose their kernels and the optimiser makes its
state."""


class Capture:
    """Records and replays the steps of one training.

    Attributes:
        active: whether steps are recorded. After the first recording that fails, all steps run kernel by kernel, with
            the same outcome.
    """

    def __init__(self, active: bool) -> None:
        self.active = active
        self._taken = 0

    def steps(self, step: Step, size: int, streams: Sequence[torch.Generator]) -> Step:
        """``step`` for the batches of one epoch: recorded for batches of ``size`` examples, unchanged for others.

        Args:
            step: a function of the positions and of tensors that keep their places during the epoch. The next call
                overwrites the returned loss.
            size: the usual size of a batch.
            streams: random streams on the device from which ``step`` draws, in addition to torch's own.
        """
        if not self.active:
            return step
        recorded: Step | None = None

        def taken(chosen: Tensor) -> Tensor:
            nonlocal recorded
            if self.active and len(chosen) == size:
                # Make the batch's GPU current: a recording omits work on another GPU's stream.
                with torch.cuda.device_of(chosen):  # type: ignore[no-untyped-call]
                    if self._taken < WARM_UP:
                        self._taken += 1
                        return aside(step, chosen)
                    recorded = recorded or self._recorded(step, chosen, streams)
                    if recorded is not None:
                        return recorded(chosen)
            return step(chosen)

        return taken

    def _recorded(self, step: Step, chosen: Tensor, streams: Sequence[torch.Generator]) -> Step | None:
        drawn_from = [*streams, own_stream(chosen.device)]
        states = [stream.get_state() for stream in drawn_from]
        here = torch.cuda.current_stream(chosen.device) if chosen.is_cuda else None
        try:
            return record(step, chosen, streams)
        except Exception as error:
            self.active = False
            if here is not None:
                torch.cuda.set_stream(here)
            for stream, state in zip(drawn_from, states, strict=True):
                _set_back(stream, state)
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            print(f"note: this training's step is no CUDA graph, and runs kernel by kernel: {reason}", file=sys.stderr)
            return None


def _set_back(stream: torch.Generator, state: Tensor) -> None:
    """Restore the state that a random stream had before a failed recording.

    On a GPU the stream gets a new state object: the old one may still be marked as recorded and refuse draws.
    """
    if stream.device.type != "cuda":
        stream.set_state(state)
        return
    fresh = torch.Generator(stream.device)
    fresh.set_state(state)
    stream.graphsafe_set_state(fresh.graphsafe_get_state())


def can_capture(device: torch.device) -> bool:
    """Whether steps on ``device`` can be recorded."""
    return device.type == "cuda"


def own_stream(device: torch.device) -> torch.Generator:
    """Torch's own random stream on ``device``, from which dropout draws."""
    return torch.default_generator if device.type == "cpu" else torch.cuda.default_generators[device.index]


def record(step: Step, chosen: Tensor, streams: Sequence[torch.Generator]) -> Step:
    """``step`` as a CUDA graph, for batches of the size of ``chosen``; recording it takes no step."""
    positions, graph, pool = chosen.clone(), torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    for stream in streams:
        graph.register_generator_state(stream)
    try:
        with torch.cuda.graph(graph, pool, side_stream(chosen.device)):
            loss = step(positions)
    except BaseException:
        # After a failed recording, torch 2.11's allocator assumes that the recording continues, and empty_cache fails.
        with suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(chosen.device.index, pool)
            torch._C._cuda_releasePool(chosen.device.index, pool)
        raise

    def replayed(chosen: Tensor) -> Tensor:
        positions.copy_(chosen)
        graph.replay()
        return loss

    return replayed


def aside(step: Step, chosen: Tensor) -> Tensor:
    """Take a step on the CUDA stream of the recordings, so that libraries make their workspaces there."""
    here, stream = torch.cuda.current_stream(chosen.device), side_stream(chosen.device)
    stream.wait_stream(here)
    with torch.cuda.stream(stream):
        loss = step(chosen)
    here.wait_stream(stream)
    return loss


@cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """The CUDA stream of recordings and of the steps before them; CUDA cannot record on the default stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
