"""Adversarial training: the loss rises on every image, within the bound, and the network is left alone."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from tiny import batch_of, network
from torch import nn

from poisonlab.defenses.adversarial_training import Settings, build
from poisonlab.models.classifier import Normalize
from poisonlab.training.defense import Batch


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
