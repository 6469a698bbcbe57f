"""craft: attacks by their names, as the workflow's programs call them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from poisonlab import craft
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.bullseye_polytope import craft as craft_bullseye
from poisonlab.config.attacks.bullseye_polytope import BullseyePolytope
from poisonlab.config.data.digits_on_photos import DigitsOnPhotos
from poisonlab.config.models.lenet import LeNet
from poisonlab.config.recipe import Recipe
from poisonlab.config.validation import Validation
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.sources import load_dataset
from poisonlab.data.training_set import held_out
from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Classifier
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


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("method", ["gradient-matching", "sleeper-agent", "error-maximising", "bullseye-polytope"])
def test_networks_are_handed_back_as_they_were(method: str, frozen: bool, dataset: ImageDataset) -> None:
    network = build_network(LeNet(), dataset, seed=0).train()
    network.extract.requires_grad_(not frozen)
    share = {} if method == "error-maximising" else {"budget": 0.1}
    more = {"retrain_every": 0} if method == "sleeper-agent" else {}
    craft(method, dataset, network, steps=1, **share, **more)
    assert all(weight.requires_grad != frozen for weight in network.extract.parameters())
    assert all(weight.requires_grad for weight in network.head.parameters())
    assert all(module.training for module in network.modules())


def test_retraining_goes_on_with_as_many_surrogates(dataset: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def fresh(seed: int) -> Classifier:
        made.append(seed)
        return build_network(LeNet(), dataset, seed=seed)

    made: list[int] = []
    networks = [build_network(LeNet(), dataset, seed=seed) for seed in range(3)]
    options = {"recipe": Recipe(epochs=1, lr=0.01), "fresh": fresh, "budget": 0.1, "steps": 3, "retrain_every": 1}
    craft("sleeper-agent", dataset, networks, **options)
    assert len(made) == len(set(made)) == 3
    with pytest.raises(SettingsError, match="ensemble is 2, but 3 surrogates are given"):
        craft("sleeper-agent", dataset, networks, ensemble=2, **options)


def test_attacks_that_train_their_own_networks_need_no_others(dataset: ImageDataset) -> None:
    def fresh(seed: int) -> Classifier:
        return build_network(LeNet(), dataset, seed=seed)

    recipe = Recipe(epochs=3, lr=0.01)
    unrolled = {"budget": 0.1, "steps": 1, "ensemble": 1, "unroll": 1}
    made = craft("metapoison", dataset, recipe=recipe, fresh=fresh, **unrolled)
    assert len(made.indices) == 6
    whole = craft("error-minimising", dataset, recipe=recipe, fresh=fresh, rounds=1, stop_error=0.99)
    assert len(whole.indices) == 60
    network = fresh(0)
    for method, networks, more in (
        ("metapoison", (), unrolled),
        ("error-minimising", (), {}),
        ("sleeper-agent", network, {"budget": 0.1}),
    ):
        with pytest.raises(SettingsError, match=f"{method} trains surrogates of its own: pass fresh"):
            craft(method, dataset, networks, recipe=recipe, **more)
    with pytest.raises(SettingsError, match="metapoison needs surrogates"):
        craft("metapoison", dataset, recipe=recipe, fresh=fresh, target="recognised", **unrolled)


def test_what_is_set_apart_is_no_base(dataset: ImageDataset) -> None:
    apart = replace(dataset, validation=Validation(per_class=3))
    made = craft("gradient-matching", apart, build_network(LeNet(), dataset, seed=0), budget=0.1, steps=1)
    assert not torch.isin(made.indices, held_out(dataset.train_labels, Validation(per_class=3))).any()


def test_friendly_noise_of_an_earlier_run_is_known_to_the_attack(dataset: ImageDataset) -> None:
    network = build_network(LeNet(), dataset, seed=0)
    noise = torch.rand(60, *dataset.image_shape, generator=torch.Generator().manual_seed(0)) / 8
    options = {"budget": 0.1, "steps": 2, "restarts": 1}
    unaware = craft("gradient-matching", dataset, network, **options)
    aware = craft("gradient-matching", dataset, network, friendly_noise=noise, **options)
    assert not torch.equal(unaware.images, aware.images)
    adaptation = {"friendly_attack": "earlier", "friendly_defense": "friendly"}
    with pytest.raises(SettingsError, match="pass its noise as friendly_noise"):
        craft("gradient-matching", dataset, network, adaptation=adaptation, **options)
    with pytest.raises(SettingsError, match="does not adapt to friendly noise"):
        craft("bullseye-polytope", dataset, network, friendly_noise=noise, budget=0.1, steps=1)
