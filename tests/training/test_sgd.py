"""The optimiser: torch's own, bit for bit, without torch's compiler."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from poisonlab.config.recipe import Recipe
from poisonlab.training.sgd import sgd_of


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


@pytest.mark.parametrize("decay_norm_and_bias", [True, False])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, True)])
def test_same_bits_as_torch(momentum: float, nesterov: bool, decay_norm_and_bias: bool) -> None:
    recipe = Recipe(lr=0.1, momentum=momentum, nesterov=nesterov, decay_norm_and_bias=decay_norm_and_bias)
    ours, theirs = network(), copy.deepcopy(network())
    mine = sgd_of(ours, recipe)
    decayed = [p for p in theirs.parameters() if decay_norm_and_bias or p.ndim > 1]
    free = [p for p in theirs.parameters() if not decay_norm_and_bias and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": free, "weight_decay": 0.0}]
    reference = torch.optim.SGD(groups, lr=0.1, momentum=momentum, nesterov=nesterov and momentum > 0, fused=True)
    for step in range(4):
        mine.rate = reference.param_groups[0]["lr"] = reference.param_groups[1]["lr"] = 0.1 / (1 + step)
        images, labels = torch.randn(6, 3, 8, 8), torch.randint(5, (6,))
        for model, optimizer in ((ours, mine), (theirs, reference)):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("decay_norm_and_bias", [True, False])
def test_biases_have_a_rate_of_their_own(decay_norm_and_bias: bool) -> None:
    """Against torch, given two rates; and by hand: the decay alone moves every parameter by the same share."""
    recipe = Recipe(lr=0.1, bias_lr=16, weight_decay=0.01, decay_norm_and_bias=decay_norm_and_bias)
    ours, theirs = network(), network()
    mine = sgd_of(ours, recipe)
    weights, norms, biases = (
        [p for n, p in theirs.named_parameters() if kind(n, p)]
        for kind in (
            lambda n, p: p.ndim > 1,
            lambda n, p: n == "1.weight",
            lambda n, p: n in ("0.bias", "1.bias", "4.bias"),
        )
    )
    groups = [
        {"params": weights, "lr": 0.1, "weight_decay": 0.01},
        {"params": norms, "lr": 0.1, "weight_decay": 0.01 if decay_norm_and_bias else 0.0},
        {"params": biases, "lr": 0.1 * 16, "weight_decay": 0.01 / 16 if decay_norm_and_bias else 0.0},
    ]
    reference = torch.optim.SGD(groups, momentum=0.9, nesterov=True, fused=True)
    for _ in range(3):
        images, labels = torch.randn(6, 3, 8, 8), torch.randint(5, (6,))
        for model, optimizer in ((ours, mine), (theirs, reference)):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))

    still = network()
    before = {name: p.clone() for name, p in still.named_parameters()}
    for parameter in still.parameters():
        parameter.grad = torch.zeros_like(parameter)
    sgd_of(still, recipe.model_copy(update={"momentum": 0.0})).step()
    for name, parameter in still.named_parameters():
        decayed = decay_norm_and_bias or parameter.ndim > 1
        torch.testing.assert_close(parameter, before[name] * (1 - 0.1 * 0.01 if decayed else 1))


def test_what_has_no_gradient_stays() -> None:
    model = network()
    model[0].requires_grad_(False)
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer = sgd_of(model, Recipe(weight_decay=0.1))
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    F.cross_entropy(model(torch.randn(2, 3, 8, 8)), torch.tensor([0, 1])).backward()
    optimizer.step()
    assert torch.equal(model[0].weight, before[0])
    assert not torch.equal(model[4].weight, before[4])


def test_training_does_not_wait_for_the_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from poisonlab.config.recipe import Recipe\n"
        "from poisonlab.data.training_set import TrainingSet\n"
        "from poisonlab.models import small_resnet\n"
        "from poisonlab.models.classifier import Normalize\n"
        "from poisonlab.training.loop import train\n"
        "data = TrainingSet(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4), torch.arange(4))\n"
        "model = small_resnet.build(4, (3, 8, 8), width=2)\n"
        "for optimizer in ('sgd', 'adam', 'adamw'):\n"
        "    recipe = Recipe(epochs=1, precision='bfloat16', optimizer=optimizer)\n"
        "    train(model, Normalize((0.5,) * 3, (0.5,) * 3), data, recipe, seed=0)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
