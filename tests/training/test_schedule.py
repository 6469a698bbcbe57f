"""Learning rates in closed form against torch's schedulers."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR

from poisonlab.config.recipe import Recipe, step_milestones
from poisonlab.training.schedule import crafting_rate, learning_rate


def rates(make: Callable[[torch.optim.Optimizer], LRScheduler], lr: float, count: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = make(optimizer)
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("length", "published"),
    [(40, (14, 24, 35)), (80, (29, 49, 70)), (250, (93, 156, 218))],
)
def test_released_milestones(length: int, published: tuple[int, ...]) -> None:
    assert step_milestones(length) == published
    assert Recipe(epochs=length).drops == published


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 0.1), (92, 0.1), (93, 1e-2), (155, 1e-2), (156, 1e-3), (218, 1e-4), (249, 1e-4)]
)
def test_the_rate_of_crafting_falls_tenfold_at_the_released_milestones(step: int, rate: float) -> None:
    assert crafting_rate(0.1, step, 250) == pytest.approx(rate)


def test_named_milestones_win() -> None:
    assert Recipe(epochs=80, milestones=(30, 50, 70)).drops == (30, 50, 70)
    assert Recipe(epochs=80, milestones=()).drops == ()
    assert learning_rate(Recipe(epochs=80, milestones=()), 79.9) == 0.1


@given(
    epochs=st.integers(1, 60),
    lr=st.floats(1e-3, 10),
    gamma=st.floats(0.05, 1),
    chosen=st.one_of(st.none(), st.sets(st.integers(1, 59), max_size=4)),
)
@settings(max_examples=60, deadline=None)
def test_steps_are_multistep_lr(epochs: int, lr: float, gamma: float, chosen: set[int] | None) -> None:
    named = None if chosen is None else tuple(sorted(m for m in chosen if m < epochs))
    recipe = Recipe(epochs=epochs, lr=lr, gamma=gamma, milestones=named)
    # A drop at epoch 0, which the formula has in one or two epochs, would be another rate to begin with.
    usual = [place for d in (2.667, 1.6, 1.142) if (place := int(epochs // d))]
    drops = usual if named is None else list(named)
    truth = rates(lambda optimizer: MultiStepLR(optimizer, drops, gamma), lr, epochs)
    for epoch in range(epochs):
        for within in (0, 0.25, 0.999):
            assert learning_rate(recipe, epoch + within) == pytest.approx(truth[epoch], rel=1e-9)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 2.5])
def test_linear_and_cosine_with_warmup(schedule: str, warmup: float) -> None:
    recipe = Recipe(epochs=10, lr=0.3, schedule=schedule, warmup_epochs=warmup)
    per_epoch = 7

    def factor(step: int) -> float:
        progress = step / per_epoch
        fall = 1 - progress / 10 if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress / 10))
        return fall * min(1.0, progress / warmup if warmup else 1.0)

    truth = rates(lambda optimizer: LambdaLR(optimizer, factor), 0.3, 10 * per_epoch)
    ours = [learning_rate(recipe, step / per_epoch) for step in range(10 * per_epoch)]
    assert ours == pytest.approx(truth, rel=1e-9, abs=1e-15)
    assert learning_rate(recipe, 10) == pytest.approx(0, abs=1e-15)
    assert learning_rate(recipe, 11) == pytest.approx(0, abs=1e-15)


def test_steps_with_warmup() -> None:
    recipe = Recipe(epochs=20, milestones=(3,), warmup_epochs=6)
    assert learning_rate(recipe, 0) == 0
    assert learning_rate(recipe, 2) == pytest.approx(0.1 * 2 / 6)
    assert learning_rate(recipe, 4) == pytest.approx(0.1 * 0.1 * 4 / 6)
    assert learning_rate(recipe, 6) == pytest.approx(0.01)
