"""Progress of a study's jobs, read from results, logs, run cards and Snakemake's records.

Only files are read, so this works from another terminal, or another cluster node with the same file system.
"""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from poisonlab.evaluation.seconds import Measured, Seconds
from poisonlab.graph.graph import Graph
from poisonlab.graph.job import Job
from poisonlab.graph.records import Records, changed_at
from poisonlab.runtime.failures import is_error, last_line

_BAR = re.compile(r"^(?:(?P<what>[^|]*?):)?\s*(?P<percent>\d+)%\|[^|]*\|\s*(?P<rest>.*)$")
_REMAINING = re.compile(r"\[[\d:]+<(?P<time>[\d:]+)[,\]]")


class State(StrEnum):
    """Progress of a job."""

    DONE = "done"
    """Its results exist, and no record of Snakemake contradicts them: settings and code have not changed."""
    RUNNING = "running"
    SUBMITTED = "submitted"
    """Handed to the cluster, but its log has not begun."""
    FAILED = "failed"
    """Its log ends in an error, and it has no results."""
    STOPPED = "stopped"
    """Begun, but without results or error: interrupted, killed, or its results were deleted."""
    WAITING = "waiting"


@dataclass(frozen=True)
class Standing:
    """Progress of one job.

    Attributes:
        log: its log file, which may be missing.
        stale: whether its results exist but were made with other settings or code, so that it waits.
        since: when a running or submitted job began (seconds since the epoch).
        heard: when its log was last written (seconds since the epoch); None without a log.
        said: last line of its log; empty unless the job runs or has failed.
    """

    job: Job
    state: State
    log: Path
    stale: bool = False
    since: float | None = None
    heard: float | None = None
    said: str = ""


@dataclass(frozen=True)
class Left:
    """Time that a study's jobs will still take.

    Attributes:
        hours: until the jobs with measurements are done, ``at_once`` at a time; nan if no job has one.
        at_once: jobs that run now, at least 1.
        unmeasured: open jobs with a run card, but without a measurement of a similar job.
        device: device of the measurements; None without any.
        work: hours by stage of the jobs with measurements, one after another.
    """

    hours: float
    at_once: int
    unmeasured: int
    device: str | None
    work: Mapping[str, float]


def look(graph: Graph, jobs: Sequence[Job], records: Records) -> list[Standing]:
    """Progress of each job.

    Changed inputs are not noticed. ``workflow/scripts/verify.py`` does notice them, because it asks Snakemake.
    """
    locked = records.locked()
    return [_standing(graph, job, records, locked) for job in jobs]


def _standing(graph: Graph, job: Job, records: Records, locked: set[str]) -> Standing:
    outputs = list(job.outputs.values())
    log = log_of(graph, job)
    began = records.began(outputs)
    if began is None and all(map(os.path.exists, outputs)):
        stale = not stands(graph, job, records)
        return Standing(job, State.WAITING if stale else State.DONE, log, stale)
    heard = changed_at(log)
    if began is not None and not locked.isdisjoint(outputs):
        # Some file systems keep whole seconds only.
        if heard is None or heard < math.floor(began):
            return Standing(job, State.SUBMITTED, log, since=began)
        return Standing(job, State.RUNNING, log, since=began, heard=heard, said=_last_line(log))
    if heard is None:
        return Standing(job, State.WAITING if began is None else State.STOPPED, log)
    said = _last_line(log)
    if is_error(said):
        return Standing(job, State.FAILED, log, heard=heard, said=said)
    return Standing(job, State.STOPPED, log, heard=heard)


def stands(graph: Graph, job: Job, records: Records) -> bool:
    """Whether the outputs exist, and no record says that they were made with other settings or code."""
    outputs = list(job.outputs.values())
    known = records.params(outputs[0])
    same = not known or known == {repr(list(job.settings)), repr(graph.code(job))}
    return same and all(map(os.path.exists, outputs))


def log_of(graph: Graph, job: Job) -> Path:
    """A job's log file."""
    return Path(graph.places.log(job.stage).format(**job.wildcards))


def left(found: Sequence[Standing], ran: Sequence[Measured], study: str, now: float) -> Left:
    """Time that the open jobs will take, by jobs measured on the device that covers most of them.

    Args:
        found: every job.
        ran: the measurements.
        study: the study's name.
        now: seconds since the epoch, to count only the rest of running jobs.
    """
    at_once = max(1, sum(each.state is State.RUNNING for each in found))
    open_ones = [each for each in found if each.state is not State.DONE and "card" in each.job.outputs]
    best: tuple[list[float | None], str | None] = [None] * len(open_ones), None
    for device in dict.fromkeys(job.device for job in ran):
        seconds = Seconds((job for job in ran if job.device == device), study)
        rests = [_rest(each, seconds, now) for each in open_ones]
        if best[1] is None or rests.count(None) < best[0].count(None):
            best = rests, device
    work: dict[str, float] = defaultdict(float)
    for each, rest in zip(open_ones, best[0], strict=True):
        if rest is not None:
            work[each.job.stage] += rest / 3600
    known = [rest for rest in best[0] if rest is not None]
    hours = max(sum(known) / at_once, max(known)) / 3600 if known else math.nan if open_ones else 0.0
    return Left(hours, at_once, best[0].count(None), best[1], dict(work))


def _rest(each: Standing, seconds: Seconds, now: float) -> float | None:
    """Seconds that a job will take from now on; None if no similar job ran and its log does not tell."""
    job = each.job
    expected = seconds.expected(job.stage, job.settings, job.options.get("settings", ()))
    if each.state is not State.RUNNING or each.since is None:
        return None if expected is None else expected.seconds
    if expected is not None:
        return max(0.0, expected.seconds - (now - each.since))
    return remaining(each.said)


def bar(line: str) -> str:
    """The numbers of a progress bar without the bar itself; any other line unchanged."""
    found = _BAR.match(line)
    if found is None:
        return line
    what = f"{found['what']} " if found["what"] else ""
    return f"{what}{found['percent']} % {found['rest']}"


def remaining(line: str) -> float | None:
    """Seconds that a progress bar predicts; None if the line is no bar, or the bar does not know."""
    found = _REMAINING.search(line)
    if found is None:
        return None
    seconds = 0
    for part in found["time"].split(":"):
        seconds = 60 * seconds + int(part)
    return float(seconds)


def _last_line(log: Path) -> str:
    try:
        return last_line(log)
    except OSError:
        return ""
