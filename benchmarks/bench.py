"""All benchmarks in one run: times and memory against the straightforward way of doing the same, shares of the device's
peak, and the overhead of jobs. The run fails if a ratio is worse than the recorded one on this kind of device.

    python benchmarks/bench.py [--device auto|cpu|cuda] [--scale small|gpu|tiny] [--threads 1] [--repeats 3]
                               [--only NAME] [--no-memory] [--no-jobs] [--json FILE] [--record]

Exit status 1: a ratio is worse than in benchmarks/ratios.json by more than the noise. --record replaces the recorded
ratios by those of this run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import friends
import noises
import ratios
import torch
from contest import Contests, Result, answer_memory, heading, machine, measure_all, parser, prepare, table, write
from jobs import Jobs, jobs_table, measure_jobs
from peaks import TINY, peaks, roofline
from ratios import Ratio

import attacks
import filters
import landscapes
import training

RECORDED = Path(__file__).with_name("ratios.json")
PROGRAMS = (training, noises, friends, attacks, filters, landscapes)
SCALES = ("small", "gpu", "tiny")
CONTESTS: Contests = {
    scale: {name: build for program in PROGRAMS for name, build in program.CONTESTS.get(scale, {}).items()}
    for scale in SCALES
}
JOBS = "jobs"


def main(argv: Sequence[str]) -> int:
    """Measure, print and compare; returns the exit status."""
    options = arguments().parse_args(argv)
    prepare(options)
    if options.memory is not None:
        answer_memory(CONTESTS, options)
        return 0
    device, facts = torch.device(options.device), machine(options)
    results = measure_all(CONTESTS, options)
    jobs = measure_jobs(options.repeats, epochs=options.epochs) if with_jobs(options) else None
    best = peaks(device, *(TINY if options.scale == "tiny" else ()))
    parts = [table(results), roofline(results, best), jobs_table(jobs) if jobs is not None else ""]
    print(heading(facts), *filter(None, parts), sep="\n\n")
    found = ratios_of(results, jobs)
    if options.json is not None:
        write(
            options.json,
            machine=facts,
            peaks=asdict(best),
            results=[asdict(result) | {"ratio": result.ratio} for result in results],
            jobs=None if jobs is None else jobs.as_json(),
            ratios={name: asdict(ratio) for name, ratio in found.items()},
        )
    return judge(options.ratios, str(facts["name"]), options.scale, found, recording=options.record)


def arguments() -> argparse.ArgumentParser:
    found = parser(CONTESTS, __doc__)
    found.add_argument("--no-jobs", action="store_true", help="start no training jobs")
    found.add_argument("--epochs", type=int, help="epochs of a training job, instead of the default study's")
    found.add_argument("--record", action="store_true", help="replace recorded ratios by those of this run")
    found.add_argument("--ratios", type=Path, default=RECORDED, help="where ratios are recorded")
    return found


def with_jobs(options: argparse.Namespace) -> bool:
    """Whether to measure jobs: only on a CPU, where each has one thread as in the default study."""
    return options.device == "cpu" and not options.no_jobs and options.only in JOBS


def ratios_of(results: Sequence[Result], jobs: Jobs | None) -> dict[str, Ratio]:
    """The ratios to compare with earlier runs."""
    found = {result.contest: Ratio.of(result.ratios) for result in results}
    if jobs is not None:
        found["jobs: share of processor time inside torch's operators"] = Ratio.of(jobs.kernels)
        found["jobs: speed kept by two at once"] = Ratio.of(jobs.kept)
    return found


def judge(path: Path, device: str, scale: str, found: dict[str, Ratio], *, recording: bool) -> int:
    """Print the ratios that became worse; returns the exit status. ``recording`` replaces recorded ratios instead."""
    print()
    if recording:
        ratios.record(path, device, scale, found)
        print(f"Recorded {len(found)} ratios of {device}, scale {scale}, in {path}.")
        return 0
    earlier = ratios.read(path, device, scale)
    comparison = ratios.compare(earlier, found)
    if not earlier:
        print(f"No ratios are recorded for {device}, scale {scale}: --record keeps these.")
        return 0
    if comparison.missing:
        print(f"Not recorded before: {'; '.join(comparison.missing)}.")
    if not comparison.worse:
        print(f"None of {len(found) - len(comparison.missing)} recorded ratios became worse by more than the noise.")
        return 0
    print("Worse by more than the noise:", *comparison.worse, sep="\n  ")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
