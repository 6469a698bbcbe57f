"""A crafting that is killed after any save ends in the bits of one that is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poisonlab import modules
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.training.checkpoint import Checkpoint

CLASSES, SIZE = 3, 8
RECIPE = Recipe(epochs=2, batch_size=20, lr=0.05, augmentation=Augmentation(kind="shift", pixels=1.0), milestones=())
GROUND = {"name": "attack", "surrogate": "base", "budget": 0.1, "eps": 16.0}
ATTACKS: dict[str, dict[str, Any]] = {
    "one restart": {"method": "gradient-matching", "steps": 5, "restarts": 1},
    "restarts one after another": {"method": "gradient-matching", "steps": 3, "restarts": 3},
    "restarts at once, random noise expected": {
        "method": "gradient-matching",
        "steps": 3,
        "restarts": 3,
        "restarts_at_once": 2,
        "adaptation": {"random_noise": {"distribution": "gaussian", "mu": 8}},
    },
    "Sleeper Agent, retrained": {
        "method": "sleeper-agent",
        "steps": 5,
        "retrain_every": 2,
        "retrain_epochs": 2,
        "patch": {"size": 2},
    },
    "Bullseye Polytope, dropout": {"method": "bullseye-polytope", "steps": 4, "dropout": True, "augment": True},
    "Poison Frogs, signed Adam": {"method": "poison-frogs", "steps": 6, "optimizer": "signed-adam"},
    "convex polytope, warm": {"method": "convex-polytope", "steps": 4, "coefficients": "warm"},
    "MetaPoison, colours": {
        "method": "metapoison",
        "steps": 4,
        "ensemble": 2,
        "stagger": 1,
        "unroll": 2,
        "batch_size": 20,
        "clean_batches": 4,
        "recolor": {"grid": 3},
    },
}


class Killed(BaseException):
    """What no code of ours catches, as a signal."""


class Mortal(Checkpoint):
    """Saves at every opportunity, and dies right after a save."""

    lives: int = -1

    def save(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        super().save(tensors, facts)
        self.lives -= 1
        if self.lives == 0:
            raise Killed


def dataset() -> ImageDataset:
    stream = torch.Generator().manual_seed(1)
    ramp = torch.linspace(0, 160, SIZE)
    patterns = torch.stack(
        [ramp.expand(3, SIZE, SIZE), ramp[:, None].expand(3, SIZE, SIZE), torch.zeros(3, SIZE, SIZE)]
    )

    def split(each: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(CLASSES).repeat(each)
        noise = torch.randint(0, 90, (len(labels), 3, SIZE, SIZE), generator=stream)
        return (patterns[labels] + noise).to(torch.uint8), labels

    train, test = split(20), split(4)
    return ImageDataset(*train, *test, ("a", "b", "c"), (0.4,) * 3, (0.25,) * 3)


def network(seed: int) -> Classifier:
    torch.manual_seed(seed)
    extract = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(256, 12)
    )
    return Classifier(extract, nn.Linear(12, CLASSES))


def craft(name: str, checkpoint: Checkpoint | None) -> PoisonSet:
    chosen = {**GROUND, **ATTACKS[name]}
    attack = modules.load("attacks", chosen["method"])
    data = dataset()
    attacker = Attacker(
        [network(1), network(2)],
        Normalize(data.mean, data.std),
        RECIPE,
        fresh=lambda seed: network(seed % 1000),
        checkpoint=checkpoint,
    )
    poisons: PoisonSet = attack.craft(data, attacker, attack.Settings.model_validate(chosen), seed=3)
    return poisons


def bits(poisons: PoisonSet) -> dict[str, Any]:
    fields = {field.name: getattr(poisons, field.name) for field in dataclasses.fields(poisons)}
    flat = {**fields, **{f"diagnostics.{key}": value for key, value in poisons.diagnostics.items()}}
    return {
        key: value.numpy().tobytes() if isinstance(value, Tensor) else value
        for key, value in flat.items()
        if key != "diagnostics"
    }


@pytest.mark.parametrize("name", ATTACKS)
def test_a_killed_crafting_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    expected = bits(craft(name, None))
    died = 0
    # Killed after its first save, then after the second of the next life, and so on, until it comes to its end.
    for life in range(1, 40):
        checkpoint = Mortal(tmp_path / "craft.safetensors", "this crafting", interval=0.0)
        checkpoint.lives = life
        try:
            found = craft(name, checkpoint)
        except Killed:
            died += 1
            continue
        break
    assert died >= 2
    assert bits(found) == expected
    checkpoint.clear()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["one restart", "MetaPoison, colours"])
def test_a_save_is_used(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the test above would hold for code that starts anew."""
    checkpoint = Mortal(tmp_path / "craft.safetensors", "this crafting", interval=0.0)
    checkpoint.lives = 3
    with pytest.raises(Killed):
        craft(name, checkpoint)
    taken = counted(monkeypatch)
    craft(name, Checkpoint(tmp_path / "craft.safetensors", "this crafting", interval=1e9))
    rest = taken()
    craft(name, Checkpoint(tmp_path / "craft.safetensors", "another crafting", interval=1e9))
    assert 0 < rest < taken() - rest


def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many steps Adam has taken since."""
    count = 0
    real = torch.optim.Adam.step

    def step(self: Any, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        return real(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    return lambda: count
