"""Gradients of gradients: through attention, and through layers that have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

from poisonlab.attacks import gradient_matching, metapoison, sleeper_agent
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.matching import Matcher, target_gradient
from poisonlab.config.attacks.gradient_matching import GradientMatching
from poisonlab.config.attacks.metapoison import MetaPoison
from poisonlab.config.attacks.sleeper_agent import SleeperAgent
from poisonlab.config.data.digits_on_photos import DigitsOnPhotos
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.sources import load_dataset
from poisonlab.data.training_set import training_set
from poisonlab.defenses.build import build_defenses
from poisonlab.errors import SettingsError
from poisonlab.models.gradient_norms import per_sample_gradient_norms
from poisonlab.models.networks import build_normalize
from poisonlab.models.wrapping import wrap
from poisonlab.training.loop import train

RECIPE = Recipe(epochs=1, batch_size=30, lr=0.01, schedule="linear", augmentation=Augmentation(kind="none"))


def transformer(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=10
    )
    nn.init.normal_(network.heads.head.weight, std=0.1)  # torchvision begins with zeros, which stop every gradient
    return cast(nn.Module, network)


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return load_dataset(DigitsOnPhotos(train_size=60, test_size=20))


CRAFTS: dict[str, Callable[[ImageDataset, Attacker], Any]] = {
    "gradient matching": lambda data, attacker: gradient_matching.craft(
        data, attacker, GradientMatching(name="x", surrogate="base", budget=0.05, steps=2, restarts=2), seed=0
    ),
    "sleeper agent": lambda data, attacker: sleeper_agent.craft(
        data, attacker, SleeperAgent(name="x", surrogate="base", budget=0.05, steps=3, retrain_every=1), seed=0
    ),
    "metapoison": lambda data, attacker: metapoison.craft(
        data,
        attacker,
        MetaPoison(name="x", surrogate="base", budget=0.05, steps=1, ensemble=1, batch_size=20, clean_batches=1),
        seed=0,
    ),
}


DIFFERENCES: dict[str, Callable[[ImageDataset, Attacker], Any]] = {
    "gradient matching": lambda data, attacker: gradient_matching.craft(
        data,
        attacker,
        GradientMatching(
            name="x",
            surrogate="base",
            budget=0.05,
            steps=2,
            restarts=2,
            derivative="differences",
            sharpness=0.05,
        ),
        seed=0,
    ),
    "sleeper agent": lambda data, attacker: sleeper_agent.craft(
        data,
        attacker,
        SleeperAgent(
            name="x",
            surrogate="base",
            budget=0.05,
            steps=3,
            retrain_every=1,
            selection="random",
            derivative="differences",
        ),
        seed=0,
    ),
    "metapoison": lambda data, attacker: metapoison.craft(
        data,
        attacker,
        MetaPoison(
            name="x",
            surrogate="base",
            budget=0.05,
            steps=1,
            ensemble=1,
            batch_size=20,
            clean_batches=1,
            derivative="differences",
        ),
        seed=0,
    ),
}
"""By differences nothing is differentiated twice."""


@pytest.mark.parametrize("attack", CRAFTS)
def test_attacks_through_gradients_go_through_a_transformer(attack: str, dataset: ImageDataset) -> None:
    attacker = Attacker(
        [wrap(transformer())], build_normalize(dataset), RECIPE, fresh=lambda seed: wrap(transformer(seed))
    )
    poisons = CRAFTS[attack](dataset, attacker)
    assert poisons.largest_change() > 0


def test_so_does_the_defense_that_matches_gradients(dataset: ImageDataset) -> None:
    defenses = build_defenses([{"method": "adversarial-poisoning", "share": 0.5, "steps": 2}], noise=None)
    train(transformer(), build_normalize(dataset), training_set(dataset), RECIPE, seed=0, defenses=defenses)


@pytest.mark.parametrize("layer", ["Square", "Fused"])
def test_where_it_cannot_the_layer_is_named(layer: str, dataset: ImageDataset) -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(3072, 16), nn.Tanh(), globals()[layer]())
    network = nn.Sequential(nn.Flatten(), body, nn.Linear(16, 10))
    defenses = build_defenses([{"method": "adversarial-poisoning", "share": 0.5, "steps": 2}], noise=None)
    name = rf"^layer '1\.2' of the network \({layer}\) has no second derivative.*: replace the layer, or take a defense"
    with pytest.raises(SettingsError, match=name):
        train(network, build_normalize(dataset), training_set(dataset), RECIPE, seed=0, defenses=defenses)


def test_the_gradient_through_attention_is_the_derivative() -> None:
    """Against differences of the matching loss, in double precision; a weight that nothing depends on counts as 0."""
    network = transformer().double().eval()
    network.unused = nn.Parameter(torch.ones(3, dtype=torch.float64))
    images, labels = torch.randn(3, 3, 32, 32, dtype=torch.float64), torch.tensor([1, 2, 3])
    goal = target_gradient(network, torch.randn(1, 3, 32, 32, dtype=torch.float64), torch.tensor([4]), "cross-entropy")
    matcher = Matcher(network, goal)
    _, gradient = matcher.loss_and_gradient(images, labels)
    direction = torch.randn_like(images)
    beyond, before = (matcher.loss_and_gradient(images + step * direction, labels)[0] for step in (1e-5, -1e-5))
    assert float((gradient * direction).sum()) == pytest.approx(float(beyond - before) / 2e-5, rel=1e-4)


def test_gradient_norms_of_a_transformer() -> None:
    network, images, labels = transformer().eval(), torch.randn(3, 3, 32, 32), torch.tensor([1, 2, 3])
    expected = []
    for image, label in zip(images, labels, strict=True):
        gradients = torch.autograd.grad(F.cross_entropy(network(image[None]), label[None]), list(network.parameters()))
        expected.append(torch.cat([each.flatten() for each in gradients]).norm())
    assert torch.allclose(per_sample_gradient_norms(network, images, labels), torch.stack(expected), rtol=1e-4)


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 2 * ctx.saved_tensors[0]  # type: ignore[no-any-return]


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _Square.apply(x)  # type: ignore[no-any-return]


class _Power(torch.autograd.Function):
    """As ``_Square``, but torch.func can transform it, and takes its first derivative for a constant."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 2 * ctx.saved_tensors[0]  # type: ignore[no-any-return]


class Power(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _Power.apply(x)  # type: ignore[no-any-return]


class _Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 3 * ctx.saved_tensors[0] ** 2  # type: ignore[no-any-return]


class Cube(nn.Module):
    """Can be differentiated twice, but not by torch.func."""

    def forward(self, x: Tensor) -> Tensor:
        return _Cube.apply(x)  # type: ignore[no-any-return]


class Fused(nn.Module):
    """Attention that insists on a fused kernel."""

    def forward(self, x: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            tokens = x.view(-1, 1, 4, 4)
            return F.scaled_dot_product_attention(tokens, tokens, tokens).flatten(1)


@pytest.mark.parametrize(
    ("layer", "attack", "why"),
    [
        *((Square, attack, "has no second derivative") for attack in CRAFTS),
        (Power, "metapoison", "has no second derivative"),
        *((Fused, attack, "has no second derivative") for attack in CRAFTS),
        (Cube, "metapoison", "is an autograd.Function that torch.func"),
    ],
)
def test_a_layer_without_a_second_derivative_is_named(
    layer: Callable[[], nn.Module], attack: str, why: str, dataset: ImageDataset
) -> None:
    def network(seed: int = 0) -> Any:
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Linear(3072, 16), nn.Tanh(), layer())
        return nn.Sequential(nn.Flatten(), body, nn.Linear(16, 10))

    attacker = Attacker([network()], build_normalize(dataset), RECIPE, fresh=network)
    name = rf"^layer '1\.2' of the network \({layer.__name__}\) "
    with pytest.raises(SettingsError, match=name + why) as caught:
        CRAFTS[attack](dataset, attacker)
    assert "\n" not in str(caught.value)
    assert "derivative: differences" in str(caught.value)


@pytest.mark.parametrize("layer", [Square, Cube, Fused])
@pytest.mark.parametrize("attack", DIFFERENCES)
def test_by_differences_any_layer_will_do(layer: Callable[[], nn.Module], attack: str, dataset: ImageDataset) -> None:
    def network(seed: int = 0) -> Any:
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Linear(3072, 16), nn.Tanh(), layer())
        return nn.Sequential(nn.Flatten(), body, nn.Linear(16, 10))

    attacker = Attacker([network()], build_normalize(dataset), RECIPE, fresh=network)
    poisons = DIFFERENCES[attack](dataset, attacker)
    assert poisons.largest_change() > 0


def test_other_errors_stay_themselves(dataset: ImageDataset) -> None:
    broken: Any = nn.Sequential(nn.Flatten(), nn.Linear(3000, 10))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        Matcher(broken, ()).loss_and_gradient(torch.randn(1, 3, 32, 32), torch.tensor([0]))
