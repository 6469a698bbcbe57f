"""craft: attacks by their names, as the workflow's programs call them."""

from __future__ import annotations

import pytest
import torch

from poisonlab import craft
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.bullseye_polytope import craft as craft_bullseye
from poisonlab.config.attacks.bullseye_polytope import BullseyePolytope
from poisonlab.config.data.digits_on_photos import DigitsOnPhotos
from poisonlab.config.models.lenet import LeNet
from poisonlab.config.recipe import Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.sources import load_dataset
from poisonlab.errors import SettingsError
from poisonlab.models.networks import build_network, build_normalize


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return load_dataset(DigitsOnPhotos(train_size=60, test_size=20))


def test_it_is_the_attack_of_that_name(dataset: ImageDataset) -> None:
    network = build_network(LeNet(), dataset, seed=0)
    made = craft("bullseye-polytope", dataset, [network], seed=4, budget=0.1, steps=3)
    settings = BullseyePolytope(name="x", surrogate="y", budget=0.1, steps=3)
    attacker = Attacker([network], build_normalize(dataset), Recipe())
    same = craft_bullseye(dataset, attacker, settings, seed=4)
    assert torch.equal(made.images, same.images)
    assert torch.equal(made.indices, same.indices)


def test_an_attack_without_surrogates_needs_none(dataset: ImageDataset) -> None:
    made = craft("regions", dataset, seed=1)
    assert 0 < made.largest_change() <= 8


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("gradient-mismatching", {}, "is no attack .did you mean 'gradient-matching'."),
        ("gradient_matching", {}, "did you mean 'gradient-matching'"),
        ("../os", {}, "'../os' is no attack: docs/config.md lists them"),
        ("features", {}, "'features' is no attack"),
        ("bullseye-polytope", {"budget": 0.1}, "bullseye-polytope needs surrogates"),
        ("regions", {"colour": 1}, "regions: unknown key 'colour'"),
    ],
)
def test_mistakes_are_one_line(method: str, settings: dict[str, float], message: str, dataset: ImageDataset) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        craft(method, dataset, **settings)
    assert "\n" not in str(caught.value)


def test_a_surrogate_of_other_classes_is_refused(dataset: ImageDataset) -> None:
    network = build_network(LeNet(), dataset, seed=0)
    network.head = torch.nn.Linear(network.head.in_features, 3)
    with pytest.raises(SettingsError, match="surrogate 0 gives 3 logits, but the data have 10 classes"):
        craft("bullseye-polytope", dataset, [network], budget=0.1, steps=1)
