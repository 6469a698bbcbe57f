"""Library calls with arguments of the wrong kind: what is meant is taken, or one sentence says what is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from poisonlab import (
    FriendlyDataset,
    ImageDataset,
    PoisonlabError,
    PoisonSet,
    build_network,
    build_normalize,
    craft,
    deep_knn,
    friendly_noise,
    load_dataset,
    train,
    training_set,
    wrap,
)
from poisonlab.config.models.small_resnet import SmallResNet
from poisonlab.config.recipe import Recipe
from poisonlab.models.outputs import accuracy

BYTES = torch.randint(0, 256, (30, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.arange(30) % 3
DATA = ImageDataset(BYTES[:21], LABELS[:21], BYTES[21:], LABELS[21:], ("a", "b", "c"), (0.5,) * 3, (0.3,) * 3)
IMAGES = torch.rand(4, 3, 8, 8)
MODEL = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
PAIRS = TensorDataset(IMAGES, torch.arange(4))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: friendly_noise(MODEL, IMAGES.numpy()), "images are a ndarray: give a torch.Tensor"),
        (lambda: friendly_noise(MODEL, list(IMAGES)), "images are a list: give a torch.Tensor"),
        (lambda: friendly_noise(MODEL, IMAGES, {"zeta": 16}), r"settings are a dict: pass FriendlyNoise\(zeta=16\)"),
        (lambda: FriendlyDataset(PAIRS, np.zeros((4, 3, 8, 8))), "noise is a ndarray: give a torch.Tensor"),
        (lambda: FriendlyDataset(PAIRS, None), "noise is a NoneType"),
        (lambda: load_dataset("photos"), r"not a str: source_at\(Path\(...\)\)"),
        (lambda: load_dataset({"source": "cifar10"}), "takes the settings of a source, not a dict"),
        (lambda: train(MODEL, build_normalize(DATA), DATA, Recipe(), seed=0), r"training_set\(dataset\)"),
        (lambda: deep_knn(IMAGES.flatten(1), torch.arange(4) % 2, k=2.5), "k=2.5 neighbours: give a whole number"),
        (lambda: deep_knn(IMAGES.flatten(1), torch.arange(4) % 2, k="2"), "k='2' neighbours: give a whole number"),
        (lambda: friendly_noise(MODEL, IMAGES, chunk=0), "chunk is 0: give 1 image or more"),
        (lambda: friendly_noise(MODEL, IMAGES, chunk=-1), "chunk is -1: give 1 image or more"),
        (lambda: wrap(MODEL.forward), "the network is a method: give a torch.nn.Module"),
        (lambda: craft("badnets", training_set(DATA)), "craft takes an ImageDataset, not a TrainingSet"),
        (lambda: accuracy(MODEL, build_normalize(DATA), BYTES, LABELS[:1]), r"labels of 30 images have shape \(1,\)"),
        (
            lambda: accuracy(MODEL, build_normalize(DATA), BYTES, LABELS[:, None]),
            r"have shape \(30, 1\): give one each",
        ),
    ],
)
def test_the_wrong_kind_is_one_sentence(call: Any, words: str) -> None:
    with pytest.raises(PoisonlabError, match=words):
        call()


def test_one_network_needs_no_list_and_a_path_may_be_text(tmp_path: Path) -> None:
    network = build_network(SmallResNet(width=4, stem_stride=1), DATA, seed=0)
    made = [
        craft("bullseye-polytope", DATA, given, budget=0.1, steps=2, target="random")
        for given in (network, [network], nn.ModuleList([network]))
    ]
    assert torch.equal(made[0].images, made[1].images)
    assert torch.equal(made[0].images, made[2].images)
    made[0].save(str(tmp_path / "a.safetensors"))
    assert torch.equal(PoisonSet.load(str(tmp_path / "a.safetensors")).images, made[0].images)
    with pytest.raises(PoisonlabError, match="missing"):
        PoisonSet.load(str(tmp_path / "b.safetensors"))


def test_any_whole_number_will_do_for_k() -> None:
    features, labels = IMAGES.flatten(1), torch.arange(4) % 2
    assert torch.equal(deep_knn(features, labels, k=np.int64(2)).keep, deep_knn(features, labels, k=2).keep)
