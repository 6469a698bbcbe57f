"""When a benchmark's ratio counts as worse than the recorded one."""

from __future__ import annotations

import json
from pathlib import Path

import bench
import pytest
from ratios import Ratio, compare, read, record

OLD = Ratio(3.0, 2.9, 3.1)


def test_median_and_range() -> None:
    assert Ratio.of([3, 1, 1.23456]) == Ratio(1.235, 1, 3)


@pytest.mark.parametrize(
    ("new", "worse"),
    [
        (Ratio(2.0, 1.9, 2.1), True),
        (Ratio(2.8, 2.75, 2.85), False),  # apart, but by less than machines differ
        (Ratio(2.5, 2.0, 2.95), False),  # the ranges overlap
        (Ratio(4.0, 3.9, 4.1), False),
        (OLD, False),
    ],
)
def test_worse_by_more_than_the_noise(new: Ratio, worse: bool) -> None:
    assert new.worse_than(OLD) is worse


def test_only_what_was_measured_both_times_is_compared() -> None:
    comparison = compare({"a": OLD, "gone": OLD}, {"a": Ratio(1, 1, 1), "new": Ratio(1, 1, 1)})
    assert comparison.worse == ["a: 1.00 (1.00 to 1.00), was 3.00 (2.90 to 3.10)"]
    assert comparison.missing == ["new"]


def test_recording_leaves_other_devices_scales_and_contests(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    assert read(path, "cpu", "small") == {}
    record(path, "gpu", "small", {"a": OLD})
    record(path, "cpu", "cifar", {"a": OLD})
    record(path, "cpu", "small", {"a": OLD, "b": OLD})
    record(path, "cpu", "small", {"b": Ratio(1, 1, 1)})
    assert read(path, "cpu", "small") == {"a": OLD, "b": Ratio(1, 1, 1)}
    assert read(path, "gpu", "small") == read(path, "cpu", "cifar") == {"a": OLD}


def test_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, worse = tmp_path / "ratios.json", {"a": Ratio(1, 1, 1)}
    assert bench.judge(path, "cpu", "small", {"a": OLD}, recording=False) == 0
    assert "No ratios are recorded for cpu" in capsys.readouterr().out
    assert bench.judge(path, "cpu", "small", {"a": OLD}, recording=True) == 0
    assert bench.judge(path, "cpu", "small", {"a": OLD, "b": OLD}, recording=False) == 0
    assert "Not recorded before: b." in capsys.readouterr().out
    assert bench.judge(path, "cpu", "small", worse, recording=False) == 1
    assert "a: 1.00" in capsys.readouterr().out
    assert bench.judge(path, "another", "small", worse, recording=False) == 0


@pytest.mark.skipif(not bench.RECORDED.is_file(), reason="no ratios are recorded")
def test_committed_ratios_are_of_contests_that_exist() -> None:
    known = {scale: {*contests, *JOB_RATIOS} for scale, contests in bench.CONTESTS.items()}
    for device, scales in json.loads(bench.RECORDED.read_text(encoding="utf-8")).items():
        for scale in scales:
            ratios = read(bench.RECORDED, device, scale)
            assert set(ratios) <= known[scale]
            assert all(0 < ratio.low <= ratio.ratio <= ratio.high for ratio in ratios.values())


JOB_RATIOS = {"jobs: share of processor time inside torch's operators", "jobs: speed kept by two at once"}
