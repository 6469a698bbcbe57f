"""Mistakes of a user: each ends in a non-zero exit and one line that says what to do, never in a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from harness import Checkout, check_out

from poisonlab.config.study import read_study
from poisonlab.errors import SettingsError

pytestmark = pytest.mark.workflow

HERE = Path(__file__).parent

Change = Callable[[Any], object]


def _set(*place: str | int, to: Any) -> Change:
    def change(study: Any) -> None:
        for step in place[:-1]:
            study = study[step]
        study[place[-1]] = to

    return change


MISTAKES: dict[str, tuple[Change, list[str]]] = {
    "unknown key": (_set("attacks", 0, "epsilon", to=8), ["unknown key", "epsilon"]),
    "misspelt key": (_set("sedes", to=[1]), ["unknown key 'sedes'", "did you mean 'seeds'"]),
    "mistyped value": (_set("victims", 0, "recipe", "epochs", to="many"), ["victims.0.recipe.epochs", "many"]),
    "negative eps": (_set("attacks", 0, "eps", to=-1), ["attacks.0.eps", "greater than 0"]),
    "budget above the class": (_set("attacks", 0, "budget", to=0.5), ["budget 0.5", "class", "lower"]),
    "unknown attack": (_set("attacks", 0, "method", to="magic"), ["attacks.0.method", "gradient-matching"]),
    "unknown defense": (_set("defenses", 2, "apply", 0, "method", to="magic"), ["defenses.2.apply.0", "magic"]),
    "unknown surrogate": (_set("attacks", 0, "surrogate", to="other"), ["surrogate 'other'", "base"]),
    "unknown recipe": (_set("victims", 0, "recipe", "base", to="best"), ["unknown recipe 'best'", "friends-paper"]),
    "unknown data source": (_set("dataset", "source", to="imagenet"), ["dataset", "imagenet"]),
    "def_epoch too late": (_set("defenses", 2, "apply", 0, "def_epoch", to=9), ["def_epoch 9", "3 epochs"]),
    "no seeds": (_set("seeds", to=[]), ["seeds", "at least 1"]),
    "seed twice": (_set("seeds", to=[1, 1]), ["seeds repeats 1"]),
    "name with a slash": (_set("study", to="a/b"), ["study"]),
    "results outside": (_set("results", to="a/../../b"), ["results must not climb"]),
    "pretrained of nothing": (
        _set("victims", 0, to={"name": "v", "scenario": "transfer"}),
        ["victims.0", "needs pretrained"],
    ),
    "missing section": (lambda study: study.pop("victims"), ["'victims' is missing"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_the_config_is_one_line(mistake: str) -> None:
    change, words = MISTAKES[mistake]
    study = yaml.safe_load((HERE / "tiny.yaml").read_text(encoding="utf-8"))
    change(study)
    with pytest.raises(SettingsError, match=r"^config: ") as caught:
        read_study(study)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("mistake", ["misspelt key", "no seeds"])
def test_snakemake_says_it_in_the_same_line(mistake: str, fresh: Checkout, tmp_path: Path) -> None:
    change, words = MISTAKES[mistake]
    study = fresh.copy(tmp_path / "study")
    study.change_study(change)
    outcome = study.snakemake("-n", "--cores", "1")
    assert outcome.code != 0
    assert "Traceback" not in outcome.output
    (line,) = {line for line in outcome.output.splitlines() if "config: " in line}
    for word in words:
        assert word in line
    assert not (study.path / "results").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda study: None, ["attack 'moved': there is no file or folder of poisons at imported/seed0: check path"]),
        (
            _set("attacks", 0, "setup", to="no/such.pickle"),
            ["attack 'plain': setup: there is no file no/such.pickle: check the path"],
        ),
    ],
    ids=["folder of poisons", "setup file"],
)
def test_file_of_an_attack_that_is_missing(change: Change, words: list[str], tmp_path: Path) -> None:
    study = check_out(tmp_path / "study", HERE / "scenarios.yaml")
    study.change_study(change)
    shutil.rmtree(study.path / "imported")
    outcome = study.snakemake("-n", "--cores", "1")
    assert outcome.code != 0
    assert "Traceback" not in outcome.output
    for word in words:
        (line,) = {line for line in outcome.output.splitlines() if "there is no file" in line}
        assert word in line
    assert not (study.path / "results").exists()


def test_an_overlay_with_another_source_replaces_the_dataset(fresh: Checkout, tmp_path: Path) -> None:
    """Of the default study's digits nothing is left that the folder would not know."""
    study = fresh.copy(tmp_path / "study")
    mine = "study: mine\ndescription: Photographs.\ndataset: {source: image-folder, root: photos}\n"
    study.path.joinpath("mine.yaml").write_text(mine, encoding="utf-8")
    command = (study.python, "-m", "snakemake", "-n", "--cores", "1", "--configfile", "mine.yaml")
    for more, words in (((), "dry-run"), (("--config", "dataset={source: npz, path: a.npz}"), "a.npz")):
        outcome = study.run(*command, *more)
        assert "unknown key" not in outcome.output
        assert words in outcome.output
    outcome = study.run(*command, "--config", "dataset={contrast: 0.1}")
    assert "unknown key 'dataset.contrast' of source image-folder" in outcome.output
    assert "results/data/digits" not in outcome.output
    nameless = "dataset={source: image-folder, root: photos}"
    outcome = study.run(study.python, "-m", "snakemake", "-n", "--cores", "1", "--config", nameless)
    assert outcome.code != 0
    assert "these data would go by the name of the default study, 'digits'" in outcome.output
    assert "Traceback" not in outcome.output


def test_the_error_of_a_failed_job_stands_last_and_its_command_is_short(
    fresh: Checkout, tmp_path: Path, warm: str
) -> None:
    study = Checkout(fresh.copy(tmp_path / "study").path, warm)
    study.change_study(_set("dataset", to={"source": "npz", "path": "there.npz"}))
    (study.path / "there.npz").write_bytes(b"no archive")
    outcome = study.snakemake("--cores", "1")
    assert outcome.code != 0
    lines = outcome.output.splitlines()
    (last,) = (place for place, line in enumerate(lines) if "dataset.log: error: there.npz is" in line)
    assert last > max(place for place, line in enumerate(lines) if "Error in rule dataset" in line)
    assert "snakemake --printshellcmds shows them" in outcome.output
    assert max(map(len, lines)) < 500
    assert outcome.output.count("scripts/dataset.py") == 1


def test_dataset_file_that_is_missing(fresh: Checkout, tmp_path: Path, warm: str) -> None:
    study = Checkout(fresh.copy(tmp_path / "study").path, warm)
    study.change_study(_set("dataset", to={"source": "npz", "path": "no/such.npz"}))
    outcome = study.snakemake("--cores", "1")
    assert outcome.code != 0
    assert "Traceback" not in outcome.output
    assert "no/such.npz" in outcome.output


def test_dataset_folder_that_is_missing(fresh: Checkout, tmp_path: Path, warm: str) -> None:
    study = Checkout(fresh.copy(tmp_path / "study").path, warm)
    study.change_study(_set("dataset", to={"source": "image-folder", "root": "no/such"}))
    outcome = study.snakemake("pretrained", "--cores", "2", "--config", "seeds=[0]")
    assert outcome.code != 0
    assert "Traceback" not in outcome.output
    assert any(line.strip().startswith("error: ") and "no/such" in line for line in outcome.output.splitlines())


def test_gpu_that_is_missing(fresh: Checkout, tmp_path: Path, warm: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    study = Checkout(fresh.copy(tmp_path / "study").path, warm)
    study.change_study(_set("device", to="cuda"))
    outcome = study.snakemake("pretrained", "--cores", "2", "--config", "seeds=[0]")
    assert outcome.code != 0
    assert "Traceback" not in outcome.output
    assert "error: device: cuda is demanded but there is no usable GPU" in outcome.output
    assert not list((study.path / "results" / "surrogates").rglob("*.*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--spec", "seed"], "not of the form"),
        (["--spec", "seed=[1"], "not JSON"),
        (["--spec", "seed=-1"], "--spec"),
    ],
)
def test_stage_program_with_bad_settings(arguments: list[str], words: str, fresh: Checkout) -> None:
    outputs = ["--dataset", "d", "--checkpoint", "c", "--weights", "w", "--metrics", "m", "--card", "k"]
    outcome = fresh.script("pretrain", *arguments, *outputs)
    assert outcome.code == 2
    assert outcome.output.count("\n") == 1
    assert outcome.output.startswith("error: ")
    assert words in outcome.output


def test_output_that_cannot_be_written(finished: Checkout, tmp_path: Path) -> None:
    """The output's folder would have to be where a file is."""
    study = finished.copy(tmp_path / "study")
    (study.path / "file").touch()
    card = json.loads((study.path / "results/surrogates/real/base/seed0-0.card.json").read_text(encoding="utf-8"))
    outputs = [*("--checkpoint", "c"), *("--weights", "file/w"), *("--metrics", "file/m"), *("--card", "file/k")]
    outcome = study.script("pretrain", "--spec", *card["spec"], "--dataset", "results/data/real.safetensors", *outputs)
    assert outcome.code == 2
    assert "Traceback" not in outcome.output
    (line,) = [line for line in outcome.output.splitlines() if line.startswith("error: ")]
    assert "cannot write file/" in line
