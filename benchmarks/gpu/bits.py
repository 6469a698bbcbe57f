"""Whether every path that promises equal bits repeats them, and whether torch warns of an operator that may not."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import noises
import torch
from contest import Contest, markdown
from torch import Tensor, nn

import attacks
import filters
from gpu.section import Check, FaultError, Notes
from poisonlab.config.recipe import Recipe
from poisonlab.config.recipes import NamedRecipe
from poisonlab.defenses.random_noise import RandomNoise
from poisonlab.determinism import prepare_torch
from poisonlab.training.loop import train
from training import BERNOULLI, Task, drawn, fast, large, normalisation, small

_NEAR = 0.1
"""How far a captured training may end from the eager one: rounding grows over steps, a wrong step more."""

Path = Callable[[torch.device], object]
"""A whole computation that promises equal bits; it returns its result."""


def bits(check: Check, notes: Notes) -> None:
    """Run every path twice, and note how far a captured training ends from the same training without capture.

    Raises:
        FaultError: bits differ, torch warns that an operator is not deterministic, or captured steps differ too much.
    """
    device = prepare_torch(check.device, 1, jobs_per_gpu=1)
    rows, faults = [], []
    every = paths(check.scale)
    # First, because time may run out.
    try:
        apart = _apart(every, device)
        notes.fact("captured against eager, largest relative difference of a tensor's length", apart)
        # Written so that nan is a fault.
        faults += [] if apart <= _NEAR else [f"captured against eager: weights apart by {apart:.2g}, not {_NEAR:g}"]
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        faults.append(f"captured against eager: {type(error).__name__}: {error}")
    for name, path in every.items():
        notes.fact("faults", faults)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                equal = digest(path(device)) == digest(path(device))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            faults.append(f"{name}: {type(error).__name__}: {error}")
            continue
        warned = sorted({" ".join(str(each.message).split())[:200] for each in caught if _of_determinism(each)})
        rows.append([name, "yes" if equal else "no", str(len(warned))])
        notes.fact(name, {"same_bits": equal, "warnings": warned})
        notes.table("Run twice", markdown(["what", "same bits", "warnings"], rows))
        faults += [] if equal else [f"{name}: other bits"]
        faults += [f"{name}: {line}" for line in warned]
    notes.fact("faults", faults)
    if faults:
        raise FaultError(f"{len(faults)} faults: {'; '.join(faults[:3])}")


def paths(scale: str) -> dict[str, Path]:
    """The paths of training, friendly noise, crafting and filters that a scale of the benchmarks has."""
    contests: Mapping[str, Callable[[torch.device], Contest]] = {
        **noises.CONTESTS[scale],
        **attacks.CONTESTS[scale],
        **filters.CONTESTS[scale],
    }
    task, count = (small(), 64) if scale == "tiny" else (large(), 1280)
    swift, recipe = fast(), NamedRecipe(base="fast", epochs=2)
    trainings = {
        "training": _training(task, task.recipe(), count, capture=False),
        "training, captured": _training(task, task.recipe(), count, capture=True),
        "training of the fast protocol, captured": _training(swift, recipe, count, capture=True),
    }
    return trainings | {name: _ours(build) for name, build in contests.items()}


def _ours(build: Callable[[torch.device], Contest]) -> Path:
    return lambda device: build(device).ours()


def _training(task: Task, recipe: Recipe, count: int, *, capture: bool) -> Path:
    def path(device: torch.device) -> object:
        model: nn.Module = task.model(device)
        said, noise = io.StringIO(), RandomNoise(BERNOULLI)
        with contextlib.redirect_stderr(said):
            data, normalize = drawn(count), normalisation(device)
            train(model, normalize, data, recipe, seed=0, defenses=[noise], until=2, capture=capture)
        if "no CUDA graph" in said.getvalue():
            raise FaultError(said.getvalue())
        return list(model.state_dict().values())

    return path


def _apart(found: Mapping[str, Path], device: torch.device) -> float:
    """How far the tensors of a captured training are from those of the eager one, relative to their length."""
    ends = [found[name](device) for name in ("training", "training, captured")]
    pairs = zip(*cast(list[list[Tensor]], ends), strict=True)
    wide = [(first.double(), second.double()) for first, second in pairs]
    return max(float((second - first).norm() / first.norm().clamp(min=1e-9)) for first, second in wide)


def digest(value: Any) -> str:
    """SHA-256 of all bits of tensors, in lists and tuples or alone, and of JSON values."""
    found = hashlib.sha256()
    for part in value if isinstance(value, list | tuple) else [value]:
        if isinstance(part, Tensor):
            found.update(f"{part.dtype}{tuple(part.shape)}".encode())
            found.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            found.update(json.dumps(part).encode())
    return found.hexdigest()


def _of_determinism(caught: warnings.WarningMessage) -> bool:
    return "determinis" in str(caught.message).lower()
