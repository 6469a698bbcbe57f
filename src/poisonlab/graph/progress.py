"""How far the jobs of a study are, seen from outside: from results, logs, run cards and Snakemake's notes.

Only files are read. So a running study can be looked at from another terminal, and from another node of a cluster that
shares the file system.
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
    """How far a job is."""

    DONE = "done"
    """Its results stand, and Snakemake has noted nothing against them: settings and code are as they were."""
    RUNNING = "running"
    SUBMITTED = "submitted"
    """Handed to the cluster, where its log has not begun."""
    FAILED = "failed"
    """Its log ends in an error, and it has no results."""
    STOPPED = "stopped"
    """Begun, without results or error: interrupted or killed, or the results were deleted."""
    WAITING = "waiting"


@dataclass(frozen=True)
class Standing:
    """How far one job is.

    Attributes:
        log: its log file, which may be missing.
        stale: whether it waits although its results stand, as they are of other settings or code.
        since: of a running job, when it began (seconds since the epoch).
        heard: when its log was last written (seconds since the epoch); None without a log.
        said: the last line of its log; empty unless it runs or has failed.
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
    """What a study's jobs will still take.

    Attributes:
        hours: until the measured ones are done, with ``at_once`` of them at a time; nan if none is measured.
        at_once: jobs that run now, at least 1.
        unmeasured: jobs with a run card to come that are like none that ran.
        device: where the seconds were measured; None without any.
        work: hours of each stage's measured jobs, one after another.
    """

    hours: float
    at_once: int
    unmeasured: int
    device: str | None
    work: Mapping[str, float]


def look(graph: Graph, jobs: Sequence[Job], records: Records) -> list[Standing]:
    """How far each job is.

    Inputs that changed are not compared, as ``workflow/scripts/verify.py`` does: it asks Snakemake itself.
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
        # Whole seconds are all that some file systems know.
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
    """Whether the outputs are there, and no record says that other settings or code made them."""
    outputs = list(job.outputs.values())
    known = records.params(outputs[0])
    same = not known or known == {repr(list(job.settings)), repr(graph.code(job))}
    return same and all(map(os.path.exists, outputs))


def log_of(graph: Graph, job: Job) -> Path:
    """A job's log file."""
    pattern = graph.places.log(job.stage)
    names = re.findall(r"\{(\w+)\}", pattern)
    # The only wildcard may have slashes of its own, and that of a table's scope is empty.
    values = job.name.split("/", max(0, len(names) - 1))
    values += [""] * (len(names) - len(values))
    return Path(pattern.format(**dict(zip(names, values, strict=False))))


def left(found: Sequence[Standing], ran: Sequence[Measured], study: str, now: float) -> Left:
    """What the jobs that are not done will take, by those that ran on the device that tells most of them.

    Args:
        found: every job.
        ran: what was measured.
        study: the study's name.
        now: seconds since the epoch, to count running jobs by their rest.
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
    """Seconds that a job will take from now on; None if nothing like it ran and its log does not tell."""
    job = each.job
    expected = seconds.expected(job.stage, job.settings, job.options.get("settings", ()))
    if each.state is not State.RUNNING or each.since is None:
        return None if expected is None else expected.seconds
    if expected is not None:
        return max(0.0, expected.seconds - (now - each.since))
    return remaining(each.said)


def bar(line: str) -> str:
    """A progress bar's numbers without the bar itself; another line as it is."""
    found = _BAR.match(line)
    if found is None:
        return line
    what = f"{found['what']} " if found["what"] else ""
    return f"{what}{found['percent']} % {found['rest']}"


def remaining(line: str) -> float | None:
    """Seconds that a progress bar leaves; None if the line is none, or does not know."""
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
