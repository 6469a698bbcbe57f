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
    TrainingSet,
    activation_clustering,
    build_defenses,
    build_network,
    build_normalize,
    craft,
    deep_knn,
    friendly_noise,
    images_of,
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
LAST = BYTES.movedim(1, -1)
DULL = (BYTES / 255).to(torch.uint8)
NORMALIZE = build_normalize(DATA)
SHORT = Recipe(epochs=1, batch_size=7)


class Detached(nn.Module):
    """A fixed network below a head, as transfer learning has it."""

    def __init__(self) -> None:
        super().__init__()
        self.below = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            features = self.below(x)
        logits: torch.Tensor = self.head(features)
        return logits


def dataset(images: torch.Tensor) -> ImageDataset:
    return ImageDataset(images, LABELS, images, LABELS, ("a", "b", "c"), (0.5,) * 3, (0.3,) * 3)


def trained(data: Any = None, *, normalize: Any = NORMALIZE, **options: Any) -> object:
    return train(MODEL, normalize, training_set(DATA) if data is None else data, SHORT, seed=0, **options)


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
        (lambda: accuracy(MODEL, NORMALIZE, BYTES, LABELS.tolist()), "labels are a list: give a torch.Tensor"),
        (lambda: friendly_noise(MODEL, IMAGES, device="gpu"), "device 'gpu' cannot be used: give 'cpu', or 'cuda'"),
        (lambda: friendly_noise(MODEL, IMAGES, device=None), "device None cannot be used"),
        (lambda: build_network(SmallResNet(), DATA, seed=0, device="cuda:99"), "device 'cuda:99' cannot be used"),
        (lambda: build_normalize(DATA, "gpu"), "device 'gpu' cannot be used"),
        (
            lambda: friendly_noise(nn.Sequential(nn.Flatten(), nn.Linear(192, 3, device="meta")), IMAGES),
            "the network is on meta, but device is cpu: pass device='meta'",
        ),
        (lambda: trained(normalize=build_normalize(DATA, "meta")), "normalize is on meta, the network on cpu"),
        (lambda: build_network("small-resnet", DATA, seed=0), "takes the settings of a network, not a str"),
        (lambda: build_defenses(["jpeg"], noise=None), "a defense is a str: give a mapping with its method"),
        (lambda: trained(defenses=[{"method": "jpeg"}]), "a defense is a dict: build_defenses makes them"),
        (lambda: trained(normalize=nn.Identity()), r"normalize is a Identity: pass build_normalize\(dataset\)"),
        (lambda: trained(validation=DATA), "validation is a ImageDataset: give a TrainingSet"),
        (lambda: trained(until=2), "until is 2, but the recipe has 1 epochs"),
        (lambda: trained(TrainingSet(LAST, LABELS, torch.arange(30))), r"shape \(30, 8, 8, 3\) has channels last"),
        (lambda: friendly_noise(MODEL, LAST), r"put them first by .movedim\(-1, -3\)"),
        (lambda: images_of(TensorDataset(LAST, LABELS)), r"image 0 of the dataset: shape \(8, 8, 3\)"),
        (lambda: dataset(LAST), r"train images: shape \(30, 8, 8, 3\) has channels last"),
        (lambda: dataset(BYTES / 255), r"not torch.float32 .*: multiply floats in \[0, 1\] by 255 and round"),
        (lambda: dataset(DULL), "no train image has a pixel above 1: multiply floats"),
        (lambda: friendly_noise(MODEL, BYTES > 9), r"not bool: convert them with .float\(\)"),
        (lambda: friendly_noise(nn.Sequential(MODEL, nn.Softmax(1)), IMAGES), "probabilities: leave out its softmax"),
        (lambda: friendly_noise(Detached(), IMAGES), r"no gradient by the images: leave torch.no_grad\(\)"),
        (lambda: craft("gradient-matching", DATA, Detached(), budget=0.1), "no gradient by the images"),
        (lambda: craft("badnets", DATA, seeds=[1]), "seeds is a key of studies, without effect here"),
        (lambda: training_set(training_set(DATA)), "takes an ImageDataset, not a TrainingSet"),
        (lambda: training_set(DATA, "a.safetensors"), r"the poisons are a str: give a PoisonSet, as PoisonSet.load"),
        (lambda: training_set(DATA, rows=torch.arange(21) > 9), r"of a mask, give mask.nonzero\(\)\[:, 0\]"),
        (
            lambda: activation_clustering(IMAGES.flatten(1), torch.arange(4) % 2, threshold=35),
            r"threshold 35: give .* as threshold a share in \(0, 1\]",
        ),
        (lambda: activation_clustering(IMAGES.flatten(1), torch.arange(4) % 2, dims=0), "dims is 0"),
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
