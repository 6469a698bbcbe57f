"""Adversarial training: the loss rises on every image, within the bound, and the network is left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny import MEAN, RANDOM_NOISE, STD, batch_of, network, state, trained
from torch import Tensor, nn

from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.adversarial_training import Settings, build
from poisonlab.models.classifier import Normalize
from poisonlab.training.defense import Batch, Defense
from poisonlab.training.loop import train

AT = {"method": "adversarial-training", "eps": 8}
NORMALIZE = Normalize(MEAN, STD)


@pytest.mark.parametrize("eps", [4.0, 16.0])
def test_it_raises_the_loss_of_the_whole_batch_within_the_bound(eps: float) -> None:
    model = network().train()
    images = torch.rand(12, 2, 6, 6, generator=torch.Generator().manual_seed(8))
    batch = batch_of(model, images=NORMALIZE(images))
    inputs, labels = build(Settings(eps=eps)).change_inputs(batch)
    assert labels is batch.labels
    changed = inputs * NORMALIZE.std + NORMALIZE.mean
    assert (changed - images).abs().max() <= eps / 255 + 1e-6
    assert changed.min() >= -1e-6
    assert changed.max() <= 1 + 1e-6
    model.eval()
    before, after = (F.cross_entropy(model(x), labels, reduction="none") for x in (batch.images, inputs))
    assert (after > before).all()


def test_of_two_classes_it_is_known_where_it_ends() -> None:
    """Logistic regression with two classes: the loss falls along w_y - w_other, so all pixels end at eps against it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 2)).double()
    images = torch.rand(6, 2, 2, 2, dtype=torch.float64) * 0.6 + 0.2
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    normalize = Normalize((0.5, 0.25), (0.25, 0.5)).double()
    batch = Batch(normalize(images), labels, torch.arange(6), 0, torch.Generator().manual_seed(1), model, normalize)
    changed, _ = build(Settings(eps=8, steps=9)).change_inputs(batch)
    weight = model[1].weight.detach()
    away = (weight[1 - labels] - weight[labels]).sign().view(6, 2, 2, 2)
    torch.testing.assert_close(changed, normalize(images + away * 8 / 255))


def test_labels_may_be_probabilities() -> None:
    batch = batch_of(network())
    hard, _ = build(Settings()).change_inputs(batch)
    certain = F.one_hot(batch_of(network()).labels, 3).float()
    soft, labels = build(Settings()).change_inputs(replace(batch_of(network()), labels=certain))
    assert labels is certain
    torch.testing.assert_close(soft, hard)
    # Against the opposite labels, the perturbation is another one.
    other, _ = build(Settings()).change_inputs(replace(batch_of(network()), labels=(1 - certain) / 2))
    assert (other - hard).abs().max() > 0.1


def test_the_network_is_left_as_it_was_and_the_generator_decides() -> None:
    model = network().train()
    model.extract.get_submodule("1").eval()
    next(model.parameters()).grad = torch.ones(4, 2, 3, 3)
    before, drawn = state(model), torch.get_rng_state()
    # One short step, so that the random start is still to be seen.
    defense = build(Settings(steps=1, lr=0.01))
    first, again, other = (defense.change_inputs(batch_of(model, seed=seed))[0] for seed in (1, 1, 2))
    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_the_network_is_trained_on_is_augmented_first_and_perturbed_to_the_bound_after() -> None:
    """Augmentation between perturbation and step, as interpolation, would take some of it away again."""
    normalize = Normalize(MEAN, STD)
    images = torch.rand(8, 2, 6, 6, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2
    recipe = Recipe(epochs=1, batch_size=8, milestones=(), augmentation=Augmentation(pixels=2), channels_last=False)

    def given(*defenses: Defense) -> Tensor:
        torch.manual_seed(0)
        model, seen = nn.Sequential(nn.Flatten(), nn.Linear(72, 2)), []

        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if module.training:
                seen.append(inputs[0])

        model.register_forward_pre_hook(note)
        data = TrainingSet(images, torch.arange(8) % 2, torch.arange(8))
        train(model, normalize, data, recipe, seed=0, defenses=defenses)
        (only,) = seen
        return only

    moved = (given(build(Settings(eps=8, steps=9))) - given()) * normalize.std
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 8 / 255), rtol=0, atol=1e-6)


def test_it_trains_alone_and_with_noise_and_resumes_to_the_bit(tmp_path: Path) -> None:
    runs = [trained(rows) for rows in ([], [AT], [RANDOM_NOISE, AT])]
    assert all(bool(torch.isfinite(weights).all()) for weights in runs)
    assert len({tuple(weights.tolist()) for weights in runs}) == 3
    assert torch.equal(trained([RANDOM_NOISE, AT], saved=tmp_path / "state"), runs[2])
