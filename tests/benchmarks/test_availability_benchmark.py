"""The benchmark of availability attacks' rates, on small networks and few images."""

from __future__ import annotations

import json
from pathlib import Path

import availability
import pytest

from poisonlab.config.merging import merged_config
from poisonlab.config.study import read_study

SMOKE = "config/learned-faster-smoke.yaml"


def test_it_prints_a_rate_for_each_attack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = tmp_path / "numbers.json"
    options = ["--configfile", SMOKE, "--images", "12", "--steps", "2", "--repeats", "2", "--json", str(numbers)]
    availability.main([*options, "--attacks", "p100", "fcsd", "su", "cu"])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line[0] for line in lines[2:]] == ["| p100", "| fcsd", "| su", "| cu"]
    rates = json.loads(numbers.read_text(encoding="utf-8"))["rates"]
    assert [(rate["surrogate"], len(rate["rates"])) for rate in rates] == [
        *(("clean50", 2), ("clean18", 2)),
        *(("along", 2), ("along", 2)),
    ]
    assert all(value > 0 for rate in rates for value in rate["rates"])


def test_attacks_that_differ_in_steps_alone_are_measured_once() -> None:
    study = read_study(merged_config(["config/learned-faster-mini.yaml"], []))
    names = [attack.name for attack in availability.chosen(study, None)]
    assert names == ["p10", "p250", "m10", "fc", "fcs", "fcsd", "su", "cu"]


def test_the_steps_are_as_many_as_asked_for() -> None:
    study = read_study(merged_config([SMOKE], []))
    short = {attack.name: availability.short(attack, 3) for attack in study.attacks}
    assert {short[name].steps for name in ("p250", "m100", "fc")} == {3}  # type: ignore[attr-defined]
    assert (short["su"].steps_each, short["cu"].steps_each, short["su"].rounds) == (3, 3, 1)  # type: ignore[attr-defined]
