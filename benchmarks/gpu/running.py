"""Runs each section in a separate process: a section that crashes, hangs or ruins its CUDA context harms no other."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from peaks import Peaks

from gpu.section import Check, FaultError, Notes, Outcome, Section

# Forks of this process need not import torch again; it must never start CUDA itself.
_FORKS = multiprocessing.get_context("fork")


def run_all(sections: Sequence[Section], check: Check, seconds: float) -> Iterator[Outcome]:
    """Run the sections in order, within ``seconds`` in all; those that do not fit are skipped. Each outcome comes when
    its section has ended.

    A section may take the time that later sections do not need, and at least its share if so much is left. A section
    that would get less than half its share is skipped.
    """
    deadline = time.monotonic() + seconds
    for place, section in enumerate(sections):
        left = max(0.0, deadline - time.monotonic())
        later = sum(each.seconds for each in sections[place + 1 :])
        limit = max(min(section.seconds, left), left - later)
        if limit < section.seconds / 2:
            why = f"{left:.0f} s were left of {seconds:.0f}, and its share is {section.seconds:.0f}"
            yield Outcome(section.name, "skipped", 0.0, limit, why)
            continue
        folder = check.folder / section.name
        folder.mkdir(parents=True)
        print(f"gpu-check: {section.name}, at most {limit:.0f} s", file=sys.stderr, flush=True)
        outcome = run_one(section, replace(check, folder=folder, seconds=limit))
        print(f"gpu-check: {section.name} {outcome.state}, {outcome.seconds:.0f} s", file=sys.stderr, flush=True)
        if (found := outcome.notes.facts.get("peaks")) is not None:
            check = replace(check, peaks=Peaks(**found))  # type: ignore[arg-type]
        yield outcome


def run_one(section: Section, check: Check) -> Outcome:
    """Run a section in a fork of this process, and kill it with all that it started once ``check.seconds`` are over."""
    begin, notes = time.monotonic(), Notes()
    receiving, sending = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=_work, args=(section.work, check, sending))
    process.start()
    sending.close()
    error: str | None = f"it ran past its limit of {check.seconds:.0f} s"
    while receiving.poll(max(0.0, begin + check.seconds - time.monotonic())):
        try:
            kind, name, value = receiving.recv()
        except EOFError:
            process.join(5)
            error = f"its process ended without a word (exit status {process.exitcode})"
            break
        if kind == "end":
            error = value
            break
        getattr(notes, kind)[name] = value
    _end(process)
    state = "passed" if error is None else "failed"
    return Outcome(section.name, state, time.monotonic() - begin, check.seconds, error, notes)


def asked_of_a_fork(question: Callable[[], str | None]) -> str | None:
    """The answer to a question that may start CUDA, from a fork of this process."""
    receiving, sending = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=lambda: sending.send(question()))
    process.start()
    sending.close()
    try:
        answer: str | None = receiving.recv()
    except EOFError:
        answer = None
    _end(process)
    return answer


def _work(work: Callable[[Check, Notes], None], check: Check, sending: Connection) -> None:
    # A group of its own, so that all processes of the section can be killed with it.
    os.setsid()
    notes = Notes(tell=lambda kind, name, value: sending.send((kind, name, value)))
    error = None
    try:
        work(check, notes)
    except FaultError as fault:
        error = str(fault)
    except BaseException as fault:
        traceback.print_exc(file=sys.stderr)
        error = f"{type(fault).__name__}: {fault}{_place_of(fault)}"
    sending.send(("end", "", None if error is None else " ".join(error.split())[:500]))


def _place_of(error: BaseException) -> str:
    """Where an error arose in this repository's files."""
    root = str(Path(__file__).resolve().parents[2])
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(root)]
    own = [frame for frame in own if "site-packages" not in frame.filename]
    return f" ({Path(own[-1].filename).relative_to(root)}:{own[-1].lineno})" if own else ""


def _end(process: BaseProcess) -> None:
    """Let a process end; kill it if it does not, with all that is left of its group."""
    process.join(0.5)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.pid is not None:
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
