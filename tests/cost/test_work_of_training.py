"""The predicted work of training and of friendly noise against the operations that torch computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from counting import NORMALIZE, SHAPE, counted, images, tiny, work_of
from pydantic import TypeAdapter
from torch import nn

from poisonlab.config.defenses.friendly_noise import FriendlyNoise
from poisonlab.config.models import AlexNet, LeNet, ResNet18
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.config.rows import DefenseSettings
from poisonlab.config.victims import Start
from poisonlab.cost.amount import Work
from poisonlab.cost.networks import network_of
from poisonlab.cost.training import DEFENSES, making_noise, observing, scheduled, training
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.build import build_defenses
from poisonlab.defenses.friendly_noise import friendly_noise
from poisonlab.errors import SettingsError
from poisonlab.models.classifier import FrozenFeatures
from poisonlab.models.outputs import outputs_of
from poisonlab.training.loop import train

TOLERANCE = 0.1
EXAMPLES, TEST = 80, 30
RECIPE = Recipe(epochs=3, batch_size=16, lr=0.01, schedule="linear", evaluate_every=2)

# Settings under which each defense does something within three epochs.
ROWS: dict[str, dict[str, Any]] = {
    "abl": {"isolation_epochs": 1, "fine_tune_epochs": 2, "unlearn_epochs": 2, "share": 0.25},
    "adversarial-poisoning": {"share": 0.25},
    "adversarial-training": {"steps": 3},
    "dp-sgd": {},
    "epic": {"fraction": 0.05, "drop_after": 1},
    "friendly-noise": {},
    "gradient-shaping": {},
    "random-noise": {"distribution": "uniform"},
    "strong-augmentation": {"kind": "cutout", "copies": 3, "warmup_epochs": 1},
}


def settings(method: str) -> Any:
    return TypeAdapter(DefenseSettings).validate_python({"method": method, **ROWS[method]})


def test_every_defense_is_tried() -> None:
    assert set(ROWS) == set(DEFENSES)


@pytest.mark.parametrize("method", [None, *ROWS])
def test_training(method: str | None) -> None:
    network = tiny("group" if method == "dp-sgd" else "batch")
    chosen = [] if method is None else [settings(method)]
    rows = [one.model_dump() for one in chosen]
    recipe = scheduled(RECIPE, chosen)
    own = work_of(network)
    predicted = training(own, RECIPE, EXAMPLES, chosen) + observing(own, recipe, 2, TEST)

    def observe(model: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
        outputs_of(model, NORMALIZE, images(2).images)
        if costly:
            outputs_of(model, NORMALIZE, images(TEST).images)
        return {}

    defenses = build_defenses(rows, noise=torch.zeros(EXAMPLES, *SHAPE))
    found = counted(
        lambda: train(network, NORMALIZE, images(EXAMPLES), RECIPE, seed=0, defenses=defenses, observe=observe)
    )
    assert predicted.flops == pytest.approx(found, rel=TOLERANCE)


@pytest.mark.parametrize("method", [None, "adversarial-poisoning", "adversarial-training", "dp-sgd"])
@pytest.mark.parametrize("augmentation", ["none", "shift"])
def test_training_on_frozen_features(method: str | None, augmentation: str) -> None:
    network = tiny()
    frozen = FrozenFeatures(network.extract, network.head)
    recipe = RECIPE.model_copy(update={"augmentation": Augmentation.model_validate({"kind": augmentation})})
    chosen = [] if method is None else [settings(method)]
    predicted = training(work_of(network), recipe, EXAMPLES, chosen, start=Start(scenario="transfer"))
    defenses = build_defenses([one.model_dump() for one in chosen], noise=None)
    found = counted(lambda: train(frozen, NORMALIZE, images(EXAMPLES), recipe, seed=0, defenses=defenses))
    assert predicted.flops == pytest.approx(found, rel=TOLERANCE)


def test_training_stops_early() -> None:
    network = tiny()
    found = counted(lambda: train(network, NORMALIZE, images(EXAMPLES), RECIPE, seed=0, until=1))
    assert training(work_of(network), RECIPE, EXAMPLES, until=1).flops == pytest.approx(found, rel=TOLERANCE)


def test_friendly_noise() -> None:
    network, chosen = tiny(), FriendlyNoise(steps=5)
    model = nn.Sequential(NORMALIZE, network)
    found = counted(lambda: friendly_noise(model, images(EXAMPLES).images, chosen))
    assert making_noise(work_of(network), chosen, EXAMPLES).flops == pytest.approx(found, rel=TOLERANCE)


def test_a_network_is_measured_without_computing() -> None:
    # He et al. 2016 count 0.56e9 multiplications with additions for CIFAR's ResNet-18; each is two operations.
    assert network_of(ResNet18(), 10, (3, 32, 32)).forward == pytest.approx(2 * 0.5555e9, rel=0.01)
    assert network_of(AlexNet(), 10, (3, 32, 32)).features == 4096
    with pytest.raises(SettingsError, match="16 x 16"):
        network_of(LeNet(), 10, (3, 8, 8))


def test_an_unknown_defense_is_one_line() -> None:
    class Unheard:
        method = "unheard-of"

    with pytest.raises(SettingsError, match="how much unheard-of computes"):
        training(work_of(tiny()), RECIPE, EXAMPLES, [Unheard()])


def test_work_adds_up() -> None:
    one, other = Work({("train", "a"): 1.0}), Work({("train", "a"): 2.0, ("noise", "b"): 4.0})
    assert (one + other.times(2)).parts == {("train", "a"): 5.0, ("noise", "b"): 8.0}
    assert (one + other).flops == 7.0
