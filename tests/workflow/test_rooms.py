"""Several victims of one attack, an attack without a goal, early stopping: rooms.yaml, really computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from harness import Checkout

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.evaluation.trials import read_trials

pytestmark = pytest.mark.workflow


def metrics(study: Checkout, attack: str, victim: str, row: str, seed: int) -> dict[str, Any]:
    path = study.path / f"results/victims/rooms/{attack}/{victim}/{row}/seed{seed}.metrics.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def table(study: Checkout) -> pd.DataFrame:
    return pd.read_csv(study.path / "results/tables/rooms.csv", keep_default_na=False, na_values=[""])


def test_second_run_has_nothing_to_do(rooms: Checkout) -> None:
    assert "Nothing to be done" in rooms.snakemake("--cores", "2").output


def test_poisons_are_crafted_once_and_meet_every_victim(rooms: Checkout) -> None:
    assert len(rooms.files("poisons/rooms/matching/*.safetensors")) == 2
    assert {Path(path).parts[4] for path in rooms.files("victims/rooms/matching/**/*.safetensors")} == {
        "small",
        "other",
    }


def test_tables_show_each_victim_and_the_mean_over_them(rooms: Checkout) -> None:
    found = table(rooms)
    rows = found[(found["attack"] == "matching") & (found["defense"] == "none")].set_index("victim")
    assert list(rows.index) == ["small", "other", "mean"]
    for measure in ("success", "accuracy"):
        both = [metrics(rooms, "matching", victim, "none", seed)["measures"][measure] for victim in ("small", "other")
                for seed in (0, 1)]  # fmt: skip
        assert rows.loc["mean", measure] == pytest.approx(sum(both) / 4)
    # An attack on one victim has no mean over victims.
    assert set(found[found["attack"] == "regions"]["victim"]) == {"small"}


def test_an_attack_without_a_goal_poisons_everything_and_is_judged_by_accuracy(rooms: Checkout) -> None:
    poisons = PoisonSet.load(rooms.path / "results/poisons/rooms/regions/seed0.safetensors")
    assert poisons.goal is None
    # But for the validation images, two of each of ten classes, which nobody can poison.
    assert len(poisons.indices) == 100
    assert poisons.labels.unique().tolist() == list(range(10))
    assert poisons.largest_change() <= 32
    found = metrics(rooms, "regions", "small", "none", 0)
    assert found["targets"] is None
    accuracies = [record["accuracy"] for record in found["history"] if "accuracy" in record]
    assert found["measures"]["peak_accuracy"] == max(accuracies)
    assert found["measures"]["accuracy"] == accuracies[-1]
    low = [record["epoch"] + 1 for record in found["history"] if record["train_loss"] < 2.2]
    assert found["measures"].get("first_epoch") == (low[0] if low else None)
    assert "success" not in found["measures"]
    row = table(rooms).set_index(["attack", "victim", "defense"]).loc[("regions", "small", "none")]
    peaks = [metrics(rooms, "regions", "small", "none", seed)["measures"]["peak_accuracy"] for seed in (0, 1)]
    assert row["peak_accuracy"] == pytest.approx(sum(peaks) / 2)


def test_early_stopping_ends_with_the_best_weights_of_the_validation_set(rooms: Checkout) -> None:
    for victim in ("small", "other"):
        found = metrics(rooms, "matching", victim, "early-stopping", 0)
        watched = [record["validation_accuracy"] for record in found["history"]]
        best = watched.index(max(watched)) + 1
        stopped = len(watched)
        assert found["measures"]["best_epoch"] == best
        assert found["measures"]["stopped_epoch"] == stopped
        # Patience of one epoch: it ends one epoch after the best, or with the schedule.
        assert stopped == min(best + 1, {"small": 6, "other": 3}[victim])


def test_trials_hold_the_measures_of_every_attack(rooms: Checkout) -> None:
    trials = read_trials(rooms.path / "results/tables/rooms-trials.csv")
    by_attack = {attack: [trial for trial in trials if trial.attack == attack] for attack in ("matching", "regions")}
    assert len(by_attack["matching"]) == 2 * 4 * 2
    assert len(by_attack["regions"]) == 4 * 2
    assert {trial.targets for trial in by_attack["matching"]} == {1}
    assert {trial.targets for trial in by_attack["regions"]} == {None}
    assert all("success" not in trial.measures for trial in by_attack["regions"])


def test_figures_compare_the_attacks_without_a_goal(rooms: Checkout) -> None:
    folder = rooms.path / "results/figures/rooms"
    curves = (folder / "poison-curves.txt").read_text(encoding="utf-8")
    for words in ("regions (n = 2)", "pgd (n = 1)", "waves (n = 1)", "clean data (n = 2)"):
        assert words in curves
    assert "matching" not in curves
    found = table(rooms).set_index(["attack", "victim", "defense"])["peak_accuracy"]
    assert all((attack, "small", "none") in found.index for attack in ("regions", "pgd", "waves"))
    assert "of 3 attacks under none" in (folder / "final-accuracy.txt").read_text(encoding="utf-8")
    changes = (folder / "perturbations.txt").read_text(encoding="utf-8")
    assert "regions 32" in changes
    assert "waves 32" in changes
    assert "pgd 8" in changes
    page = (rooms.path / "results/reports/rooms.html").read_text(encoding="utf-8")
    assert "Attacks compared" in page
    assert len(rooms.files("poisons/rooms/pgd/*.safetensors")) == 1


def test_a_diluted_row_trains_on_half_of_the_poisons(rooms: Checkout) -> None:
    diluted = PoisonSet.load(rooms.path / "results/diluted/rooms/regions/small/half-clean/seed0.safetensors")
    whole = PoisonSet.load(rooms.path / "results/poisons/rooms/regions/seed0.safetensors")
    assert len(diluted.indices) == len(whole.indices) / 2
    assert set(diluted.indices.tolist()) < set(whole.indices.tolist())


def test_clean_networks_judge_the_poisons_of_each_attack(rooms: Checkout) -> None:
    found = pd.read_csv(rooms.path / "results/tables/rooms-transfer.csv")
    assert list(found["attack"]) == ["regions", "pgd"]
    assert found.filter(like="base").iloc[:, 0].between(0, 1).all()


def test_the_report_tells_of_both_kinds_of_attack(rooms: Checkout) -> None:
    text = (rooms.path / "results/reports/rooms.html").read_text(encoding="utf-8")
    for words in ("Poison success", "Peak accuracy", "regions", "other", "early-stopping"):
        assert words in text
