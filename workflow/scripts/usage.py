"""Say what the jobs of a study took where they ran, rule by rule, and what to ask of a cluster for more of them.

Read from the run cards that stand; nothing is run. The resources at the end are those of the most demanding job of each
rule with room to spare; they go under ``set-resources`` of a profile.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from poisonlab.config.merging import add_config_arguments, merged_config
from poisonlab.config.study import Study, read_study
from poisonlab.errors import DataError
from poisonlab.files import read_sealed
from poisonlab.runtime.program import run

RULES = {
    "surrogates": "pretrain",
    "poisons": "craft",
    "filters": "filter",
    "noise": "noise",
    "victims": "train",
    "detections": "detect",
}
"""By the folder that holds a rule's results."""

MEMORY_ROOM, TIME_ROOM = 1.5, 2.0
"""What is asked for, in units of what the most demanding job took."""

LEAST_MINUTES = 10
"""Starting takes its time, too, on a file system that is asked by many."""


@dataclass(frozen=True)
class Job:
    """What one job took.

    Attributes:
        device: where it ran, and with how many threads.
        host, device_memory: highest use in MiB; ``device_memory`` is nan on a CPU.
    """

    rule: str
    device: str
    seconds: float
    host: float
    device_memory: float


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(arguments)
    args = arguments.parse_args(argv)
    study = read_study(merged_config(args.configfile, args.config))
    jobs = list(jobs_of(study))
    if not jobs:
        raise DataError(f"no run cards of {study.study} below {study.results}/: run some of it first")
    print(table(jobs), end="\n\n")
    print(resources(jobs))


def jobs_of(study: Study) -> Iterator[Job]:
    """What the study's run cards say.

    Raises:
        DataError: a card is damaged.
    """
    for folder, rule in RULES.items():
        for path in sorted(Path(study.results, folder, study.study).rglob("*.card.json")):
            yield job_of(rule, read_sealed(path), path)


def job_of(rule: str, card: Any, path: Path) -> Job:
    try:
        device = f"{card['device']}, {card['threads']} thread{'s' if card['threads'] > 1 else ''}"
        on_device = card["peak_device_mib"]
        return Job(
            rule,
            device,
            float(card["seconds"]),
            float(card["peak_host_mib"]),
            math.nan if on_device is None else float(on_device),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no run card: delete it and run the workflow again") from error


def table(jobs: Sequence[Job]) -> str:
    """A line per rule and kind of device, as Markdown."""
    lines = []
    for (rule, device), group in pd.DataFrame(jobs).groupby(["rule", "device"], sort=False):
        minutes = group["seconds"] / 60
        lines.append(
            [
                rule,
                device,
                str(len(group)),
                f"{minutes.sum() / 60:.2f}",
                f"{median(minutes):.1f}",
                f"{minutes.max():.1f}",
                f"{group['host'].max():,.0f}",
                "–" if group["device_memory"].isna().all() else f"{group['device_memory'].max():,.0f}",
            ]
        )
    names = ["rule", "device", "jobs", "hours", "median minutes", "longest", "most host MiB", "most device MiB"]
    aligned = ["left", "left", *["right"] * (len(names) - 2)]
    return str(pd.DataFrame(lines, columns=names).to_markdown(index=False, disable_numparse=True, colalign=aligned))


def resources(jobs: Sequence[Job]) -> str:
    """YAML for a profile: minutes and MiB for each rule."""
    lines = ["set-resources:"]
    for rule in dict.fromkeys(job.rule for job in jobs):
        own = [job for job in jobs if job.rule == rule]
        runtime = max(LEAST_MINUTES, math.ceil(TIME_ROOM * max(job.seconds for job in own) / 60))
        memory = 100 * math.ceil(MEMORY_ROOM * max(job.host for job in own) / 100)
        lines.append(f"  {rule}: {{runtime: {runtime}, mem_mb: {memory} * attempt}}")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
