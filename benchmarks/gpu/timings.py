"""Times and memory beside those of the straightforward way, in one run, and beside the device's peaks."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from types import ModuleType

import noises
import torch
from contest import Contest, Result, measure, table
from peaks import roofline

import attacks
import filters
import training as training_program
from gpu.section import Check, FaultError, Notes
from poisonlab.determinism import demand_determinism, prepare_torch

EPOCH = 50_000
_REPEATS = 3
# Both ways compute in float32 (convolutions in TF32) for the comparison; a fault is far beyond that rounding. For
# filters, the difference is a number of decisions, or their share.
_LARGEST_DIFFERENCE = 0.1


def training(check: Check, notes: Notes) -> None:
    """Epochs of training with random noise, kernel by kernel and captured as CUDA graphs."""
    for result in _measured(training_program, check, notes):
        if result.contest.startswith("training"):
            notes.fact(f"{result.contest}: seconds per {EPOCH:,} images", result.ours_s * EPOCH)


def friendly_noise(check: Check, notes: Notes) -> None:
    """Making friendly noise."""
    _measured(noises, check, notes)


def crafting(check: Check, notes: Notes) -> None:
    """Steps of the attacks."""
    _measured(attacks, check, notes)


def deep_knn(check: Check, notes: Notes) -> None:
    """Deep k-NN at the size of CIFAR-10, and the other filters."""
    _measured(filters, check, notes)


def _measured(program: ModuleType, check: Check, notes: Notes) -> list[Result]:
    """Note and return the results of all contests of a program at the check's scale.

    Raises:
        FaultError: a contest failed, or its two ways differ by more than rounding.
    """
    device = prepare_torch(check.device, 1, jobs_per_gpu=1)
    options = argparse.Namespace(
        device=device.type,
        scale=check.scale,
        threads=1,
        repeats=1 if check.tiny else _REPEATS,
        no_memory=check.tiny,
    )
    contests: Mapping[str, Callable[[torch.device], Contest]] = program.CONTESTS[check.scale]
    results: list[Result] = []
    faults = []
    for name, build in contests.items():
        try:
            result = measure(_relaxed(build), name, options)
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            faults.append(f"{name}: {type(error).__name__}: {error}")
            notes.fact("faults", faults)
            continue
        results.append(_counted(result, results))
        notes.fact(name, asdict(results[-1]) | {"ratio": results[-1].ratio})
        notes.table("Times", table(results))
        if check.peaks is not None:
            notes.table("Shares of the peak", roofline(results, check.peaks))
        torch.cuda.empty_cache()
    apart = [each for each in results if each.difference > _LARGEST_DIFFERENCE]
    faults += [f"{each.contest}: the two ways differ by {each.difference:.2g}" for each in apart]
    if faults:
        raise FaultError("; ".join(faults))
    return results


def _counted(result: Result, earlier: list[Result]) -> Result:
    """The result of a captured contest, with the operations counted in the same contest without capture."""
    eager = next((each for each in earlier if f"{each.contest}, captured" == result.contest), None)
    if eager is None or eager.flops is None:
        return result
    return replace(result, flops=eager.flops * eager.ours_s / result.ours_s, precision=eager.precision)


def _relaxed(build: Callable[[torch.device], Contest]) -> Callable[[torch.device], Contest]:
    """The contest with a reference that need not repeat its bits, as in the releases; ours still repeats them."""

    def built(device: torch.device) -> Contest:
        contest = build(device)
        return replace(contest, reference=_without_promise(contest.reference, device))

    return built


def _without_promise(call: Callable[[], object], device: torch.device) -> Callable[[], object]:
    if device.type == "cpu":
        return call

    def relaxed() -> object:
        demand_determinism(False)
        try:
            return call()
        finally:
            demand_determinism(True)

    return relaxed
