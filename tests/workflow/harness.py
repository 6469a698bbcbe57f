"""Run Snakemake on a copy of the repository's workflow, and read what a dry run says.

Everything that depends on how Snakemake prints or records things is in this module.
"""

from __future__ import annotations

import ast
import atexit
import base64
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from warm import CLIENT

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = (
    "Snakefile",
    "config.yaml",
    "config",
    "workflow",
    "src",
    "envs",
    "reference",
    "profiles",
    "LICENSE",
    "CITATION.cff",
)
STAGES = ("dataset", "pretrain", "craft", "filter", "noise", "train", "detect", "trials", "tables")
STUDY = "study.yaml"

Job = tuple[str, str]
"""Rule and wildcards, such as ``("train", "strong/scratch/none/0")``."""


@dataclass(frozen=True)
class Outcome:
    """How a program ended and what it printed."""

    code: int
    output: str


@dataclass(frozen=True)
class Plan:
    """The jobs that a dry run would run, each with Snakemake's reason."""

    reasons: dict[Job, str]

    def jobs(self, *rules: str) -> set[Job]:
        """Jobs of the stages, or of ``rules``."""
        return {job for job in self.reasons if job[0] in (rules or STAGES)}

    def direct(self) -> set[Job]:
        """Jobs of the stages that rerun for a reason of their own, not just because another job does."""
        return {job for job in self.jobs() if not _only_follows(self.reasons[job])}

    def drawings(self) -> set[str]:
        """The rules of figures and landscapes that would run."""
        return {rule for rule, _ in self.reasons if rule == "figure" or rule.startswith("landscape_")}

    def paper_tables(self) -> set[str]:
        """Rules for the paper's tables that would run."""
        return {rule for rule, _ in self.reasons if rule.startswith("paper_table")}

    def report(self) -> bool:
        """Whether the report would be written anew."""
        return ("page", "") in self.reasons

    def changed(self, job: Job) -> set[str]:
        """The names of the params (settings, files, packages) that the job's reason says have changed."""
        before, now = _params_before_and_now(self.reasons[job])
        return {re.split("[=@]", value, maxsplit=1)[0] for value in before ^ now}


def _only_follows(reason: str) -> bool:
    return all(part.startswith("Input files updated by another job") for part in reason.split("; "))


def _params_before_and_now(reason: str) -> tuple[set[str], set[str]]:
    found = re.search(r"across all output: before: (.*?\]) now: (.*\])", reason)
    assert found is not None, f"no changed params in: {reason}"
    sides = []
    for side in found.groups():
        lists = ast.literal_eval(f"[{side}]")
        sides.append({value for strings in lists for value in ([strings] if isinstance(strings, str) else strings)})
    return sides[0], sides[1]


@dataclass(frozen=True)
class Checkout:
    """A copy of the repository's workflow with a study of its own."""

    path: Path
    python: str = sys.executable

    def snakemake(self, *arguments: str, timeout: float = 900) -> Outcome:
        """Run Snakemake on ``study.yaml`` in this folder."""
        return self.run(self.python, "-m", "snakemake", *arguments, "--configfile", STUDY, timeout=timeout)

    def run(self, *command: str, timeout: float = 900) -> Outcome:
        if command[1:3] == ("-m", "snakemake"):
            return forked("snakemake", command, self.path, environment(), timeout)
        done = subprocess.run(
            command,
            cwd=self.path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Outcome(done.returncode, done.stdout)

    def script(self, name: str, *arguments: str) -> Outcome:
        """Run a program of the workflow as the workflow does."""
        return self.program(f"workflow/scripts/{name}.py", *arguments)

    def program(self, path: str, *arguments: str, **variables: str) -> Outcome:
        """Run any program with this checkout's sources, which are "src" if PYTHONPATH does not say otherwise."""
        # What it starts in turn is handed on, too.
        command = (handing(self.python), path, *arguments)
        given = {"PYTHONPATH": "src", "KMP_BLOCKTIME": "0", **variables}
        return forked("jobs", command, self.path, environment() | given, 900)

    def plan(self, *arguments: str) -> Plan:
        """What ``snakemake -n`` would run."""
        outcome = self.snakemake("-n", "--cores", "2", *arguments)
        assert outcome.code == 0, outcome.output
        return Plan(dict(_blocks(outcome.output)))

    def commands(self, *arguments: str) -> dict[Job, str]:
        """The shell commands of the jobs that a dry run would run; the study is what the arguments or the Snakefile
        say."""
        outcome = self.run(self.python, "-m", "snakemake", "-n", "-p", "--cores", "2", *arguments)
        assert outcome.code == 0, outcome.output
        found = {}
        for job, block in _jobs(outcome.output):
            command = re.search(r"^Shell command: (?!None$)(.*)$", block, flags=re.MULTILINE)
            if command is not None:
                found[job] = command[1]
        return found

    def has_record(self, output: str) -> bool:
        """Whether Snakemake recorded a job that made ``output``."""
        return (self.path / ".snakemake/metadata" / base64.b64encode(output.encode()).decode()).is_file()

    def record(self, output: str) -> dict[str, Any]:
        """What Snakemake recorded of the job that made ``output``."""
        name = base64.b64encode(output.encode()).decode()
        record: dict[str, Any] = json.loads((self.path / ".snakemake/metadata" / name).read_text(encoding="utf-8"))
        return record

    def params(self, output: str) -> list[str]:
        """The strings among the params that Snakemake recorded, those of lists, too."""
        values = [ast.literal_eval(param) for param in self.record(output)["params"]]
        each = [value if isinstance(value, list) else [value] for value in values]
        return [string for strings in each for string in strings if isinstance(string, str)]

    def study(self) -> Any:
        """The study's settings; what an anchor shares is written out, so that a change stays where it is made."""
        return json.loads(json.dumps(yaml.safe_load((self.path / STUDY).read_text(encoding="utf-8"))))

    def change_study(self, change: Callable[[Any], None], *, sort_keys: bool = False) -> None:
        """Let ``change`` edit the study's settings in place."""
        study = self.study()
        change(study)
        (self.path / STUDY).write_text(yaml.safe_dump(study, sort_keys=sort_keys), encoding="utf-8")

    def replace(self, file: str, old: str, new: str) -> None:
        """Replace the first ``old`` in a file."""
        text = (self.path / file).read_text(encoding="utf-8")
        assert old in text, f"{file} no longer contains {old!r}: adapt the test"
        (self.path / file).write_text(text.replace(old, new, 1), encoding="utf-8")

    def append(self, file: str, text: str) -> None:
        with (self.path / file).open("a", encoding="utf-8") as opened:
            opened.write(text)

    def copy(self, path: Path) -> Checkout:
        """A copy with the same results, times and Snakemake records."""
        shutil.copytree(self.path, path, symlinks=True)
        return Checkout(path, self.python)

    def files(self, *patterns: str) -> dict[str, bytes]:
        """Content of the results that match, by path."""
        found = {path for pattern in patterns for path in (self.path / "results").rglob(pattern)}
        return {str(path.relative_to(self.path)): path.read_bytes() for path in sorted(found)}


def _jobs(output: str) -> Iterable[tuple[Job, str]]:
    """Every job that a dry run prints, and all that it prints of it."""
    for block in re.split(r"^\[.+\]\n", output, flags=re.MULTILINE)[1:]:
        rule = re.match(r"(?:local)?(?:rule|checkpoint) (\w+):$", block, flags=re.MULTILINE)
        if rule is not None:
            wildcards = re.search(r"^    wildcards: (.*)$", block, flags=re.MULTILINE)
            values = re.findall(r"=([^,\n]+)", wildcards[1]) if wildcards else []
            yield (rule[1], "/".join(values)), block


def _blocks(output: str) -> Iterable[tuple[Job, str]]:
    """Job and reason of every job that a dry run prints."""
    for job, block in _jobs(output):
        reason = re.search(r"^    reason: (.*)$", block, flags=re.MULTILINE)
        assert reason is not None, block
        yield job, reason[1]


def environment() -> dict[str, str]:
    """Without anything that leads to the sources of the repository under test, and with one thread per job."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    # Packages may lie beside the environment.
    paths = [Path(path).resolve() for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    beside = [str(path) for path in paths if not path.is_relative_to(REPOSITORY)]
    if beside:
        kept["PYTHONPATH"] = os.pathsep.join(beside)
    # Bytecode is kept beside a checkout's sources, and goes with them into its copies.
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}


SPIED = "spied.jsonl"
"""Arguments and imported files of every job of a checkout with a spy, a JSON object per line."""

SPY = f"""
import atexit, json, os, sys

def write():
    root = os.getcwd() + os.sep
    files = {{getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}}
    own = sorted(file.removeprefix(root) for file in files if file.startswith((root, "src/", "workflow/")))
    files = [name for name in own if name.startswith(("src/", "workflow/")) and "customize" not in name]
    told = {{"arguments": sys.argv, "files": files}}
    with open("{SPIED}", "a") as file:
        file.write(json.dumps(told) + "\\n")

# Not what multiprocessing and the like start.
if "workflow/scripts/" in sys.argv[0]:
    atexit.register(write)
"""


def check_out(path: Path, study: Path, python: str = sys.executable, *, spied: bool = False) -> Checkout:
    """Copy the workflow to ``path``, with ``study`` as its study; a spy notes what its jobs import."""
    path.mkdir(parents=True)
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, path / name, ignore=shutil.ignore_patterns("*.egg-info"))
        else:
            shutil.copy2(source, path / name)
    shutil.copy(study, path / STUDY)
    if spied:
        # Python runs it before every job's program, whose folder of sources this is.
        (path / "src/sitecustomize.py").write_text(SPY, encoding="utf-8")
    # Stands in for poisons that were made elsewhere, one folder per seed.
    for seed in range(3):
        folder = path / "imported" / f"seed{seed}"
        folder.mkdir(parents=True)
        for row in (3, 14):
            (folder / f"{row}.png").write_text(f"{seed} {row}", encoding="utf-8")
    return Checkout(path, python)


STUB = """#!/bin/bash
# Stands in for the stage programs: writes every output that is not there yet, at no cost.
[[ -p /dev/stdin ]] && cat > /dev/null
after=""
for argument in "$@"; do
    # A path without a dot is a folder of inputs.
    if [[ $after != --checkpoint && $argument == results/*.* && ! -e $argument ]]; then
        mkdir -p "$(dirname "$argument")"
        # Run cards are read by some: with the checksum of JSON (poisonlab.files.write_sealed).
        sum=$(printf '{\\n "made": "%s"\\n}\\n' "$argument" | sha256sum)
        printf '{"made": "%s", "sha256": "%s"}' "$argument" "${sum%% *}" > "$argument"
    fi
    [[ $argument == --* ]] && after=$argument || after=""
done
"""


def stub_environment(path: Path, program: str = STUB) -> str:
    """A virtual environment whose ``python`` is another ``program``, by default a stub of the stage programs; returns
    its interpreter for Snakemake.

    The workflow puts the folder of Snakemake's interpreter first on the jobs' PATH, so it is ``python`` there.
    """
    real = Path(sys.prefix)
    (path / "bin").mkdir(parents=True)
    shutil.copy(real / "pyvenv.cfg", path / "pyvenv.cfg")
    for folder in ("lib", "lib64"):
        if (real / folder).exists():
            (path / folder).symlink_to(real / folder)
    interpreter = path / "bin" / "interpreter"
    interpreter.symlink_to(Path(sys.executable).resolve())
    stub = path / "bin" / "python"
    stub.write_text(program, encoding="utf-8")
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    return str(interpreter)


def warm_environment(path: Path) -> str:
    """A virtual environment whose ``python`` forks a process that has torch loaded; its interpreter for Snakemake."""
    return stub_environment(path, _client(sys.executable))


def _client(python: str) -> str:
    """A program that hands jobs and Snakemake to the processes that listen, and all else to an interpreter."""
    return CLIENT.format(real=sys.executable, python=python, jobs=_listening("jobs"), snakemake=_listening("snakemake"))


@cache
def handing(python: str) -> str:
    """Where that program stands, which says to Snakemake and jobs that ``python`` started them."""
    path = Path(_KEPT.enter_context(TemporaryDirectory())) / "python"
    path.write_text(_client(python), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@contextmanager
def _server(kind: str) -> Iterator[Path]:
    """Where a process listens that has much loaded, see ``warm.py``."""
    # The path of a socket must be short.
    with TemporaryDirectory() as folder:
        address = Path(folder) / "socket"
        command = [sys.executable, str(Path(__file__).with_name("warm.py")), str(address), kind]
        server = subprocess.Popen(command, env=environment() | {"KMP_BLOCKTIME": "0"})
        try:
            while not address.exists():
                assert server.poll() is None
                time.sleep(0.05)
            yield address
        finally:
            server.kill()
            server.wait()


_KEPT = ExitStack()
atexit.register(_KEPT.close)


@cache
def _listening(kind: str) -> Path:
    """Where the process listens that this process of tests shares."""
    return _KEPT.enter_context(_server(kind))


def forked(kind: str, command: Sequence[str], folder: Path, variables: Mapping[str, str], timeout: float) -> Outcome:
    """Run a program of Python as ``subprocess.run`` would, but without its imports: a third of a dry run's time, and
    most of a short job's."""
    told = json.dumps([command[1:], str(folder), variables, command[0]]).encode()
    read, write = os.pipe()
    with socket.socket(socket.AF_UNIX) as server, open(os.devnull) as nothing, open(read, "rb") as printed:
        server.connect(str(_listening(kind)))
        server.settimeout(timeout)
        socket.send_fds(server, [len(told).to_bytes(8, "big")], [nothing.fileno(), write, write])
        server.sendall(told)
        os.close(write)
        reader = threading.Thread(target=lambda: output.append(printed.read()))
        output: list[bytes] = []
        reader.start()
        code = int(server.recv(16) or b"1")
        reader.join(timeout)
    return Outcome(code, output[0].decode("utf-8", "replace"))
