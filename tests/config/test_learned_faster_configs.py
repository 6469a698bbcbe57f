"""The studies of "Poisons that are learned faster" hold all 25 poisons of its table 1, as it describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from poisonlab.config.scale import scale_of
from poisonlab.config.study import Study, read_study
from poisonlab.evaluation.published import published

ROOT = Path(__file__).resolve().parents[2]
SCALES = ["learned-faster", "learned-faster-mini", "learned-faster-smoke"]


def read(name: str) -> Study:
    return read_study(yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text(encoding="utf-8")))


def attack(name: str) -> Any:
    return read("learned-faster").attack(name)


@pytest.mark.parametrize("scale", SCALES)
def test_every_poison_of_table_1_is_there(scale: str) -> None:
    study = read(scale)
    numbers = published(ROOT / "reference" / "learned-faster")
    rows = list(dict.fromkeys(numbers[numbers["table"] == 1]["row"]))
    assert [each.name for each in study.attacks] == [row.lower() for row in rows]
    assert [[(place.table, place.row) for place in each.published] for each in study.attacks] == [
        [(1, row)] for row in rows
    ]
    assert not any(each.has_goal for each in study.attacks)
    assert all(each.budget == 1 for each in study.attacks if hasattr(each, "budget"))


@pytest.mark.parametrize("scale", SCALES[1:])
def test_the_other_scales_have_the_same_poisons(scale: str) -> None:
    for ours, theirs in zip(read(scale).attacks, read("learned-faster").attacks, strict=True):
        same = {"name", "method", "surrogate", "algorithm", "changes", "noise", "regions", "frequencies", "published"}
        first, second = (each.model_dump(include=same) for each in (ours, theirs))
        assert first == second
        assert ours.bound == theirs.bound


def test_poisons_are_the_papers() -> None:
    for name, steps, surrogate in (("p10", 10, "clean50"), ("p100", 100, "clean50"), ("p250", 250, "clean18")):
        pgd = attack(name)
        assert (pgd.steps, pgd.surrogate, pgd.algorithm, pgd.aim) == (steps, surrogate, "pgd", "next-class")
        assert (pgd.step_length, pgd.starts, pgd.augments, pgd.eps) == (0.4, "gaussian", True, 8)
    for name, steps in (("m10", 10), ("m100", 100), ("m250", 250)):
        momentum = attack(name)
        assert (momentum.steps, momentum.surrogate, momentum.algorithm) == (steps, "clean18", "mi-fgsm")
        assert (momentum.step_length, momentum.starts, momentum.augments) == (8 / steps, "zero", False)
        assert (momentum.momentum, momentum.decay) == ("as_run", 1)
    for name, changes in (("fc", 1), ("fcs", 2), ("fcsd", 3)):
        assert attack(name).changes == ("color", "flow", "additive")[:changes]
        assert (attack(name).steps, attack(name).lr, attack(name).bound) == (100, 0.001, None)
    assert (attack("su").noise, attack("su").steps_each, attack("su").stop_error) == ("sample-wise", 20, 0.01)
    assert (attack("cu").noise, attack("cu").steps_each, attack("cu").subset) == ("class-wise", 1, 0.2)
    counts = {"r1": 1, "r2": 2, "r4": 4, "r16": 16, "r64": 64, "r128": 128, "rn": 1024}
    assert {name: attack(name).regions for name in counts} == counts
    assert all(attack(f"lf{count}").frequencies == count for count in range(2, 9))


def test_victims_and_surrogates_are_the_papers() -> None:
    study = read("learned-faster")
    recipe = study.victims[0].recipe
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.momentum, recipe.weight_decay, recipe.milestones) == (
        *(100, 128, 0.1, 0.9, 5e-4),
        (50,),
    )
    assert (recipe.augmentation.kind, recipe.augmentation.padding, recipe.augmentation.flip) == ("crop", "black", True)
    assert study.surrogate("clean18").recipe.epochs == 40
    along = study.surrogate("along").recipe
    assert (along.lr, along.momentum, along.nesterov, along.weight_decay, along.batch_size) == (
        0.1,
        0.9,
        False,
        5e-4,
        512,
    )


def test_a_network_that_is_trained_along_is_not_trained_before() -> None:
    assert all(read(scale).members("along", 0) == 0 for scale in SCALES)


def test_three_poisons_meet_a_victim_without_augmentation_too() -> None:
    study = read("learned-faster")
    assert [each.name for each in study.attacks if len(study.victims_of(each)) == 2] == ["p10", "fc", "rn"]
    first, plain = study.victims
    assert plain.recipe.model_copy(update={"augmentation": first.recipe.augmentation}) == first.recipe
    victims = "Victims: resnet18, 100 epochs, from-scratch; resnet18, 100 epochs, from-scratch, no augmentation."
    assert victims in scale_of(study, [study.attack("rn")])
    assert plain.recipe.augmentation.kind == "none"
