"""workflow/scripts/estimate.py: the table, the config as Snakemake merges it, and one line for what is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from loading import program

from poisonlab.config.merging import merged_config
from poisonlab.errors import PoisonlabError

ROOT = Path(__file__).resolve().parents[2]
SMOKE = "config/smoke.yaml"

estimate = program("estimate")


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    estimate.main(arguments)
    return capsys.readouterr().out


def stages(tmp_path: Path, *arguments: str) -> dict[str, dict[str, float]]:
    estimate.main([*arguments, "--json", str(tmp_path / "estimate.json")])
    return {stage["stage"]: stage for stage in json.loads((tmp_path / "estimate.json").read_text())["stages"]}


def overlay(tmp_path: Path, name: str, content: object) -> str:
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(path)


def test_a_line_per_stage_and_where_rates_are_from(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--configfile", SMOKE)
    for name in ("pretrain", "craft gradient-matching", "noise", "train", "landscapes", "total"):
        assert f"\n| {name} " in text
    assert "benchmarks/rates.py:" in text
    assert "FRIENDS' table 1" in text


@pytest.mark.parametrize("path", sorted(path.name for path in (ROOT / "config").glob("*.yaml")))
def test_every_study_of_ours(tmp_path: Path, path: str) -> None:
    found = stages(tmp_path, "--configfile", f"config/{path}")
    assert found["total"]["pflop"] == pytest.approx(
        sum(stage["pflop"] for name, stage in found.items() if name != "total")
    )
    assert all(hours > 0 for hours in found["total"]["hours"].values())


def test_victims_stand_apart_by_what_they_cost(tmp_path: Path) -> None:
    found = stages(tmp_path, "--configfile", "config/defenses.yaml")
    assert {name: found[name]["jobs"] for name in found if name.startswith("train")} == {
        "train": 102,
        "train abl": 6,
        "train adversarial-poisoning": 18,
        "train adversarial-training": 6,
        "train dp-sgd": 6,
        "train epic": 12,
        "train strong-augmentation": 6,  # maxup; one copy of each image costs nothing
    }


def test_seeds_scale_everything_but_figures(tmp_path: Path) -> None:
    one = stages(tmp_path, "--configfile", SMOKE, "--config", "seeds=[0]")
    four = stages(tmp_path, "--configfile", SMOKE, "--config", "seeds=[0,1,2,3]")
    for name in ("pretrain", "craft gradient-matching", "noise", "train"):
        assert four[name]["pflop"] == pytest.approx(4 * one[name]["pflop"])
    assert four["landscapes"] == one["landscapes"]


def test_files_are_merged_and_laid_over_the_default_study(tmp_path: Path) -> None:
    first = overlay(tmp_path, "first", {"seeds": [3], "dataset": {"train_size": 1000}})
    second = overlay(tmp_path, "second", {"seeds": [3, 4]})
    merged = merged_config([first, second], ["threads=2"])
    assert (merged["study"], merged["seeds"], merged["threads"]) == ("digits", [3, 4], 2)
    assert merged["dataset"] == {
        **yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["dataset"],
        "train_size": 1000,
    }
    assert merged_config([SMOKE], [])["study"] == "smoke"


def test_merged_trials_are_said_not_to_be_subtracted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = overlay(tmp_path, "more", {"merge": ["trials.csv"]})
    assert "not subtracted" in printed(capsys, "--configfile", SMOKE, more)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--configfile", "none.yaml"], "none.yaml"),
        (["--config", "seeds"], "name=value"),
        (["--config", "sees=[1]"], "did you mean 'seeds'"),
        (["--configfile", SMOKE, "--rates", "none.csv"], "cannot read the rates"),
        (["--configfile", "Makefile"], "valid JSON or YAML"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: Sequence[str], what: str) -> None:
    with pytest.raises(PoisonlabError, match=what) as caught:
        estimate.main(arguments)
    assert "\n" not in str(caught.value)


def test_files_that_are_read_must_be_there(tmp_path: Path) -> None:
    smoke = yaml.safe_load((ROOT / SMOKE).read_text(encoding="utf-8"))
    study = overlay(tmp_path, "study", {**smoke, "dataset": {"source": "npz", "path": "none.npz"}})
    with pytest.raises(PoisonlabError, match=r"none\.npz"):
        estimate.main(["--configfile", study])


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.00001234, "1.23e-05"), (1.234, "1.23"), (12.0, "12.0"), (12345.6, "12,346")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert estimate.short(value) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("__use_yte__: true\nseeds: ?[open('canary', 'w').close()]\n", "__use_yte__ makes it a program"),
        ("description: !!python/object/apply:os.system [touch canary]\n", "not valid JSON or YAML"),
        ("seeds: [1]\nseeds: [2]\n", "'seeds' is given twice"),
        ("description: " + "[" * 3000 + "\n", "nested more than"),
        ("seeds: [" + "9" * 5000 + "]\n", "4300 digits"),
    ],
)
def test_a_config_from_a_stranger_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(PoisonlabError) as caught:
        estimate.main(["--configfile", "theirs.yaml"])
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "canary").exists()
