"""How long Snakemake takes to plan a study, and how much memory: jobs, seconds and MiB of ``snakemake -n``.

    python benchmarks/graph.py [--config config/paper.yaml] [--times 1 9] [--made] [--repeats 3] [--checkout FOLDER ...]

Each study is the config with every list of seeds made ``times`` as long, planned in a copy of the workflow: with
nothing made, and with --made also where every result stands with Snakemake's record of it, which it then compares. The
results are empty files, and the records are written by Snakemake's own code, called from within. Several checkouts
(another commit, unpacked elsewhere) are measured in turn, so that all share what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("Snakefile", "config.yaml", "workflow", "src", "envs", "reference", "profiles")
STUDY = "study.yaml"
EMPTY, MADE = "nothing made", "everything made"


@dataclass(frozen=True)
class Spent:
    """What a process took: seconds on the clock, of a processor, and its peak of memory in MiB."""

    wall: float
    cpu: float
    memory: float


def main(argv: Sequence[str]) -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--config", default="config/paper.yaml", help="in each of the checkouts")
    arguments.add_argument("--times", type=int, nargs="+", default=[1, 9], help="length of the lists of seeds")
    arguments.add_argument("--made", action="store_true", help="also where everything is made")
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--checkout", type=Path, nargs="+", default=[ROOT])
    options = arguments.parse_args(argv)
    print("| checkout | state | jobs | seconds | of a processor | ms per job | peak, MiB |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for times in options.times:
        with TemporaryDirectory() as folder:
            copies = [
                copied(source, Path(folder, str(place)), longer(settings_of(source / options.config), times))
                for place, source in enumerate(options.checkout)
            ]
            jobs = [jobs_of(snakemake(copy, "--dry-run")[0]) for copy in copies]
            for state in (EMPTY, MADE)[: 1 + options.made]:
                if state == MADE:
                    for copy in copies:
                        make(copy)
                # In turn, not one checkout after another: what else runs on the machine changes with time.
                runs = [[snakemake(copy, "--dry-run")[1] for copy in copies] for _ in range(options.repeats)]
                for source, count, spent in zip(options.checkout, jobs, zip(*runs, strict=True), strict=True):
                    print(row(source.resolve().name, state, count, spent), flush=True)
    return 0


def settings_of(config: Path) -> Any:
    return yaml.safe_load(config.read_text(encoding="utf-8"))


def longer(study: Any, times: int) -> Any:
    """The settings with every list of seeds ``times`` as long: each seed is followed by new ones."""
    if isinstance(study, dict):
        return {key: seeds(inner, times) if key == "seeds" else longer(inner, times) for key, inner in study.items()}
    return [longer(inner, times) for inner in study] if isinstance(study, list) else study


def seeds(own: Sequence[int], times: int) -> list[int]:
    return [seed * times + more for seed in own for more in range(times)]


def copied(source: Path, folder: Path, study: Any) -> Path:
    """The workflow's files of a checkout, with a study; never its results."""
    folder.mkdir()
    for name in SOURCES:
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source / name, folder / name)
    (folder / STUDY).write_text(yaml.safe_dump(study), encoding="utf-8")
    return folder


def snakemake(folder: Path, *options: str) -> tuple[str, Spent]:
    """What Snakemake prints, and what that took."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", STUDY, *options]
    # The workflow finds the package in its own folder.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with TemporaryFile("w+", encoding="utf-8") as printed:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=printed, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        text = printed.read()
    if process.returncode != 0:
        raise SystemExit(text)
    return text, Spent(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def jobs_of(printed: str) -> int:
    """How many jobs a dry run would run."""
    found = re.search(r"^total +(\d+)$", printed, flags=re.MULTILINE)
    return int(found[1]) if found else 0


def make(folder: Path) -> None:
    """Give every job its outputs, without content, and Snakemake's record that it made them."""
    done = subprocess.run([sys.executable, "-c", ADOPT], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    for path in (folder / "results").rglob("*"):
        os.utime(path, (0, 0))
    if jobs := jobs_of(snakemake(folder, "--dry-run")[0]):
        raise SystemExit(f"{jobs} of the jobs in {folder} were not made")


# `snakemake --touch` does the same in 0.1 s per job. What is called here is internal and may change with the version.
ADOPT = f"""
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

with SnakemakeApi(OutputSettings(dryrun=True, quiet={{Quietness.ALL}})) as api:
    settings = dict(resource_settings=ResourceSettings(cores=1), snakefile=Path("Snakefile"))
    study = api.workflow(config_settings=ConfigSettings(configfiles=[Path("{STUDY}")]), **settings)
    study.dag(DAGSettings(max_checksum_file_size=10**10)).execute_workflow(executor="dryrun")
    workflow = study._workflow
    jobs = [job for job in workflow.dag.jobs if job.output]
    for path in (Path(path) for job in jobs for path in job.output):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    async def record():
        for job in jobs:
            await workflow.persistence.finished(job)

    workflow.async_run(record())
"""


def row(name: str, state: str, jobs: int, runs: Sequence[Spent]) -> str:
    """A line of the table, of medians."""
    wall, cpu, memory = (statistics.median(getattr(run, part) for run in runs) for part in ("wall", "cpu", "memory"))
    return f"| {name} | {state} | {jobs} | {wall:.1f} | {cpu:.1f} | {1000 * cpu / jobs:.2f} | {memory:.0f} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
