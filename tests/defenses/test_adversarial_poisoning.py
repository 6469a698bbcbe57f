"""Adversarial poisoning: its objective and steps against slow ones, and what it must leave alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import MEAN, STD, batch_of, network
from torch import Tensor, nn

from poisonlab.defenses.adversarial_poisoning import (
    Settings,
    build,
    most_frequent,
    poison_count,
    weight_gradient,
)
from poisonlab.models.classifier import FrozenFeatures, Normalize
from poisonlab.models.gradient_angle import matching_loss
from poisonlab.training.defense import Batch

NORMALIZE = Normalize(MEAN, STD)

# --- the rule -------------------------------------------------------------------------------------------------


def slow_misalignment(weight: np.ndarray, bias: np.ndarray, sets: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """1 - cosine of the cross-entropy's gradients of logistic regression on two sets: (p - y) x^T and p - y."""
    gradients = []
    for inputs, labels in sets:
        total = np.zeros(weight.size + bias.size)
        for x, y in zip(inputs.reshape(len(inputs), -1), labels, strict=True):
            logits = weight @ x + bias
            residual = np.exp(logits - logits.max())
            residual /= residual.sum()
            residual[y] -= 1
            total += np.concatenate([np.outer(residual, x).ravel(), residual]) / len(labels)
        gradients.append(total)
    a, b = gradients
    return float(1 - a @ b / np.sqrt((a @ a) * (b @ b)))


def test_against_logistic_regression_with_finite_differences() -> None:
    """Two steps of Adam: start, gradient by differences of the closed form, signs, bound."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3)).double()
    weight, bias = (p.detach().numpy() for p in model[1].parameters())
    images = torch.rand(5, 2, 2, 2, dtype=torch.float64) * 0.6 + 0.2
    labels = torch.tensor([2, 0, 2, 1, 0])
    normalize = Normalize((0.5, 0.25), (0.25, 0.5)).double()
    inputs = normalize(images)
    batch = Batch(inputs, labels, torch.arange(5), 0, torch.Generator().manual_seed(6), model, normalize)
    changed, kept = build(Settings(share=0.6, steps=2, lr=0.05)).change_inputs(batch)
    assert kept is labels

    std, eps = np.array([0.25, 0.5]).reshape(1, 2, 1, 1), 16 / 255
    x = ((images.numpy() - np.array([0.5, 0.25]).reshape(1, 2, 1, 1)) / std)[:3]
    targets = inputs[3:].numpy(), np.array([2, 2])
    start = torch.randn(3, 2, 2, 2, generator=torch.Generator().manual_seed(6), dtype=torch.float64).numpy()
    delta = np.clip(start * eps / std, -eps / std, eps / std)
    first, second = np.zeros_like(delta), np.zeros_like(delta)
    for number in (1, 2):
        slope = np.zeros_like(delta)
        for place in np.ndindex(delta.shape):
            ends = []
            for shift in (1e-6, -1e-6):
                moved = delta.copy()
                moved[place] += shift
                ends.append(slow_misalignment(weight, bias, [(x + moved, np.array([2, 0, 2])), targets]))
            slope[place] = (ends[0] - ends[1]) / 2e-6
        assert np.abs(slope).min() > 1e-7, "a sign is in doubt"
        first, second = 0.9 * first + 0.1 * np.sign(slope), 0.999 * second + 0.001
        delta -= 0.05 * first / (1 - 0.9**number) / np.sqrt(second / (1 - 0.999**number))
        delta = np.clip(delta, -eps / std, eps / std)
    np.testing.assert_allclose(changed[:3].numpy(), x + delta, rtol=0, atol=1e-8)
    assert torch.equal(changed[3:], inputs[3:])


def test_a_zero_gradient_gives_no_direction_instead_of_nan() -> None:
    zero = torch.zeros(3, requires_grad=True)
    value = matching_loss([zero], [torch.ones(3)])
    (gradient,) = torch.autograd.grad(value, zero)
    assert value.item() == 1
    assert not bool(gradient.any())
    # A network that is sure to the last bit has such gradients; then the images stay within the bound, and finite.
    model = network(dropout=0)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([1e6, 0, 0]))
    batch = replace(batch_of(model), labels=torch.zeros(12, dtype=torch.int64))
    changed, _ = build(Settings()).change_inputs(batch)
    assert ((changed - batch.images) * NORMALIZE.std).abs().max() <= 16 / 255 + 1e-6


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_the_fake_label_is_the_most_frequent_and_of_several_the_smallest(labels: list[int]) -> None:
    counts = Counter(labels)
    expected = min(label for label, count in counts.items() if count == max(counts.values()))
    assert most_frequent(torch.tensor(labels)).tolist() == [expected]


@pytest.mark.parametrize(
    ("size", "share", "count"),
    [
        (128, 0.25, 32),
        (128, 0.5, 64),
        (128, 0.75, 96),
        (80, 0.25, 20),
        (2, 0.9, 1),
        (2, 0.1, 1),
        (3, 0.9, 2),
        (1, 0.5, 0),
    ],
)
def test_how_many_are_poisoned(size: int, share: float, count: int) -> None:
    assert poison_count(size, share) == count


# --- in a batch -----------------------------------------------------------------------------------------------


def test_a_batch_of_one_is_left_alone() -> None:
    batch = batch_of(network(), count=1)
    inputs, labels = build(Settings()).change_inputs(batch)
    assert inputs is batch.images
    assert labels is batch.labels


def test_of_frozen_features_only_the_head_is_matched() -> None:
    plain = network()
    frozen = FrozenFeatures(plain.extract, plain.head)
    assert [part.shape for part in weight_gradient(frozen, torch.zeros(2, 2, 6, 6), torch.tensor([0, 1]))] == [
        (3, 144),
        (3,),
    ]
    batch = batch_of(frozen.train())
    changed, _ = build(Settings()).change_inputs(batch)
    assert not torch.equal(changed[:6], batch.images[:6])
    assert torch.equal(changed[6:], batch.images[6:])


def test_the_fake_label_of_mixed_labels_is_their_most_frequent_largest() -> None:
    """Classes 1, 1 and 0 lead; class 2 has the largest mass and leads nowhere."""
    mixed = torch.tensor([[0.05, 0.5, 0.45], [0.05, 0.5, 0.45], [0.55, 0.0, 0.45], [1, 0, 0], [0, 0, 1], [0, 1, 0]])
    model = network().train()
    batch = replace(batch_of(model, count=6), labels=mixed)
    changed, _ = build(Settings()).change_inputs(batch)
    model.eval()

    def angle(inputs: Tensor, fake: int) -> float:
        goal = weight_gradient(model, batch.images[3:], torch.full((3,), fake))
        return matching_loss(weight_gradient(model, inputs[:3], mixed[:3]), goal).item()

    fallen = [angle(batch.images, fake) - angle(changed, fake) for fake in range(3)]
    assert fallen[1] > 0.01
    assert fallen[1] == max(fallen)
