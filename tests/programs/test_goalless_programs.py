"""An attack without a goal and a victim that stops early, through the programs of every stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from loading import program

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.keep_list import load_keep_list
from poisonlab.artifacts.noise import load_noise
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.models.small_resnet import SmallResNet
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.training_set import held_out
from poisonlab.errors import SettingsError
from poisonlab.files import read_sealed
from poisonlab.models.networks import build_network, build_normalize, load_weights
from poisonlab.models.outputs import accuracy
from poisonlab.provenance import spec
from poisonlab.training.outcome import CLEAN_VALIDATION

MODEL = SmallResNet(width=4, stem_stride=4).model_dump()
STILL = Augmentation(kind="none")
RECIPE = Recipe(epochs=4, batch_size=25, lr=0.05, augmentation=STILL, evaluate_every=2, milestones=())
EARLY = {"method": "early-stopping", "patience": 1}
L2 = {"method": "l2-centroid", "fraction": 0.2}
FRIENDLY = {"method": "friendly-noise", "steps": 2, "lr": 50, "lam": 3, "zeta": 16, "def_epoch": 1}


def run(name: str, settings: dict[str, Any], *arguments: str | Path) -> None:
    given = [] if name == "dataset" else ["--device", "cpu"]
    program(name).main([*("--spec", *spec(**settings)), *given, *map(str, arguments)])


class Study:
    """Outputs of the programs in one folder, with or without images that are set apart."""

    def __init__(self, folder: Path, validation: dict[str, Any] | None) -> None:
        self.folder = folder
        source: dict[str, Any] = {"source": "digits-on-photos", "train_size": 100, "test_size": 20, "size": 16}
        if validation is not None:
            source["validation"] = validation
        run("dataset", {"dataset": source}, "--dataset", folder / "data")
        attack = {"name": "r", "method": "regions", "regions": 4}
        outputs = [part for kind in ("poisons", "card", "checkpoint") for part in (f"--{kind}", folder / kind)]
        run("craft", {"attack": attack, "seed": 1}, "--dataset", folder / "data", *outputs)
        self.inputs = ("--dataset", folder / "data", "--poisons", folder / "poisons")

    def victim(self, defenses: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "model": MODEL,
            "recipe": RECIPE.model_dump(mode="json", exclude={"base"}),
            "start": {"scenario": "from-scratch"},
            "defenses": defenses,
            "seed": 1,
        }

    def train(self, name: str, *defenses: dict[str, Any], more: tuple[Any, ...] = (), **changes: Any) -> dict[str, Any]:
        who = {"attack": "r", "victim": "v", "defense": name, "poisoned": True, "low_loss": 0.5}
        kinds = ("weights", "metrics", "card", "checkpoint")
        outputs = [part for kind in kinds for part in (f"--{kind}", self.folder / f"{name}.{kind}")]
        run("train", {**who, **self.victim(list(defenses)), **changes}, *self.inputs, *outputs, *more)
        metrics: dict[str, Any] = read_sealed(self.folder / f"{name}.metrics")
        return metrics


def test_the_outcome_of_an_attack_without_a_goal_is_in_the_history(tmp_path: Path) -> None:
    study = Study(tmp_path, None)
    poisons = PoisonSet.load(tmp_path / "poisons")
    assert poisons.goal is None
    assert poisons.indices.tolist() == list(range(100))
    metrics = study.train("none", low_loss=1e9)
    assert [metrics[key] for key in ("attack", "victim", "defense", "seed", "targets")] == ["r", "v", "none", 1, None]
    history = metrics["history"]
    assert ["accuracy" in record for record in history] == [False, True, False, True]
    peak = max(history[1]["accuracy"], history[3]["accuracy"])
    assert metrics["measures"] == {
        "accuracy": history[3]["accuracy"],
        "peak_accuracy": peak,
        "peak_epoch": 2 if history[1]["accuracy"] == peak else 4,
        "first_epoch": 1,
    }
    assert metrics["examples"] == {"poisons_dropped": 0, "poisons_kept": 100, "clean_dropped": 0, "clean_kept": 0}
    assert "first_epoch" not in study.train("slow", low_loss=1e-9)["measures"]
    with pytest.raises(SettingsError, match=r"low_loss: .* has no goal"):
        study.train("unknown", low_loss=None)


@pytest.mark.parametrize("poisoned", [False, True])
def test_a_victim_stops_early(tmp_path: Path, poisoned: bool) -> None:
    study = Study(tmp_path, {"share": 0.2, "poisoned": poisoned})
    data, poisons = read_dataset(tmp_path / "data"), PoisonSet.load(tmp_path / "poisons")
    assert len(poisons.indices) == (100 if poisoned else 80)
    assert data.validation is not None
    apart = held_out(data.train_labels, data.validation)
    assert not poisoned or bool(torch.isin(apart, poisons.indices).all())
    assert poisoned or not bool(torch.isin(apart, poisons.indices).any())
    metrics = study.train("early", EARLY)
    history, measures = metrics["history"], metrics["measures"]
    accuracies = [record["validation_accuracy"] for record in history]
    assert history[0]["examples"] == history[0]["poisons"] == 80
    assert measures["stopped_epoch"] == len(history)
    assert measures["best_epoch"] == accuracies.index(max(accuracies)) + 1
    # Measured on the weights that are kept, which need not be the last.
    assert {"accuracy", "peak_accuracy", "stopped_clean"} <= measures.keys()
    assert ("stopped_poisoned" in measures) == poisoned
    assert all((CLEAN_VALIDATION in record) == poisoned for record in history)
    if poisoned:
        model = build_network(SmallResNet(width=4, stem_stride=4), data, seed=0)
        load_weights(tmp_path / "early.weights", model)
        clean = accuracy(model, build_normalize(data), data.train_images[apart], data.train_labels[apart])
        assert clean == history[int(measures["best_epoch"]) - 1][CLEAN_VALIDATION]
    assert metrics["examples"]["poisons_kept"] == 80


def test_filters_and_noise_leave_out_what_is_set_apart(tmp_path: Path) -> None:
    study = Study(tmp_path, {"per_class": 2, "poisoned": True})
    study.train("none")
    keep = ("--network", tmp_path / "none.weights", "--keep", tmp_path / "keep", "--card", tmp_path / "keep.card")
    look = {"model": MODEL, "start": {"scenario": "from-scratch"}, "filters": [L2], "seed": 1}
    run("filter", look, *study.inputs, *keep)
    assert len(load_keep_list(tmp_path / "keep", 80)) == 80
    made = ("--noise", tmp_path / "noise", "--card", tmp_path / "noise.card", "--checkpoint", tmp_path / "noise.state")
    filtered = ("--keep", tmp_path / "keep")
    run("noise", study.victim([FRIENDLY, EARLY]), *study.inputs, *made, *filtered)
    noise = load_noise(tmp_path / "noise")
    assert noise.shape == (100, 3, 16, 16)
    data = read_dataset(tmp_path / "data")
    assert data.validation is not None
    apart = held_out(data.train_labels, data.validation)
    assert float(noise[apart].abs().max()) == 0
    metrics = study.train(
        "friends", {"method": "friendly-noise", "def_epoch": 1}, EARLY, more=("--noise", tmp_path / "noise", *filtered)
    )
    kept = int(load_keep_list(tmp_path / "keep", 80).sum())
    assert metrics["examples"] == {
        "poisons_dropped": 80 - kept,
        "poisons_kept": kept,
        "clean_dropped": 0,
        "clean_kept": 0,
    }


def test_early_stopping_without_validation_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"needs a validation set.*dataset\.validation") as caught:
        Study(tmp_path, None).train("early", EARLY)
    assert "\n" not in str(caught.value)
