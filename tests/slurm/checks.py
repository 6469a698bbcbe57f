"""A small study through ``profiles/slurm``, on the cluster that run.py has started.

The node's GPU is none: jobs ask for it because the submitting machine has a program named ``nvidia-smi``, get it from
Slurm, find that torch sees no GPU, and compute on the CPU.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster import queue
from harness import REPOSITORY, STUDY, Checkout, Outcome, check_out, environment

HERE = Path(__file__).parent
# What is seldom worth less than a minute on a real cluster.
IN_A_HURRY = ("--slurm-init-seconds-before-status-checks", "3", "--seconds-between-status-checks", "3")
# Without an accounting database there is no sacct.
SLURM = ("--workflow-profile", "profiles/slurm", "--slurm-status-command", "squeue", *IN_A_HURRY)

ON_A_GPU = {
    "pretrain",
    "craft",
    "filter",
    "noise",
    "train",
    "detect",
    "landscape_poison",
    "landscape_victims",
    "output_std",
    "feature_view",
}
RESULTS = ("*.safetensors", "*.metrics.json", "*.npz")
VICTIM = "results/victims/slurm/strong/scratch/none/seed0"
CHECKPOINT = "results/checkpoints/slurm/train/strong/scratch/none/0.safetensors"


@dataclass(frozen=True)
class Job:
    """What Slurm remembers of a job."""

    number: int
    rule: str
    state: str
    gpu: bool
    start: str
    end: str


def remembered() -> list[Job]:
    """All jobs that Slurm has had, in order of submission."""
    listed = subprocess.run(["scontrol", "-o", "show", "jobs"], capture_output=True, text=True, check=True).stdout
    jobs = []
    for line in listed.splitlines():
        facts = dict(re.findall(r"(\S+?)=(\S*)", line))
        if "JobId" in facts:
            rule = re.match(r"rule_(.*?)(?:_wildcards_|$)", facts["Comment"])
            assert rule is not None, facts["Comment"]
            gpu = facts.get("TresPerJob", "") in ("gres:gpu:1", "gres/gpu:1")
            jobs.append(Job(int(facts["JobId"]), rule[1], facts["JobState"], gpu, facts["StartTime"], facts["EndTime"]))
    return sorted(jobs, key=lambda job: job.number)


def submit(study: Checkout, *targets: str) -> Outcome:
    return study.snakemake(*targets, *SLURM, timeout=1800)


@pytest.fixture(scope="session", autouse=True)
def looks_like_a_gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: none (UUID: GPU-none)'\n", encoding="utf-8")
    program.chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}:{before}"
    yield
    os.environ["PATH"] = before


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The study computed without Slurm."""
    study = check_out(tmp_path_factory.mktemp("local") / "study", HERE / STUDY)
    outcome = study.snakemake("--cores", "2")
    assert outcome.code == 0, outcome.output
    return study


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The study computed by Slurm; what Snakemake said is in ``output.txt``, what Slurm remembers in ``jobs``."""
    # Folder names with a space reach sbatch, srun and the node's shell.
    study = check_out(tmp_path_factory.mktemp("through slurm") / "study", HERE / STUDY)
    outcome = submit(study)
    (study.path / "output.txt").write_text(outcome.output, encoding="utf-8")
    assert outcome.code == 0, outcome.output
    return study


@pytest.fixture(scope="module")
def jobs(submitted: Checkout) -> list[Job]:
    return remembered()


def ran(output: str) -> tuple[Counter[str], Counter[str]]:
    """Jobs that Snakemake ran: how many of each rule it submitted, and how many it ran itself."""
    blocks = re.findall(r"^(local)?rule (\w+):$", output, flags=re.MULTILINE)
    return tuple(Counter(rule for here, rule in blocks if bool(here) == local) for local in (False, True))  # type: ignore[return-value]


def every_file(study: Checkout) -> set[str]:
    """All results, logs included."""
    return {str(path.relative_to(study.path)) for path in (study.path / "results").rglob("*.*")}


def test_slurm_ran_every_job_but_the_light_ones(submitted: Checkout, jobs: list[Job]) -> None:
    remote, here = ran((submitted.path / "output.txt").read_text(encoding="utf-8"))
    assert Counter(job.rule for job in jobs) == remote
    assert remote.keys() == {"dataset", *ON_A_GPU}
    assert here.keys() >= {"trials", "tables", "paper_table", "figure", "page"}
    assert {job.state for job in jobs} == {"COMPLETED"}


def test_a_second_run_has_nothing_to_do(submitted: Checkout, jobs: list[Job]) -> None:
    outcome = submit(submitted)
    assert outcome.code == 0, outcome.output
    assert "Nothing to be done" in outcome.output
    assert remembered() == jobs


def test_large_files_are_compared_by_content(submitted: Checkout) -> None:
    """Snakemake records checksums where it was called, by the limit of the profile."""
    record = submitted.record(f"{VICTIM}.safetensors")
    assert set(record["input_checksums"]) >= {"results/data/slurm.safetensors"}


def test_results_are_those_of_a_local_run_byte_for_byte(submitted: Checkout, local: Checkout) -> None:
    ours, theirs = submitted.files(*RESULTS), local.files(*RESULTS)
    assert len(ours) > 15
    assert ours.keys() == theirs.keys()
    assert [path for path in ours if ours[path] != theirs[path]] == []
    assert every_file(submitted) == every_file(local)


def test_gpu_jobs_had_the_one_gpu_in_turn(jobs: list[Job]) -> None:
    assert {job.rule for job in jobs if job.gpu} == ON_A_GPU
    assert {job.rule for job in jobs if not job.gpu} == {"dataset"}
    turns = sorted((job.start, job.end) for job in jobs if job.gpu)
    assert all(before[1] <= after[0] for before, after in pairwise(turns)), turns


def test_without_a_gpu_none_is_asked_for(submitted: Checkout, tmp_path: Path) -> None:
    study = submitted.copy(tmp_path / "study")
    study.change_study(lambda settings: settings.update(device="cpu"))
    before = len(remembered())
    outcome = study.snakemake(f"{VICTIM}.safetensors", "--forcerun", "train", *SLURM)
    assert outcome.code == 0, outcome.output
    assert [(job.rule, job.gpu) for job in remembered()[before:]] == [("train", False)]
    assert study.files("none/seed0.safetensors") == submitted.files("none/seed0.safetensors")


def test_short_jobs_share_a_slurm_job(submitted: Checkout, tmp_path: Path) -> None:
    """With the lines that docs/cluster.md gives for it."""
    study = submitted.copy(tmp_path / "study")
    profile = study.path / "profiles/slurm/config.yaml"
    profile.write_text(yaml.safe_dump(yaml.safe_load(profile.read_text(encoding="utf-8")) | short_jobs()))
    before = len(remembered())
    outcome = submit(study, "victims", "--forcerun", "train", "filter")
    assert outcome.code == 0, outcome.output
    finished = Counter(re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", outcome.output))
    assert (finished["train"], finished["filter"]) == (4, 1)
    assert [(job.state, job.gpu) for job in remembered()[before:]] == [("COMPLETED", True)]
    assert study.files(*RESULTS) == submitted.files(*RESULTS)


def short_jobs() -> dict[str, Any]:
    """The settings that docs/cluster.md shows below "Many short jobs"."""
    page = (REPOSITORY / "docs/cluster.md").read_text(encoding="utf-8")
    shown = re.search(r"^### Many short jobs$.*?^```yaml$(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert shown is not None
    settings: dict[str, Any] = yaml.safe_load(shown[1])
    return settings


EPOCHS = 400


@pytest.fixture(scope="module")
def long(local: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The local study with a victim that is trained for longer."""
    study = local.copy(tmp_path_factory.mktemp("long") / "study")
    study.change_study(lambda settings: settings["victims"][0]["recipe"].update(epochs=EPOCHS))
    outcome = study.snakemake(f"{VICTIM}.safetensors", "--cores", "1")
    assert outcome.code == 0, outcome.output
    return study


def saved_epoch(study: Checkout) -> int:
    """How far the saved state of the training is; 0 if there is none."""
    try:
        with (study.path / CHECKPOINT).open("rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    except FileNotFoundError:
        return 0
    return len(json.loads(json.loads(header["__metadata__"]["poisonlab"])["facts"])["history"])


def start(study: Checkout, *arguments: str) -> subprocess.Popen[str]:
    """Snakemake for the long training, in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", f"{VICTIM}.safetensors", *SLURM, *arguments, "--configfile", STUDY],
        cwd=study.path,
        env=environment(),
        stdout=(study.path / "output.txt").open("w"),
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_epoch(study: Checkout, process: subprocess.Popen[str], epoch: int) -> None:
    deadline = time.monotonic() + 300
    while saved_epoch(study) < epoch:
        assert process.poll() is None, (study.path / "output.txt").read_text(encoding="utf-8")
        assert time.monotonic() < deadline
        time.sleep(0.05)


def lowest_epoch_seen(study: Checkout, process: subprocess.Popen[str]) -> int:
    """The lowest epoch of the saved state until Snakemake ends. Of a training that began anew it would be a low one."""
    lowest = EPOCHS
    while process.poll() is None:
        lowest = min(lowest, saved_epoch(study) or EPOCHS)
        time.sleep(0.02)
    return lowest


@pytest.fixture
def unfinished(submitted: Checkout, tmp_path: Path) -> Checkout:
    """The submitted study, the long training yet to come."""
    study = submitted.copy(tmp_path / "study")
    study.change_study(lambda settings: settings["victims"][0]["recipe"].update(epochs=EPOCHS))
    return study


def test_a_killed_job_is_submitted_again_and_goes_on(unfinished: Checkout, long: Checkout) -> None:
    before = len(remembered())
    process = start(unfinished)
    wait_for_epoch(unfinished, process, 50)
    subprocess.run(["scancel", queue()[0]], check=True)
    assert lowest_epoch_seen(unfinished, process) >= 50
    assert process.returncode == 0, (unfinished.path / "output.txt").read_text(encoding="utf-8")
    assert [(job.rule, job.state) for job in remembered()[before:]] == [("train", "CANCELLED"), ("train", "COMPLETED")]
    assert unfinished.files("strong/none/seed0*.s*", "strong/none/*.metrics.json") == long.files(
        "strong/none/seed0*.s*", "strong/none/*.metrics.json"
    )


def test_an_interrupted_snakemake_leaves_no_jobs_and_goes_on(unfinished: Checkout, long: Checkout) -> None:
    process = start(unfinished)
    wait_for_epoch(unfinished, process, 50)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) != 0
    deadline = time.monotonic() + 30
    while queue():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    process = start(unfinished)
    assert lowest_epoch_seen(unfinished, process) >= 50
    assert process.returncode == 0, (unfinished.path / "output.txt").read_text(encoding="utf-8")
    assert unfinished.files("strong/none/seed0.safetensors") == long.files("strong/none/seed0.safetensors")


def test_a_job_that_fails_ends_the_run_and_shows_its_log(submitted: Checkout, tmp_path: Path) -> None:
    study = submitted.copy(tmp_path / "study")
    study.replace("workflow/scripts/train.py", "def main(", "raise SystemExit('broken on purpose')\n\n\ndef main(")
    outcome = study.snakemake(f"{VICTIM}.safetensors", *SLURM, "--retries", "0")
    assert outcome.code == 1, outcome.output
    assert "broken on purpose" in outcome.output
