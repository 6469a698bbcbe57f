"""Adversarial training: the loss rises on every image, within the bound, and the network is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny import RANDOM_NOISE, batch_of, network, state, trained
from torch import nn

from poisonlab.defenses.adversarial_training import Settings, build
from poisonlab.defenses.defense import Batch
from poisonlab.models.classifier import Normalize

AT = {"method": "adversarial-training", "eps": 8}


@pytest.mark.parametrize("eps", [4.0, 16.0])
def test_it_raises_the_loss_of_the_whole_batch_within_the_bound(eps: float) -> None:
    model = network().train()
    batch = batch_of(model)
    changed = build(Settings(eps=eps)).change_batch(batch)
    assert (changed - batch.images).abs().max() <= eps / 255 + 1e-6
    assert changed.min() >= -1e-6
    assert changed.max() <= 1 + 1e-6
    model.eval()
    before, after = (
        F.cross_entropy(model(batch.normalize(images)), batch.labels, reduction="none")
        for images in (batch.images, changed)
    )
    assert (after > before).all()


def test_of_two_classes_it_is_known_where_it_ends() -> None:
    """Logistic regression with two classes: the loss falls along w_y - w_other, so all pixels end at eps against it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 2)).double()
    images = torch.rand(6, 2, 2, 2, dtype=torch.float64) * 0.6 + 0.2
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    normalize = Normalize((0.5, 0.25), (0.25, 0.5)).double()
    batch = Batch(images, labels, torch.arange(6), 0, torch.Generator().manual_seed(1), model, normalize)
    changed = build(Settings(eps=8, steps=9)).change_batch(batch)
    weight = model[1].weight.detach()
    away = (weight[1 - labels] - weight[labels]).sign().view(6, 2, 2, 2)
    torch.testing.assert_close(changed, images + away * 8 / 255)


def test_the_network_is_left_as_it_was_and_the_generator_decides() -> None:
    model = network().train()
    model.extract.get_submodule("1").eval()
    next(model.parameters()).grad = torch.ones(4, 2, 3, 3)
    before, drawn = state(model), torch.get_rng_state()
    # One short step, so that the random start is still to be seen.
    defense = build(Settings(steps=1, lr=0.01))
    first, again, other = (defense.change_batch(batch_of(model, seed=seed)) for seed in (1, 1, 2))
    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_it_trains_alone_and_with_noise_on_either_side(tmp_path: Path) -> None:
    runs = [trained(rows) for rows in ([], [AT], [AT, RANDOM_NOISE], [RANDOM_NOISE, AT])]
    assert all(bool(torch.isfinite(weights).all()) for weights in runs)
    assert len({tuple(weights.tolist()) for weights in runs}) == 4
    assert torch.equal(trained([AT, RANDOM_NOISE], saved=tmp_path / "state"), runs[2])
