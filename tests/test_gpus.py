"""Which GPUs a job may use, and that no GPU ever has more jobs than allowed: with a stand-in for nvidia-smi."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import REPOSITORY, check_out

from poisonlab.errors import PoisonlabError
from poisonlab.runtime.gpus import hold_gpu, visible_gpus

TWO = """\
GPU 0: NVIDIA A40 (UUID: GPU-aaaa-1)
GPU 1: NVIDIA A40 (UUID: GPU-abbb-2)
"""
DIVIDED = """\
GPU 0: NVIDIA H200 (UUID: GPU-aaaa-1)
  MIG 1g.18gb     Device  0: (UUID: MIG-1)
  MIG 1g.18gb     Device  1: (UUID: MIG-2)
GPU 1: NVIDIA H200 (UUID: GPU-abbb-2)
"""
TINY = REPOSITORY / "tests/workflow/tiny.yaml"
HOLD = (
    "import sys, os, tempfile, time; from poisonlab.runtime.gpus import hold_gpu; "
    "tempfile.tempdir = sys.argv[2]; hold_gpu(int(sys.argv[1])); "
    "print(os.environ['CUDA_VISIBLE_DEVICES'], time.monotonic(), flush=True); "
    "time.sleep(float(sys.argv[3])); print(time.monotonic(), flush=True)"
)

Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a program named nvidia-smi before all others, which lists what it is given."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("POISONLAB_GPU_HERE", raising=False)

    def installed(listing: str) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n[ \"$1\" = -L ] || exit 1\ncat <<'END'\n{listing}END\n", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return installed


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, ["GPU-aaaa-1", "GPU-abbb-2"]),
        ("", []),
        ("-1", []),
        ("1", ["GPU-abbb-2"]),
        ("1,0", ["GPU-abbb-2", "GPU-aaaa-1"]),
        ("1, GPU-aaaa", ["GPU-abbb-2", "GPU-aaaa-1"]),
        # As CUDA does: nothing after the first unknown or ambiguous name.
        ("0,7,1", ["GPU-aaaa-1"]),
        ("GPU-a", []),
    ],
)
def test_visible_gpus_are_those_that_cuda_shows(install: Install, visible: str | None, expected: list[str]) -> None:
    install(TWO)
    assert visible_gpus({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == expected


def test_slices_stand_for_a_divided_gpu(install: Install) -> None:
    install(DIVIDED)
    assert visible_gpus({}) == ["MIG-1", "MIG-2", "GPU-abbb-2"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0"}) == ["MIG-1", "MIG-2"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "MIG-2"}) == ["MIG-2"]


def test_no_gpus_without_the_program_or_a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus({}) == []
    broken = tmp_path / "nvidia-smi"
    broken.write_text("#!/bin/sh\necho failed to talk to the driver\nexit 9\n", encoding="utf-8")
    broken.chmod(0o755)
    assert visible_gpus({}) == []


class Holders:
    """Processes that hold a GPU for some time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []

    def start(self, jobs_per_gpu: int, seconds: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(jobs_per_gpu), str(self.folder), str(seconds)]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.running.append(process)
        return process

    @staticmethod
    def gpu(process: subprocess.Popen[str]) -> str:
        """What it holds; waits until it does."""
        assert process.stdout is not None
        return process.stdout.readline().split()[0]


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[Holders]:
    found = Holders(tmp_path)
    yield found
    for process in found.running:
        process.kill()
        process.wait()


@pytest.mark.parametrize("jobs_per_gpu", [1, 2])
def test_no_gpu_has_more_jobs_than_allowed(install: Install, holders: Holders, jobs_per_gpu: int) -> None:
    install(TWO)
    for _ in range(7):
        holders.start(jobs_per_gpu, 0.3)
    spans = []
    for process in holders.running:
        output, _ = process.communicate(timeout=60)
        gpu, begin, end = output.split()
        spans.append((gpu, float(begin), float(end)))
    assert {gpu for gpu, _, _ in spans} == {"GPU-aaaa-1", "GPU-abbb-2"}
    for _, moment, _ in spans:
        busy = Counter(gpu for gpu, begin, end in spans if begin <= moment < end)
        assert max(busy.values()) <= jobs_per_gpu


def test_jobs_spread_before_they_share(install: Install, holders: Holders) -> None:
    install(TWO)
    assert Counter(holders.gpu(holders.start(2, 60)) for _ in range(4)) == {"GPU-aaaa-1": 2, "GPU-abbb-2": 2}


def test_a_job_takes_the_gpu_with_the_fewest_jobs_whichever_ended(install: Install, holders: Holders) -> None:
    install(TWO)
    jobs: dict[str, list[subprocess.Popen[str]]] = {"GPU-aaaa-1": [], "GPU-abbb-2": []}
    for _ in range(6):
        job = holders.start(3, 60)
        jobs[holders.gpu(job)].append(job)
    # Two are left on the first GPU, one on the second.
    for job in (jobs["GPU-aaaa-1"][0], *jobs["GPU-abbb-2"][1:]):
        job.kill()
        job.wait()
    assert holders.gpu(holders.start(3, 60)) == "GPU-abbb-2"


def test_jobs_of_a_study_that_puts_more_on_a_gpu_count(install: Install, holders: Holders) -> None:
    install(TWO.splitlines(keepends=True)[0])
    first, second = [(job := holders.start(2, 60), holders.gpu(job))[0] for _ in range(2)]
    first.kill()
    first.wait()
    waiting = holders.start(1, 0)
    time.sleep(1.5)
    assert waiting.poll() is None
    second.kill()
    assert holders.gpu(waiting) == "GPU-aaaa-1"


def test_a_killed_job_leaves_its_gpu(install: Install, holders: Holders) -> None:
    install(TWO)
    first, second = holders.start(1, 60), holders.start(1, 60)
    taken = [holders.gpu(first), holders.gpu(second)]
    waiting = holders.start(1, 0)
    time.sleep(0.5)
    assert waiting.poll() is None
    first.send_signal(signal.SIGKILL)
    assert holders.gpu(waiting) == taken[0]


def test_locks_in_a_folder_of_somebody_else_are_one_line(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(TWO)
    (tmp_path / "own").mkdir()
    (tmp_path / f"poisonlab-gpus-{os.getuid()}").symlink_to(tmp_path / "own")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(PoisonlabError, match="belongs to somebody else: remove it or set TMPDIR"):
        hold_gpu(1)


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), 6),
        (("--resources", "mem_mb=1000"), 6),
        (("--resources", "gpu=100"), 6),
        (("--resources", "gpu=2"), 2),
        (("--workflow-profile", "none"), 6),
        # A cluster has GPUs of its own.
        (("--workflow-profile", "profiles/slurm"), 100),
    ],
    ids=["profile", "other resources", "more on the command line", "less on the command line", "no profile", "slurm"],
)
def test_jobs_at_a_time_are_what_the_gpus_have_room_for(
    install: Install, tmp_path: Path, arguments: tuple[str, ...], expected: int
) -> None:
    install(TWO)
    assert limit(tmp_path, *arguments, device="auto", jobs_per_gpu=3) == expected


@pytest.mark.workflow
def test_one_at_a_time_where_the_gpus_are_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AMD's GPUs, or none yet: `cuda` is taken by its word."""
    monkeypatch.delenv("POISONLAB_GPU_HERE", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert limit(tmp_path, device="cuda") == 1


def limit(folder: Path, *arguments: str, **settings: object) -> int:
    """How many GPU jobs Snakemake would run at a time."""
    checkout = check_out(folder / "study", TINY)
    checkout.change_study(lambda study: study.update(settings))
    checkout.append("Snakefile", "\n\nprint('limit', workflow.global_resources['gpu'].value)\n")
    outcome = checkout.snakemake("pretrained", "-n", "--cores", "4", *arguments)
    assert outcome.code == 0, outcome.output
    assert "gpu=1" in outcome.output
    (found,) = {line.split()[1] for line in outcome.output.splitlines() if line.startswith("limit")}
    return int(found)
