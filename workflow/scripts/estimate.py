"""Estimate how long the jobs of a study or scan will take, by similar jobs that ran, and what to request of a cluster.

Nothing is run. Seconds come from run cards below the results folder and from committed trials, on one device. The
resources at the end are those of the most demanding job of each stage, with room to spare; put them under
``set-resources`` of a profile.
"""

from __future__ import annotations

import argparse
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import pandas as pd

from poisonlab.config.merging import add_config_arguments, checkout, merged_config
from poisonlab.errors import SettingsError
from poisonlab.evaluation.seconds import SAME, Measured, Seconds
from poisonlab.files import write_json
from poisonlab.graph.graph import Graph
from poisonlab.graph.job import Job
from poisonlab.graph.measured import measured
from poisonlab.graph.progress import stands
from poisonlab.graph.records import Records
from poisonlab.graph.scanning import read_config
from poisonlab.runtime.program import run

MEMORY_ROOM, TIME_ROOM = 1.5, 2.0
"""Requested memory and time, as multiples of those of the most demanding job."""

LEAST_MINUTES = 10
"""Least time to request: on a file system that many nodes use, starting takes time, too."""


@dataclass(frozen=True)
class Row:
    """The jobs of one stage and method.

    Attributes:
        unmeasured: number of jobs left that resemble no job that ran.
        seconds: median over the measured jobs left; nan without any.
        measured: number of jobs that ran, from which ``seconds`` come.
        hours: of the measured jobs left, one after another.
        fits: how well the jobs that ran fit.
    """

    stage: str
    method: str
    jobs: int
    done: int
    unmeasured: int
    seconds: float
    measured: int
    hours: float
    fits: tuple[str, ...]

    @property
    def left(self) -> int:
        return self.jobs - self.done

    @property
    def name(self) -> str:
        return f"{self.stage} {self.method}".rstrip()


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(arguments)
    arguments.add_argument(
        "--device", help="a part of the device's name; else the device that leaves the fewest jobs unmeasured"
    )
    arguments.add_argument(
        "--at-once", type=int, help="jobs that run at the same time; else as many as the cores allow"
    )
    arguments.add_argument("--json", type=Path, help="also write the numbers to this file")
    args = arguments.parse_args(argv)
    if args.at_once is not None and args.at_once < 1:
        raise SettingsError(f"--at-once {args.at_once}: choose 1 or more")
    study, scan = read_config(merged_config(args.configfile, args.config))
    graph = Graph(study, checkout(), scan)
    graph.check()
    planned = graph.all_jobs()
    jobs = [job for job in planned if "card" in job.outputs]
    ran = list(measured(study, scan, jobs))
    devices = {
        device: Seconds((job for job in ran if job.device == device), study.study)
        for device in dict.fromkeys(job.device for job in ran)
    }
    left = unfinished(graph, planned)
    tables = {device: rows(jobs, left, seconds) for device, seconds in devices.items()}
    device = chosen(tables, args.device)
    lines = rows(jobs, left, Seconds([], study.study)) if device is None else tables[device]
    at_once = args.at_once or max(1, (os.cpu_count() or 1) // study.threads)
    notes = [*about_devices(tables, device), *about_fits(lines), *about_cards(planned), *total(lines, at_once)]
    asked = resources([job for job in ran if job.study == study.study and job.outcome is None])
    print("\n\n".join(filter(None, (table(lines), "\n".join(notes), asked))))
    if args.json is not None:
        told = [{**asdict(line), "seconds": None if math.isnan(line.seconds) else line.seconds} for line in lines]
        hours = sum(line.hours for line in lines)
        write_json(args.json, {"study": graph.name, "device": device, "rows": told, "hours": hours, "notes": notes})


def unfinished(graph: Graph, planned: Sequence[Job]) -> list[Job]:
    """The jobs that are not done or are stale, and all that depend on them; ``planned`` is in the order of work."""
    records, left = Records(), []
    made: set[str] = set()
    for job in planned:
        if any(not made.isdisjoint(paths) for paths in job.inputs.values()) or not stands(graph, job, records):
            left.append(job)
            made.update(job.outputs.values())
    return left


def rows(jobs: Sequence[Job], left: Sequence[Job], seconds: Seconds) -> list[Row]:
    """A row per stage and method, stage by stage; ``left`` are those of the jobs that are not done."""
    stages = list(dict.fromkeys(job.stage for job in jobs))
    groups: dict[tuple[str, str], list[Job]] = defaultdict(list)
    waiting = set(map(id, left))
    for job in jobs:
        groups[job.stage, job.method].append(job)
    return [
        _row(stage, method, group, [job for job in group if id(job) in waiting], seconds)
        for (stage, method), group in sorted(groups.items(), key=lambda item: stages.index(item[0][0]))
    ]


def _row(stage: str, method: str, jobs: Sequence[Job], left: Sequence[Job], seconds: Seconds) -> Row:
    found = [seconds.expected(stage, job.settings, job.options.get("settings", ())) for job in left]
    known = [each for each in found if each is not None]
    taken = [each.seconds for each in known]
    return Row(
        stage,
        method,
        len(jobs),
        len(jobs) - len(left),
        len(left) - len(known),
        median(taken) if taken else math.nan,
        sum(each.count for each in set(known)),
        sum(taken) / 3600,
        tuple(dict.fromkeys(each.fit for each in known)),
    )


def chosen(tables: Mapping[str, Sequence[Row]], part: str | None) -> str | None:
    """The device whose name has ``part`` in it; without ``part``, the device that leaves the fewest jobs unmeasured.

    Without measurements and ``part``, it is None.

    Raises:
        SettingsError: no name or several names have ``part`` in them.
    """
    if part is None:
        return min(tables, key=lambda device: unmeasured(tables[device]), default=None)
    found = [device for device in tables if part.lower() in device.lower()]
    if len(found) != 1:
        raise SettingsError(f"--device must name one of: {'; '.join(tables) or 'none, as nothing has been measured'}")
    return found[0]


def unmeasured(lines: Iterable[Row]) -> int:
    return sum(line.unmeasured for line in lines)


def table(lines: Sequence[Row]) -> str:
    """The rows as Markdown."""
    names = ["stage", "method", "jobs", "done", "left", "seconds each", "from", "hours left"]
    cells = [
        [
            *(line.stage, line.method, str(line.jobs), str(line.done), str(line.left)),
            *(short(line.seconds), str(line.measured or "–")),
            short(line.hours if line.measured or not line.left else math.nan),
        ]
        for line in lines
    ]
    aligned = ["left", "left", *["right"] * (len(names) - 2)]
    return str(pd.DataFrame(cells, columns=names).to_markdown(index=False, disable_numparse=True, colalign=aligned))


def short(value: float) -> str:
    """Three significant digits; a dash for nan, which means unknown."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:#.3g}"


def about_devices(tables: Mapping[str, Sequence[Row]], device: str | None) -> list[str]:
    if device is None:
        return ["No such job has been measured here: run a part, such as one seed of a study, then estimate again."]
    others = [
        f"{name} (all but {unmeasured(lines)} jobs)"
        for name, lines in tables.items()
        if name != device and any(line.measured for line in lines)
    ]
    return [f"Seconds are medians on {device}."] + [f"Also measured on: {'; '.join(others)}."] * bool(others)


def about_fits(lines: Sequence[Row]) -> list[str]:
    """Which rows are measured only by similar jobs, and which rows are not measured."""
    fits: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        for fit in line.fits:
            fits[fit].append(line.name)
    said = [f"By {fit}: {'; '.join(names)}." for fit, names in fits.items() if fit != SAME]
    missing = [f"{line.name} ({line.unmeasured})" for line in lines if line.unmeasured]
    return said + ([f"No measurement, not counted: {'; '.join(missing)}."] if missing else [])


def about_cards(planned: Sequence[Job]) -> list[str]:
    stages = Counter(job.stage for job in planned if "card" not in job.outputs)
    return [f"Not timed, not counted: {', '.join(f'{stage} ({count})' for stage, count in stages.items())}."] * bool(
        stages
    )


def total(lines: Sequence[Row], at_once: int) -> list[str]:
    hours, left, unknown = sum(line.hours for line in lines), sum(line.left for line in lines), unmeasured(lines)
    said = f"Jobs left: {left}, without measurement: {unknown}."
    if left > unknown:
        together = f"{short(hours / at_once)} with {at_once} at once if none waits for another"
        said += f" The others take {short(hours)} hours one after another, {together}."
    return [said]


def resources(ran: Sequence[Measured]) -> str:
    """YAML for a profile: minutes and MiB for each stage; empty without jobs that ran."""
    lines = []
    for stage in dict.fromkeys(job.stage for job in ran):
        own = [job for job in ran if job.stage == stage]
        runtime = max(LEAST_MINUTES, math.ceil(TIME_ROOM * max(job.seconds for job in own) / 60))
        memory = 100 * math.ceil(MEMORY_ROOM * max(job.host_mib for job in own) / 100)
        lines.append(f"  {stage}: {{runtime: {runtime}, mem_mb: {memory} * attempt}}")
    return "\n".join(["set-resources:", *lines]) if lines else ""


if __name__ == "__main__":
    run(main)
