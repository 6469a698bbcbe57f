"""Adam and AdamW: torch's own, bit for bit and in float64; the first step in closed form; exact resume in the loop."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from tiny import MEAN, STD, STILL, KilledError, data_set, grouped, network, trained
from torch import Tensor, nn

from poisonlab import modules
from poisonlab.config.recipe import Recipe
from poisonlab.config.recipes import NamedRecipe
from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Classifier, FrozenFeatures, Normalize
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.loop import train
from poisonlab.training.optimizer import Optimizer
from poisonlab.training.schedule import learning_rate
from poisonlab.training.sgd import sgd_of

KINDS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
both = pytest.mark.parametrize("kind", KINDS)
CHANGED: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.99), "eps": 1e-3}


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


def optimizer_of(model: nn.Module, recipe: Recipe) -> Optimizer:
    made: Optimizer = modules.load("training", recipe.optimizer).optimizer_of(model, recipe)
    return made


def groups_by_hand(model: nn.Module, kind: str, bias_lr: float, decay_all: bool) -> list[dict[str, Any]]:
    """A group for each parameter; an AdamW bias is decayed by rate times weight decay of a weight."""
    groups = []
    for name, parameter in model.named_parameters():
        factor = bias_lr if name.endswith("bias") else 1.0
        decay = CHANGED["weight_decay"] if decay_all or parameter.ndim > 1 else 0.0
        groups.append(
            {"params": [parameter], "weight_decay": decay / factor if kind == "adamw" else decay, "f": factor}
        )
    return groups


def steps(model: nn.Module, optimizer: Any, set_rate: Callable[[float], None], count: int) -> None:
    stream = torch.Generator().manual_seed(1)
    kind = next(model.parameters()).dtype
    for step in range(count):
        set_rate(0.01 / (1 + step))
        images = torch.randn(6, 3, 8, 8, generator=stream).to(kind)
        optimizer.zero_grad()
        F.cross_entropy(model(images), torch.randint(5, (6,), generator=stream)).backward()
        optimizer.step()


@both
@pytest.mark.parametrize(("decay_all", "bias_lr"), [(True, 1.0), (True, 16.0), (False, 16.0)])
@pytest.mark.parametrize(("dtype", "count"), [(torch.float32, 4), (torch.float64, 60)])
def test_it_is_torch_s(kind: str, decay_all: bool, bias_lr: float, dtype: torch.dtype, count: int) -> None:
    recipe = Recipe(optimizer=kind, bias_lr=bias_lr, decay_norm_and_bias=decay_all, **CHANGED)  # type: ignore[arg-type]
    ours, theirs = small().to(dtype), small().to(dtype)
    mine = optimizer_of(ours, recipe)
    # In float32 by torch's fused step with a rate on the device; in float64 by its plain one, with the exact rate.
    fused = dtype == torch.float32
    reference = KINDS[kind](
        groups_by_hand(theirs, kind, bias_lr, decay_all), lr=0.01, betas=(0.8, 0.99), eps=1e-3, fused=fused
    )

    def rate_of_reference(rate: float) -> None:
        for group in reference.param_groups:
            group["lr"] = torch.tensor(rate * group["f"], dtype=torch.float32) if fused else rate * group["f"]

    steps(ours, mine, lambda rate: setattr(mine, "rate", rate), count)
    steps(theirs, reference, rate_of_reference, count)
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        if fused and bias_lr == 1:
            assert torch.equal(own, other)
        # A rate in float32, and a decay that is divided and multiplied again.
        torch.testing.assert_close(own, other, rtol=1e-6 if fused else 1e-7, atol=1e-7)


@both
def test_the_first_step_in_closed_form(kind: str) -> None:
    """Of zero-bias moments there remain the gradient and its size: w - lr (g / (|g| + eps)), and the decay."""
    model = nn.Linear(3, 2).double()
    recipe = Recipe(optimizer=kind, bias_lr=3, **CHANGED)  # type: ignore[arg-type]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = optimizer_of(model, recipe)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    gradients = {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    optimizer.step()
    for name, parameter in model.named_parameters():
        rate = 0.01 * (3 if name == "bias" else 1)
        old, gradient = before[name], gradients[name]
        if kind == "adam":
            gradient = gradient + 0.1 * old
            expected = old - rate * gradient / (gradient.abs() + 1e-3)
        else:
            expected = old - 0.01 * 0.1 * old - rate * gradient / (gradient.abs() + 1e-3)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-6, atol=1e-9)


@both
def test_what_has_no_gradient_stays_and_counts_no_step(kind: str) -> None:
    model = small()
    model[0].requires_grad_(False)
    optimizer = optimizer_of(model, Recipe(optimizer=kind, **CHANGED))  # type: ignore[arg-type]
    before = copy.deepcopy(model.state_dict())
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    named = optimizer.tensors(model)
    assert "mean.0.weight" not in named
    assert float(named["step.4.weight"]) == 0


def plain_loop(kind: str, recipe: Recipe) -> nn.Module:
    """All 22 images in each of four steps, in float64, by torch's optimiser."""
    slow = network(dropout=0).double().train()
    data, mean, std = data_set(22), torch.tensor(MEAN).view(1, 2, 1, 1), torch.tensor(STD).view(1, 2, 1, 1)
    optimizer = KINDS[kind](slow.parameters(), weight_decay=recipe.weight_decay)
    for epoch in range(4):
        optimizer.param_groups[0]["lr"] = learning_rate(recipe, epoch)
        optimizer.zero_grad()
        F.cross_entropy(slow((data.images.double() / 255 - mean) / std), data.labels).backward()
        optimizer.step()
    return slow


@both
def test_the_loop_is_the_plain_loop(kind: str) -> None:
    schedule: dict[str, Any] = {"epochs": 4, "milestones": (3,), "warmup_epochs": 2, "lr": 0.02, "augmentation": STILL}
    recipe = Recipe(optimizer=kind, batch_size=22, weight_decay=0.05, **schedule)  # type: ignore[arg-type]
    ours = network(dropout=0)
    train(ours, Normalize(MEAN, STD), data_set(22), recipe, seed=0)
    slow = plain_loop(kind, recipe)
    # By Adam, a bias before batch norm, whose gradient is 0 up to rounding, moves with the sign of the rounding.
    free = "extract.0.bias", "extract.1.running_mean"
    for name, value in slow.state_dict().items():
        if name not in free:
            torch.testing.assert_close(ours.state_dict()[name].double(), value.double(), rtol=1e-4, atol=1e-4)


ROWS: list[list[dict[str, Any]]] = [
    [],
    [{"method": "gradient-shaping", "clip": 1.0, "noise": 0.1}],
    [{"method": "dp-sgd", "clip": 1.0, "noise_multiplier": 0.5}],
    [{"method": "random-noise", "distribution": "bernoulli", "mu": 8}],
]


@both
@pytest.mark.parametrize("rows", ROWS, ids=lambda rows: rows[0]["method"] if rows else "none")
def test_a_killed_run_ends_in_the_same_bits_from_every_save(
    kind: str, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    more: dict[str, Any] = {"optimizer": kind, "lr": 0.01, "bias_lr": 4.0, "warmup_epochs": 1.5, "milestones": (2,)}
    whole = trained(rows, **more)
    assert not torch.equal(whole.weights, trained(rows, **{**more, "optimizer": "sgd"}).weights)
    for epoch in (1, 2):
        place = tmp_path / str(epoch)
        with pytest.raises(KilledError):
            trained(rows, saved=place, kill_at=epoch + 1, **more)
        saved = Checkpoint(place, "the same run").load()
        assert saved is not None
        assert {name.partition(".")[0] for name in saved[0]} >= {"model", "mean", "square", "step", "rows"}
        fresh = grouped(seed=9) if rows and rows[0]["method"] == "dp-sgd" else network(seed=9)
        resumed = trained(rows, model=fresh, saved=place, **more)
        assert torch.equal(resumed.weights, whole.weights)
        assert resumed.history == whole.history


def test_a_head_on_frozen_features_learns_by_adam() -> None:
    def ended(lr: float) -> tuple[Classifier, Tensor]:
        start = network()
        frozen = FrozenFeatures(start.extract, start.head)
        recipe = Recipe(optimizer="adam", lr=lr, epochs=2, milestones=(1,), batch_size=8, augmentation=STILL)
        train(frozen, Normalize(MEAN, STD), data_set(22), recipe, seed=0)
        return frozen, start.head.weight

    frozen, head = ended(0.1)
    assert torch.equal(frozen.extract[0].weight, network().extract[0].weight)  # type: ignore[index]
    assert float((head - network().head.weight).detach().abs().max()) > 0.1


def test_sgd_alone_is_refused_for_another_optimizer() -> None:
    with pytest.raises(SettingsError, match="only SGD is possible here, not adam: set optimizer: sgd"):
        sgd_of(small(), Recipe(optimizer="adam", lr=0.1))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"optimizer": "adam"}, "optimizer adam needs an lr"),
        ({"optimizer": "adam", "base": "fast"}, "optimizer adam needs an lr"),
        ({"optimizer": "adam", "lr": 0.1, "momentum": 0.8}, "momentum is no setting of optimizer adam: leave it out"),
        ({"optimizer": "adamw", "lr": 0.1, "nesterov": False}, "nesterov is no setting of optimizer adamw"),
        (
            {"base": "epic", "optimizer": "adam", "lr": 0.1, "nesterov": False},
            "nesterov is no setting of optimizer adam",
        ),
        ({"betas": [0.9, 0.99]}, "betas is no setting of optimizer sgd: set optimizer: adam"),
        ({"optimizer": "adam", "lr": 0.1, "betas": (0.9, 1)}, "less than 1"),
        ({"schedule": "linear", "milestones": [3]}, "milestones is no setting of schedule linear: leave it out"),
        ({"base": "fast", "gamma": 0.5}, "gamma is no setting of schedule linear: leave it out"),
        ({"base": "epic", "schedule": "cosine", "milestones": [7]}, "milestones is no setting of schedule cosine"),
        ({"optimizer": "rmsprop", "lr": 0.1}, "'sgd', 'adam' or 'adamw'"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        NamedRecipe.model_validate(values)
    assert words in str(caught.value)


def test_a_published_recipe_takes_another_optimizer() -> None:
    chosen = NamedRecipe.model_validate({"base": "learned-faster", "optimizer": "adamw", "lr": 1e-3})
    assert (chosen.optimizer, chosen.lr, chosen.milestones) == ("adamw", 1e-3, (50,))
    other = NamedRecipe.model_validate({"base": "epic", "schedule": "cosine", "milestones": None})
    for written in (chosen, other, NamedRecipe(base="fast"), NamedRecipe()):
        assert NamedRecipe.model_validate(written.model_dump(mode="json")) == written


def test_jobs_of_sgd_are_told_nothing_of_adam() -> None:
    told = NamedRecipe().told()
    assert not {"optimizer", "betas", "eps"} & told.keys()
    told = NamedRecipe(optimizer="adam", lr=0.1, eps=1e-6).told()
    assert (told["optimizer"], told["eps"], "betas" in told) == ("adam", 1e-6, False)
    assert Recipe.model_validate({name: value for name, value in told.items() if name != "base"}).optimizer == "adam"
