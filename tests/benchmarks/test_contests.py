"""Every benchmark at a tiny scale: both ways run, and agree where they compute the same."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import bench
import pytest
import torch
import yaml
from contest import Contest, measure
from harness import warm_environment
from jobs import ROOT, Jobs, Spent, covered, jobs_table, measure_jobs, spend
from peaks import peaks, roofline
from ratios import read

# Bernoulli's sign magnifies rounding; differences are in bfloat16.
TOLERANCE = {"friendly noise": 1e-3, "differences against": 0.02}


@pytest.mark.parametrize("name", bench.CONTESTS["tiny"])
def test_both_ways_agree(name: str, device: torch.device) -> None:
    contest = bench.CONTESTS["tiny"][name](device)
    tolerance = next((value for part, value in TOLERANCE.items() if part in name), 1e-4)
    assert contest.difference(contest.reference(), contest.ours()) <= tolerance


def test_every_program_has_a_place_in_the_one_command() -> None:
    for program in bench.PROGRAMS:
        for scale in program.CONTESTS:
            assert program.CONTESTS[scale].items() <= bench.CONTESTS[scale].items()
    assert sum(len(program.CONTESTS["small"]) for program in bench.PROGRAMS) == len(bench.CONTESTS["small"])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded, numbers = tmp_path / "ratios.json", tmp_path / "numbers.json"
    options = ["--device", "cpu", "--scale", "tiny", "--only", "preparing", "--repeats", "1"]
    options += ["--no-memory", "--ratios", str(recorded), "--json", str(numbers)]
    assert bench.main([*options, "--record"]) == 0
    printed = capsys.readouterr().out
    assert "| preparing a batch of 8 |" in printed
    assert "GB/s | copy |" in printed
    told = json.loads(numbers.read_text(encoding="utf-8"))
    assert told["peaks"]["flops"]["bfloat16"] > 0
    assert told["jobs"] is None
    (ratio,) = read(recorded, told["machine"]["name"], "tiny").values()
    assert ratio.ratio == pytest.approx(told["results"][0]["ratio"], abs=1e-3)
    changed = json.loads(recorded.read_text(encoding="utf-8"))
    changed[told["machine"]["name"]]["tiny"]["preparing a batch of 8"] = {"ratio": 1e6, "low": 1e6, "high": 1e6}
    recorded.write_text(json.dumps(changed), encoding="utf-8")
    assert bench.main(options) == 1


@pytest.mark.parametrize("on_cpu", [False, True])
def test_a_gpu_s_memory_is_measured_in_the_timed_calls(on_cpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    stand_in = {
        "synchronize": lambda device: None,
        "reset_peak_memory_stats": lambda device: None,
        "memory_allocated": lambda device: 2**20,
        "max_memory_allocated": lambda device: 2**20 * (1 + len(calls)),
    }
    for name, value in stand_in.items():
        monkeypatch.setattr(torch.cuda, name, value)
    reference, ours = (lambda way=way: calls.append(way) for way in ("reference", "ours"))
    contest = Contest(reference, ours, lambda first, second: 0.0, "call", reference_on_cpu=on_cpu)
    found = measure(lambda device: contest, "two ways", argparse.Namespace(device="cuda", repeats=2))
    assert calls == ["reference", "ours"] * 2
    assert (found.reference_mib, found.ours_mib) == (None if on_cpu else 3, 4)


def test_peaks_and_shares_of_them() -> None:
    found = peaks(torch.device("cpu"), side=64, mib=1)
    assert set(found.flops) == {"float32", "bfloat16"}
    assert found.traffic > 0
    assert roofline([], found) == ""


def test_nested_operators_count_once() -> None:
    assert covered([]) == 0
    assert covered([(0, 10, 1), (2, 5, 1), (8, 12, 1), (20, 21, 1), (3, 6, 2)]) == 12 + 1 + 3


def test_phases_add_up_to_the_job() -> None:
    jobs = Jobs(
        epochs=10,
        interpreter=Spent(0.1, 0.1),
        start=Spent(2, 2),
        single=Spent(3, 3),
        whole=Spent(12, 12),
        in_loop=0.9,
        kernels=(0.75,),
        one_after_another=(24,),
        at_once=(15,),
    )
    assert jobs.kept == (0.8,)
    lines = {row.split(" | ")[0].strip("| "): row for row in jobs_table(jobs).splitlines()}
    assert "1.90 s" in lines["imports and exit"]
    assert "0.00 s" in lines["dataset, poisons, outputs"]
    assert "10.00 s" in lines["10 epochs"]
    assert "a loss of 20%" in jobs_table(jobs)


BUSY = "import time\nwhile time.process_time() < 0.3: pass"


def test_processes_at_once_add_up_their_processor_time_and_one_that_fails_is_told_of() -> None:
    idle, busy, failed = ([sys.executable, "-S", "-c", code] for code in ("pass", BUSY, "raise SystemExit('why')"))
    assert spend([idle]).cpu < 0.3 <= spend([busy]).cpu < 0.6 <= spend([busy, busy]).cpu
    assert spend([busy]).wall >= 0.3
    with pytest.raises(RuntimeError, match="a job failed: why"):
        spend([idle, failed])


@pytest.mark.workflow
def test_jobs_of_a_tiny_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    config["dataset"] |= {"train_size": 100, "test_size": 100}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    # Forks of a process that has torch loaded: their processor time is not counted, but they run.
    python = Path(warm_environment(tmp_path / "environment")).with_name("python")
    monkeypatch.setattr(sys, "executable", str(python))
    jobs = measure_jobs(1, path, epochs=2)
    assert jobs.epochs == 2
    assert jobs.in_loop < 1
    assert max(jobs.kernels) < 1
    assert jobs.kept[0] > 0.3
