"""The GPU check: its record, its limits, and a rehearsal of all of it on the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gpu.bits
import gpu_check
import pytest
import torch
import yaml
from gpu.bits import bits, digest
from gpu.contracts import DEVICES, contracts
from gpu.record import REHEARSAL
from gpu.running import run_all
from gpu.section import Check, FaultError, Notes, Outcome, Section
from gpu.workflow import SMOKE, SPARED, SPARED_ABLATIONS, study_on
from harness import REPOSITORY, forked, handing, warm_environment

from poisonlab.config.study import read_study

NAMES = [section.name for section in gpu_check.SECTIONS]
Work = Callable[[Check, Notes], None]


def sections(**work: Work) -> list[Section]:
    return [Section(name, 10, each) for name, each in work.items()]


def passing(check: Check, notes: Notes) -> None:
    notes.fact("answer", 42)


def failing(check: Check, notes: Notes) -> None:
    notes.fact("before", "the fault")
    jobs = {"run.log": "starting", "jobs/a.log": "epoch 3\nValueError: why", "jobs/b.log": "epoch 3"}
    for name, text in jobs.items():
        (check.folder / name).parent.mkdir(exist_ok=True)
        (check.folder / name).write_text(text, "utf-8")
    raise FaultError("three of four | are wrong")


def breaking(check: Check, notes: Notes) -> None:
    raise RuntimeError("CUDA error:\n an illegal memory access")


def crashing(check: Check, notes: Notes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hanging(check: Check, notes: Notes) -> None:
    child = subprocess.Popen(["sleep", "60"])
    notes.fact("child", child.pid)
    child.wait()


def checked(folder: Path, *options: str, of: Sequence[Section]) -> tuple[int, dict[str, Any], str]:
    """Exit status and both files of a rehearsal with these sections."""
    code = gpu_check.main(["--rehearse", "--to", str(folder), *options], of)
    (kept,), (read,) = folder.glob("*.json"), folder.glob("*.md")
    record: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return code, record, read.read_text(encoding="utf-8")


def states(record: dict[str, Any]) -> dict[str, str]:
    return {name: section["state"] for name, section in record["sections"].items()}


@pytest.mark.workflow
def test_a_rehearsal_of_everything_on_the_cpu(tmp_path: Path) -> None:
    before = sorted(gpu_check.RECORDS.glob("*"))
    python = handing(warm_environment(tmp_path / "environment"))
    program = [sys.executable, "benchmarks/gpu_check.py", "--rehearse", "--to", str(tmp_path), "--python", python]
    done = forked("jobs", program, REPOSITORY, os.environ | {"PYTHONPATH": "src"}, 600)
    assert done.code == 0, done.output
    (kept,), (read,) = tmp_path.glob("*.json"), tmp_path.glob("*.md")
    record = json.loads(kept.read_text(encoding="utf-8"))
    assert states(record) == dict.fromkeys(NAMES, "passed")
    assert record["rehearsal"]
    assert "rehearsal" in kept.name
    assert REHEARSAL in read.read_text(encoding="utf-8")
    assert sorted(gpu_check.RECORDS.glob("*")) == before
    facts = {name: section["facts"] for name, section in record["sections"].items()}
    assert set(facts["machine"]["peaks"]["flops"]) >= {"float32", "bfloat16"}
    assert {"training", "training, captured", *gpu.bits.paths("tiny")} < set(facts["bits"])
    assert {"dataset", "pretrain", "craft", "filter", "noise", "train", "detect"} < set(facts["workflow"]["jobs"])
    assert {"landscape_poison", "landscape_victims", "output_std", "tables", "page"} < set(facts["workflow"]["jobs"])
    assert facts["workflow"]["run_cards"] > 5
    assert facts["contracts"]["passed"] > 5
    for name in ("training", "friendly-noise", "crafting", "deep-knn"):
        measured = [fact for fact in facts[name].values() if isinstance(fact, dict)]
        assert measured
        assert all(fact["ratio"] > 0 for fact in measured)


def test_what_fails_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    some = sections(failing=failing, breaking=breaking, crashing=crashing, passing=passing)
    code, record, text = checked(tmp_path, of=some)
    assert code == 1
    assert record["failed"] == ["failing", "breaking", "crashing"]
    assert states(record)["passing"] == "passed"
    found = record["sections"]
    assert found["failing"]["error"] == "three of four | are wrong"
    assert found["failing"]["facts"] == {"before": "the fault"}
    assert found["breaking"]["error"].startswith("RuntimeError: CUDA error: an illegal memory access (tests/")
    assert "exit status -9" in found["crashing"]["error"]
    assert found["passing"]["facts"] == {"answer": 42}
    assert "three of four \\| are wrong" in text
    assert "- answer: 42" in text
    (logs,) = tmp_path.glob("*.log")
    kept = "=== failing/jobs/a.log\nepoch 3\nValueError: why\n=== failing/run.log\nstarting\n"
    assert logs.read_text(encoding="utf-8") == kept


def test_a_check_that_is_killed_leaves_the_record_of_what_has_ended(tmp_path: Path) -> None:
    def reading(check: Check, notes: Notes) -> None:
        (kept,), (read,) = tmp_path.glob("*.json"), tmp_path.glob("*.md")
        record = json.loads(kept.read_text(encoding="utf-8"))
        notes.fact("then", [states(record), record["not_ended"]])
        assert "| reading | not ended |" in read.read_text(encoding="utf-8")

    code, record, text = checked(tmp_path, of=sections(passing=passing, reading=reading))
    assert code == 0
    assert record["sections"]["reading"]["facts"] == {"then": [{"passing": "passed"}, ["reading"]]}
    assert record["not_ended"] == []
    assert "not ended" not in text
    assert list(tmp_path.glob("*.log")) == []


def test_a_section_that_hangs_is_killed_at_its_limit_with_what_it_started(tmp_path: Path) -> None:
    begin = time.monotonic()
    (outcome,) = run_all([Section("hanging", 3, hanging)], check_in(tmp_path), 3)
    assert outcome.state == "failed"
    assert outcome.error == "it ran past its limit of 3 s"
    assert time.monotonic() - begin < 7
    child = outcome.notes.facts["child"]
    assert not running(int(str(child)))


def running(process: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def check_in(folder: Path) -> Check:
    return Check("cpu", True, folder, sys.executable)


def test_what_does_not_fit_is_skipped_and_never_passed(tmp_path: Path) -> None:
    some = [Section("first", 1, passing), Section("long", 100, passing), Section("last", 1, passing)]
    first, long, last = run_all(some, check_in(tmp_path), 40)
    assert (first.state, long.state, last.state) == ("passed", "skipped", "passed")
    assert long.error is not None
    assert "its share is 100" in long.error
    assert long.seconds == 0


def test_time_that_is_left_over_goes_to_the_later_ones(tmp_path: Path) -> None:
    limits = [outcome.limit for outcome in run_all(sections(one=passing, two=passing), check_in(tmp_path), 60)]
    assert limits[0] == pytest.approx(50, abs=1)
    assert 55 < limits[1] < 60


def test_shares_fill_seven_minutes() -> None:
    assert sum(section.seconds for section in gpu_check.SECTIONS) == 7 * 60


def test_one_section_alone(tmp_path: Path) -> None:
    code, record, text = checked(tmp_path, "--only", "passing", of=sections(failing=failing, passing=passing))
    assert code == 0
    assert states(record) == {"passing": "passed"}
    assert record["not_asked_for"] == ["failing"]
    assert "| failing | not asked for |" in text


def test_contracts_that_run_out_of_time_tell_what_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tests, begun = tmp_path / "test_some.py", tmp_path / "begun"
    slow = f"def test_slow(): open({str(begun)!r}, 'w').close(); time.sleep(300)"
    tests.write_text(f"import time\ndef test_fast(): pass\n{slow}\n", "utf-8")
    monkeypatch.setattr("gpu.contracts.REHEARSED", (str(tests), "--noconftest"))

    class UntilItBegan(subprocess.Popen[bytes]):
        """Time is up as soon as the slow test runs, however busy the machine is."""

        def wait(self, timeout: float | None = None) -> int:
            if timeout != 47.0:
                return super().wait(120)
            while not begun.exists() and self.poll() is None:
                time.sleep(0.05)
            raise subprocess.TimeoutExpired(self.args, timeout)

    monkeypatch.setattr("gpu.contracts.subprocess.Popen", UntilItBegan)
    notes = Notes()
    # As of a program that a shell started in the background.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(FaultError, match="interrupted after 47 s; 2 tests had passed or run"):
            contracts(Check("cpu", True, tmp_path, sys.executable, seconds=55.0), notes)
    finally:
        signal.signal(signal.SIGINT, before)
    assert notes.facts["failed"] == 0


def test_without_a_gpu_it_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(gpu_check, "asked_of_a_fork", lambda question: None)
    assert gpu_check.main([]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "CUDA has no GPU here" in printed.err


def test_a_rehearsal_needs_a_place_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--rehearse"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_record_is_named_by_date_and_gpu() -> None:
    outcome = Outcome("machine", "passed", 1, 2)
    record = gpu_check.Record("NVIDIA H100 80GB HBM3", False, "abc", 7, [outcome])
    assert record.name == f"{time.strftime('%Y-%m-%d')}-nvidia-h100-80gb-hbm3"
    assert REHEARSAL not in record.as_markdown()


# --- the sections -----------------------------------------------------------------------------------------------------


def random(device: torch.device) -> object:
    return torch.randn(3)


def warning(device: torch.device) -> object:
    warnings.warn("grid_sampler_2d_backward_cuda does not have a deterministic implementation, but", stacklevel=1)
    return torch.zeros(3)


@pytest.mark.parametrize(("path", "fault"), [(random, "other bits"), (warning, "grid_sampler_2d_backward_cuda")])
def test_other_bits_and_warnings_are_faults(
    path: gpu.bits.Path, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.bits, "paths", lambda scale: {"path": path, **trainings(1.0, 1.0)})
    with pytest.raises(FaultError, match=f"1 faults: path: .*{fault}"):
        bits(check_in(tmp_path), Notes())


def trainings(eager: float, captured: float) -> dict[str, gpu.bits.Path]:
    """Trainings that end in one weight."""
    ends = {"training": eager, "training, captured": captured}
    return {name: lambda device, end=end: [torch.tensor([end])] for name, end in ends.items()}


@pytest.mark.parametrize(("captured", "distance"), [(1.2, "0.2"), (float("nan"), "nan"), (1.001, None)])
def test_captured_steps_that_end_elsewhere_are_a_fault(
    captured: float, distance: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.bits, "paths", lambda scale: {"noisy": random, **trainings(1.0, captured)})
    faults = "1 faults: noisy" if distance is None else f"2 faults: captured .* by {distance}, .*; noisy: other bits"
    with pytest.raises(FaultError, match=faults):
        bits(check_in(tmp_path), Notes())


def test_a_digest_is_of_every_bit() -> None:
    plain = [torch.zeros(2), torch.zeros(2, dtype=torch.bool)]
    assert digest(plain) == digest([torch.zeros(2), torch.zeros(2, dtype=torch.bool)])
    for other in ([-torch.zeros(2), plain[1]], [plain[0].double(), plain[1]], [plain[0][None], plain[1]], plain[:1]):
        assert digest(other) != digest(plain)


def test_the_study_of_every_stage_is_valid_and_what_it_spares_exists() -> None:
    smoke = yaml.safe_load(SMOKE.read_text(encoding="utf-8"))
    assert {row["name"] for row in smoke["defenses"]} > SPARED
    assert {each["name"] for each in smoke["ablations"]} > SPARED_ABLATIONS
    study = read_study(study_on("cuda"))
    assert study.device == "cuda"
    assert study.jobs_per_gpu > 1
    assert all(victim.recipe.precision == "bfloat16" for victim in study.victims)
    assert read_study(study_on("cpu", tiny=True)).device == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_devices_that_are_not_there_are_one_line() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/test_errors.py"]
    done = forked("jobs", command, REPOSITORY, os.environ | {DEVICES: "cuda"}, 300)
    assert done.code != 0
    assert "there is no 'cuda' here, only cpu" in done.output
