"""Kill a running study again and again, call it again as a user would, and compare what it ends in."""

from __future__ import annotations

import csv
import io
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness import STUDY, Checkout, environment

METHODS = ("SIGKILL group", "SIGTERM snakemake", "SIGKILL job", "SIGKILL snakemake")
"""What is sent to whom: all processes, Snakemake alone (whose job lives on or not), or one job."""

_VOLATILE = {"seconds", "relative_time", "check", "device", "threads", "torch", "python", "commit", "finished"} | {
    "peak_host_mib",
    "peak_device_mib",
}


@dataclass
class Kill:
    """One kill that was done."""

    method: str
    stage: str
    """The program that was aimed at, and ran."""
    after: float
    """Seconds since it began."""
    saved: bool
    """Whether a training had saved a state by then."""


@dataclass
class Assault:
    """Runs a study to its end, killing it in between.

    Attributes:
        study: where.
        target: what is asked of Snakemake.
        aims: how many kills while which program runs.
        last: the program that ends the study, during which the rest of the kills is done.
        lasting: seconds that each program lasts; the moment of a kill is drawn from most of them.
        stream: of moments and methods.
    """

    study: Checkout
    target: str
    aims: Counter[str]
    lasting: Mapping[str, float]
    stream: random.Random
    last: str = "report"
    kills: list[Kill] = field(default_factory=list)
    calls: int = 0

    def run(self, most: int = 100) -> None:
        """Call Snakemake until it succeeds.

        Raises:
            AssertionError: it did not within ``most`` calls, or an end was not in order.
        """
        methods = list(METHODS)
        while True:
            self.calls += 1
            assert self.calls <= most, "the study does not end"
            code, output = self._call(methods[len(self.kills) % len(methods)])
            assert "Traceback" not in output or "KeyboardInterrupt" in output, output
            if "--unlock" in output:
                assert self.study.snakemake("--cores", "1", "--unlock").code == 0
            elif code == 0:
                return

    def _call(self, method: str) -> tuple[int, str]:
        log = self.study.path / "assault.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", self.target, "--cores", "1", "--configfile", STUDY],
                cwd=self.study.path,
                env=environment(),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        begun: dict[int, float] = {}
        moments: dict[int, float] = {}
        while process.poll() is None:
            now = time.monotonic()
            programs = dict(running(self.study.path))
            for number in programs.keys() - begun.keys():
                begun[number] = now
                if self._is_aim(programs[number]):
                    lasting = self.lasting.get(programs[number], 1.0)
                    moments[number] = now + self.stream.uniform(0.02, 0.6) * lasting
            due = [number for number, moment in moments.items() if number in programs and now >= moment]
            if due:
                del moments[due[0]]
                if programs[due[0]] == self.last:
                    # After a SIGTERM Snakemake waits for its job, and that would be the end.
                    method = METHODS[0]
                self._kill(process, method, due[0], programs, now - begun[due[0]])
                if method != "SIGKILL job":
                    break
            time.sleep(0.005)
        process.wait(timeout=120)
        return process.returncode, log.read_text(encoding="utf-8", errors="replace")

    def _is_aim(self, stage: str) -> bool:
        # What was missed, because programs ended sooner than expected, is made up for at the end.
        return self.aims[stage] > 0 or (stage == self.last and self.aims.total() > 0)

    def _kill(
        self,
        process: subprocess.Popen[bytes],
        method: str,
        aimed: int,
        programs: Mapping[int, str],
        after: float,
    ) -> None:
        saved = any((self.study.path / "results/checkpoints").rglob("*.safetensors"))
        stage = programs[aimed]
        self.aims[stage if self.aims[stage] > 0 else next(iter(+self.aims))] -= 1
        self.kills.append(Kill(method, stage, after, saved))
        what, whom = method.split()
        number = getattr(signal, what)
        if whom == "group":
            os.killpg(process.pid, number)
        elif whom == "snakemake":
            process.send_signal(number)
        else:
            os.kill(aimed, number)


def running(folder: Path) -> Iterator[tuple[int, str]]:
    """Process and name of the stage programs that run in ``folder``."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
                # A shell has the whole line as one word.
                found = re.fullmatch(rb"workflow/scripts/(\w+)\.py", words[1]) if len(words) > 1 else None
                if found and os.readlink(f"{entry.path}/cwd") == str(folder):
                    yield int(entry.name), found[1].decode()
            except OSError:
                continue


def undisturbed(study: Checkout, target: str) -> dict[str, float]:
    """Run a study to its end; returns how long each program lasted, in seconds."""
    assault = Assault(study, target, Counter(), {}, random.Random(0))
    first: dict[int, tuple[str, float]] = {}
    longest: dict[str, float] = {}
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", target, "--cores", "1", "--configfile", STUDY],
        cwd=assault.study.path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None:
        for number, stage in running(study.path):
            _, begin = first.setdefault(number, (stage, time.monotonic()))
            longest[stage] = max(longest.get(stage, 0.0), time.monotonic() - begin)
        time.sleep(0.01)
    assert process.returncode == 0
    return longest


def lasting_content(study: Checkout) -> dict[str, object]:
    """All results without what differs from run to run: times, and where something ran."""
    content: dict[str, object] = {}
    for path in sorted((study.path / "results").rglob("*")):
        name = path.relative_to(study.path).as_posix()
        # A process that is killed while it writes leaves a hidden file behind. The report has times and devices, too.
        if (
            path.is_dir()
            or "/logs/" in name
            or path.name.startswith(".")
            or name.endswith((".card.json", ".html", "-time.md", "-time.json"))
        ):
            continue
        content[name] = _without_times(path) if path.suffix == ".csv" else path.read_bytes()
    return content


def _without_times(path: Path) -> list[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    return [{name: value for name, value in row.items() if name not in _VOLATILE} for row in rows]
