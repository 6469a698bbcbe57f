"""What reruns after a change, as poisonlab.graph tells it: without Snakemake, so that many changes are cheap."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from harness import STAGES, STUDY, Checkout, Job

from poisonlab.config.study import read_study
from poisonlab.graph.graph import Graph


@dataclass(frozen=True)
class State:
    """Everything that Snakemake compares of every job of a study.

    Attributes:
        strings: settings and code of a job.
        files: paths of its inputs, those that no job makes with a digest of their content.
        waits: the jobs that make its inputs.
    """

    strings: Mapping[Job, frozenset[str]]
    files: Mapping[Job, frozenset[str]]
    waits: Mapping[Job, frozenset[Job]]


class Pristine:
    """A checkout that is changed in place and restored; its state before any change."""

    def __init__(self, checkout: Checkout) -> None:
        self.checkout = checkout
        self.state = state_of(checkout.path)
        self._files = self._read()

    def _read(self) -> dict[Path, bytes]:
        files = (path for path in self.checkout.path.rglob("*") if path.suffix != ".pyc" and path.is_file())
        return {path: path.read_bytes() for path in files}

    def restore(self) -> None:
        """Undo all changes of files."""
        now = self._read()
        for path in now.keys() - self._files.keys():
            path.unlink()
        for path, content in self._files.items():
            if now.get(path) != content:
                path.write_bytes(content)


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """As if called from a folder."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)


def graph_of(checkout: Path) -> Graph:
    """The graph of the study of a checkout, from within it."""
    with inside(checkout):
        return Graph(read_study(yaml.safe_load(Path(STUDY).read_text(encoding="utf-8"))))


def state_of(checkout: Path) -> State:
    """The jobs of the study of a checkout, with the code as it lies there."""
    with inside(checkout):
        graph = graph_of(checkout)
        jobs = {(job.stage, job.name): job for job in graph.all_jobs()}
        made = {path: key for key, job in jobs.items() for path in job.outputs.values()}
        inputs = {key: [path for paths in job.inputs.values() for path in paths] for key, job in jobs.items()}
        return State(
            {key: frozenset([*job.settings, *graph.code(job)]) for key, job in jobs.items()},
            {key: frozenset(_file(path, made) for path in paths) for key, paths in inputs.items()},
            {key: frozenset(made[path] for path in paths if path in made) for key, paths in inputs.items()},
        )


def _file(path: str, made: Mapping[str, Job]) -> str:
    return path if path in made else f"{path} {hashlib.sha256(Path(path).read_bytes()).hexdigest()}"


@dataclass(frozen=True)
class Predicted:
    """The jobs that rerun.

    Attributes:
        direct: because of the change itself.
        jobs: these, and all that wait for them.
        before: the state before the change.
        now: the state after it.
    """

    direct: frozenset[Job]
    jobs: frozenset[Job]
    before: State
    now: State

    def stages(self, jobs: frozenset[Job]) -> set[Job]:
        """Those of the stages, without figures, landscapes, reports and tables of a paper."""
        return {job for job in jobs if job[0] in STAGES}

    def any(self, *rules: str) -> bool:
        """Whether a job of these rules reruns."""
        return any(rule in rules for rule, _ in self.jobs)

    def changed(self, job: Job) -> set[str]:
        """The names of what has changed of a job."""
        return {re.split("[=@]", value, maxsplit=1)[0] for value in self.before.strings[job] ^ self.now.strings[job]}


def predict(before: State, now: State) -> Predicted:
    """What reruns between two states of one checkout."""
    direct = {
        job
        for job in now.strings
        if job not in before.strings or before.strings[job] != now.strings[job] or before.files[job] != now.files[job]
    }
    jobs = set(direct)
    while more := {job for job, waits in now.waits.items() if job not in jobs and waits & jobs}:
        jobs |= more
    return Predicted(frozenset(direct), frozenset(jobs), before, now)
