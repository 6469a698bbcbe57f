"""Networks of other libraries: features and head are parts of them, their outputs are their own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.func import vmap

import poisonlab
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.bullseye_polytope import craft
from poisonlab.config.attacks.bullseye_polytope import BullseyePolytope
from poisonlab.config.data.digits_on_photos import DigitsOnPhotos
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.sources import load_dataset
from poisonlab.data.training_set import training_set
from poisonlab.errors import SettingsError
from poisonlab.models.classifier import FrozenFeatures
from poisonlab.models.networks import build_normalize
from poisonlab.models.outputs import outputs_of
from poisonlab.models.wrapping import wrap
from poisonlab.training.loop import train

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@dataclass
class Output:
    """As Transformers returns one."""

    logits: Tensor


class Net(nn.Module):
    """A body, a linear layer, and an output that the caller chooses."""

    def __init__(self, output: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3072, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5))
        self.classifier = nn.ModuleDict({"out": nn.Linear(6, 5)})
        self.output = output

    def forward(self, x: Tensor) -> Any:
        return self.output(self.classifier["out"](self.body(x)))


class TwoHeads(Net):
    """As a distilled transformer: the mean of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = (self.classifier["out"](self.body(x)) + self.second(self.body(x))) / 2
        return mean


def transformer() -> nn.Module:
    network: nn.Module = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=10
    )
    return network


@pytest.mark.parametrize(
    ("network", "name", "width"),
    [
        (lambda: torchvision.models.resnet18(num_classes=5), "fc", 512),
        (lambda: torchvision.models.mobilenet_v3_small(num_classes=5), "classifier.3", 1024),
        (transformer, "heads.head", 16),
        (Net, "classifier.out", 6),
    ],
)
def test_the_last_linear_layer_is_the_head(network: Callable[[], nn.Module], name: str, width: int) -> None:
    original = network().eval()
    names, logits = [each for each, _ in original.named_modules()], original(IMAGES)
    for wrapped in (wrap(original), wrap(original, head=name)):
        features = wrapped.extract(IMAGES)
        assert features.shape == (4, width)
        assert torch.equal(wrapped(IMAGES), logits)
        assert torch.equal(wrapped.head(features), logits)
        assert wrapped.head is dict(original.named_modules())[name]
        # Each weight once, and the original as it was.
        assert len(wrapped.state_dict()) == len(original.state_dict())
        assert {id(each) for each in wrapped.parameters()} == {id(each) for each in original.parameters()}
    assert [each for each, _ in original.named_modules()] == names
    assert torch.equal(original(IMAGES), logits)


@pytest.mark.parametrize("output", [Output, lambda logits: {"logits": logits}, lambda logits: (logits, 0)])
def test_outputs_around_the_logits(output: Callable[[Tensor], Any]) -> None:
    network = Net(output).eval()
    assert torch.equal(wrap(network)(IMAGES), network.classifier["out"](network.body(IMAGES)))


def test_wrapping_is_done_once() -> None:
    wrapped = wrap(Net())
    assert wrap(wrapped) is wrapped
    assert poisonlab.wrap is wrap


def test_what_is_not_the_head_is_refused() -> None:
    for network, why in (
        (Net(lambda logits: logits.log_softmax(1)), "does more to its output"),
        (TwoHeads(), "without it the network fails"),
        (nn.Sequential(Net(), nn.Unflatten(1, (5, 1, 1)), nn.Conv2d(5, 5, 1), nn.Flatten()), "without it"),
    ):
        for _ in range(2):  # not only at first
            with pytest.raises(SettingsError, match=why):
                wrap(network)(IMAGES)
    with pytest.raises(SettingsError, match=r"'body.1' is not the layer that gives .*: name it by head="):
        wrap(Net(), head="body.1")(IMAGES)
    with pytest.raises(
        SettingsError, match=r"'body.3' of the network is a ReLU: head names.*'body.1', 'classifier.out'"
    ):
        wrap(Net(), head="body.3")
    with pytest.raises(SettingsError, match="'fc' of the network is no layer"):
        wrap(Net(), head="fc")
    with pytest.raises(SettingsError, match="has no linear layer"):
        wrap(nn.Conv2d(3, 5, 1))
    with pytest.raises(SettingsError, match="returns a int without logits"):
        wrap(Net(lambda logits: 3))(IMAGES)


def test_inside_vmap_it_is_checked_later() -> None:
    right, wrong = wrap(Net().eval()), wrap(Net(lambda logits: logits.log_softmax(1)).eval())
    for network in (right, wrong):
        vmap(lambda x, network=network: network(x[None]))(IMAGES)
    right(IMAGES)
    with pytest.raises(SettingsError, match="does more"):
        wrong(IMAGES)


def test_the_check_leaves_no_trace() -> None:
    first, second = Net().train(), Net().train()
    second.load_state_dict(first.state_dict())
    torch.manual_seed(1)
    expected = first(IMAGES)
    torch.manual_seed(1)
    assert torch.equal(wrap(second)(IMAGES), expected)
    assert all(
        torch.equal(*pair) for pair in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert all(module.training for module in second.modules())


def test_a_copy_has_weights_of_its_own() -> None:
    wrapped = wrap(Net().eval())
    copied = copy.deepcopy(wrapped)
    with torch.no_grad():
        copied.head.bias.add_(1)
    assert torch.allclose(copied(IMAGES), wrapped(IMAGES) + 1)


def test_training_transfer_and_features() -> None:
    """A vision transformer is trained, its features transferred, and poisons made in them."""
    torch.manual_seed(0)
    dataset = load_dataset(DigitsOnPhotos(train_size=60, test_size=20))
    normalize, original = build_normalize(dataset), transformer()
    recipe = Recipe(epochs=1, batch_size=30, lr=0.01, schedule="linear", augmentation=Augmentation(kind="none"))
    before = copy.deepcopy(original.state_dict())
    surrogate = wrap(original, head="heads.head")
    train(surrogate, normalize, training_set(dataset), recipe, seed=0)
    assert not torch.equal(original.state_dict()["heads.head.weight"], before["heads.head.weight"])
    victim = FrozenFeatures(copy.deepcopy(surrogate.extract), nn.Linear(16, 10))
    train(victim, normalize, training_set(dataset), recipe, seed=0)
    fixed = outputs_of(surrogate.extract, normalize, dataset.test_images)
    assert torch.equal(outputs_of(victim.extract, normalize, dataset.test_images), fixed)

    attack = BullseyePolytope(name="x", surrogate="base", budget=0.05, steps=5)
    poisons = craft(dataset, Attacker([surrogate], normalize, recipe), attack, seed=0)
    losses = poisons.diagnostics["feature_loss"]
    assert losses[-1] < losses[0]
    with pytest.raises(SettingsError, match=r"surrogate \(VisionTransformer\) does not say .* poisonlab.wrap"):
        craft(dataset, Attacker([original], normalize, recipe), attack, seed=0)  # type: ignore[list-item]


def test_a_network_that_returns_no_tensor_is_to_be_wrapped() -> None:
    dataset = load_dataset(DigitsOnPhotos(train_size=60, test_size=20))
    normalize, network = build_normalize(dataset), Net(Output)
    with pytest.raises(SettingsError, match=r"returns a Output, .* wrap it, poisonlab.wrap\(network\)"):
        outputs_of(network, normalize, dataset.test_images)
    with pytest.raises(SettingsError, match="returns a Output"):
        train(network, normalize, training_set(dataset), Recipe(epochs=1), seed=0)
    assert outputs_of(wrap(network), normalize, dataset.test_images).shape == (20, 5)
