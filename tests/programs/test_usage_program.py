"""workflow/scripts/usage.py: what run cards say, added up, and the resources to ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from loading import program

from poisonlab.errors import DataError
from poisonlab.files import write_sealed

usage = program("usage")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "study.yaml"
    study = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return str(path)


def card(path: str, seconds: float, host: int, device: int | None = None, name: str = "A40", threads: int = 1) -> None:
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    told = {"seconds": seconds, "peak_host_mib": host, "peak_device_mib": device, "device": name, "threads": threads}
    write_sealed(place, told)


def printed(capsys: pytest.CaptureFixture[str], config: str) -> str:
    usage.main(["--configfile", config])
    return capsys.readouterr().out


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_jobs_are_added_up_by_rule_and_device(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    study = yaml.safe_load(Path(config).read_text(encoding="utf-8"))["study"]
    card(f"results/victims/{study}/a/none/seed0.card.json", 600, 1000, 2000)
    card(f"results/victims/{study}/a/none/seed1.card.json", 1200, 1500, 1900)
    card(f"results/victims/{study}/a/d/seed1.card.json", 3600, 1200, 100)
    card(f"results/victims/{study}/a/e/seed1.card.json", 60, 700, None, "EPYC", 2)
    card(f"results/poisons/{study}/a/seed1.card.json", 6, 333, None, "EPYC")
    card("results/victims/another/a/e/seed1.card.json", 9e9, 9_000_000)
    text = printed(capsys, config)
    assert rows(text) == [
        ["craft", "EPYC, 1 thread", "1", "0.00", "0.1", "0.1", "333", "–"],
        ["train", "A40, 1 thread", "3", "1.50", "20.0", "60.0", "1,500", "2,000"],
        ["train", "EPYC, 2 threads", "1", "0.02", "1.0", "1.0", "700", "–"],
    ]
    assert yaml.safe_load(text.partition("\n\n")[2]) == {
        # 333 times 1.5 is 499.5, 1500 times 1.5 is 2250.
        "set-resources": {
            "craft": {"runtime": 10, "mem_mb": "500 * attempt"},
            "train": {"runtime": 120, "mem_mb": "2300 * attempt"},
        }
    }


def test_without_cards_there_is_nothing_to_say(config: str) -> None:
    with pytest.raises(DataError, match=r"no run cards of .* below results/: run some of it first"):
        usage.main(["--configfile", config])


@pytest.mark.parametrize("content", [{}, {"seconds": "long", "device": "x", "threads": 1}, {"device": 3}])
def test_a_card_that_is_none_is_named(config: str, content: dict[str, object]) -> None:
    study = yaml.safe_load(Path(config).read_text(encoding="utf-8"))["study"]
    path = Path(f"results/noise/{study}/a/d/seed0.card.json")
    write_sealed(path, content)
    with pytest.raises(DataError, match=r"seed0\.card\.json is no run card: delete it"):
        usage.main(["--configfile", config])


def test_every_rule_that_writes_a_card_is_known() -> None:
    """The folders that names.smk gives the results of rules with a card, and their rules."""
    found = set()
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        for block in file.read_text(encoding="utf-8").split("\nrule ")[1:]:
            if "card=f" in block:
                found.add(block.partition(":")[0])
    assert found == set(usage.RULES.values())
