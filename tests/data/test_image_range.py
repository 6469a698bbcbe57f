"""Images in other units than the lab's are refused wherever a public function takes some."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.defenses.friendly_noise import FriendlyNoise
from poisonlab.config.recipe import Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.image_range import check_images
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.friendly_noise import friendly_noise
from poisonlab.detection.neural_cleanse import ReversedTrigger, repair, reverse_triggers
from poisonlab.detection.strip import entropies
from poisonlab.errors import DataError
from poisonlab.landscapes.layer_distances import by_layer
from poisonlab.landscapes.output_std import output_std
from poisonlab.landscapes.surfaces import matching_loss_surface, training_loss_surface, weight_loss_surface
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.models.outputs import accuracy, outputs_of
from poisonlab.training.loop import train

LABELS = torch.arange(6) % 2


def network() -> Classifier:
    return Classifier(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))


def deeper() -> Classifier:
    return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 4)), nn.Linear(4, 2))


def normalize() -> Normalize:
    return Normalize((0.5,) * 3, (0.25,) * 3)


def good() -> Tensor:
    return torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def _train(images: Tensor) -> object:
    data = TrainingSet(images, LABELS, torch.arange(6))
    return train(network(), normalize(), data, Recipe(epochs=1, batch_size=3), seed=0)


def _poison_set(images: Tensor) -> object:
    bases = torch.zeros(6, 3, 4, 4, dtype=torch.uint8)
    return PoisonSet(torch.arange(6), images, LABELS, bases)


def _surface(images: Tensor) -> object:
    return training_loss_surface(network(), images, LABELS, (good(), good()), torch.tensor([0.0, 1.0]))


def _weights(images: Tensor) -> object:
    return weight_loss_surface(network(), images, LABELS, ({}, {}), torch.tensor([0.0, 1.0]))


def _matching(images: Tensor) -> object:
    goal, directions = (torch.ones(2, 48), torch.ones(2)), (good()[:1], good()[1:2])
    return matching_loss_surface(network(), images[:1], LABELS[:1], goal, directions, torch.tensor([0.0, 1.0]))


PUBLIC: dict[str, Callable[[Tensor], object]] = {
    "friendly_noise": lambda images: friendly_noise(network(), images, FriendlyNoise(steps=1)),
    "outputs_of": lambda images: outputs_of(network(), normalize(), images),
    "accuracy": lambda images: accuracy(network(), normalize(), images, LABELS),
    "train": _train,
    "PoisonSet": _poison_set,
    "STRIP": lambda images: entropies(network(), normalize(), images, good(), torch.Generator(), count=1),
    "STRIP's overlays": lambda images: entropies(network(), normalize(), good(), images, torch.Generator(), count=1),
    "Neural Cleanse": lambda images: (
        reverse_triggers(network(), normalize(), images, 0, seed=0)
        + reverse_triggers(network(), normalize(), images, 1, seed=0)
    ),
    "repair": lambda images: repair(network(), normalize(), images, LABELS, [], seed=0),
    "stamp": lambda images: ReversedTrigger(0, torch.ones(1, 4, 4), torch.ones(3, 4, 4), 1.0, True, 1.0).stamp(images),
    "output_std": lambda images: output_std(network(), images, LABELS, (50.0,), 4, torch.Generator()),
    "training_loss_surface": _surface,
    "weight_loss_surface": _weights,
    "matching_loss_surface": _matching,
    "by_layer": lambda images: by_layer(deeper(), normalize(), images, lambda _, output: output.norm(dim=1)),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_function_checks_the_range(name: str) -> None:
    PUBLIC[name](good())
    for wrong, cure in (
        (good() * 255, "divide them by 255"),
        (good() - 0.5, "undo their normalisation"),
        (torch.full_like(good(), torch.nan), "but hold NaN: replace"),
    ):
        with pytest.raises(DataError, match=cure):
            PUBLIC[name](wrong)


@pytest.mark.parametrize("name", PUBLIC)
def test_bytes_are_the_pixels_that_they_stand_for(name: str) -> None:
    if name == "PoisonSet":
        return  # keeps bytes only
    levels = (good() * 255).round()

    def result(images: Tensor) -> object:
        torch.manual_seed(0)  # of the network
        return PUBLIC[name](images)

    of_bytes, of_floats = result(levels.to(torch.uint8)), result(levels / 255)
    if isinstance(of_floats, Tensor):
        assert float(of_floats.abs().max()) > 0
        torch.testing.assert_close(of_bytes, of_floats)


def test_integers_that_are_no_pixels_are_refused() -> None:
    with pytest.raises(DataError, match=r"not int64: convert them with"):
        check_images(torch.zeros(2, 3, 4, 4, dtype=torch.int64))


def test_rounding_and_nothing_at_all_pass() -> None:
    check_images(torch.tensor([-1e-7, 1 + 1e-6]))
    check_images(torch.zeros(0, 3, 4, 4))


@pytest.mark.parametrize(("mean", "std"), [((127.5,), (0.5,)), ((0.5,), (63.75,)), ((-0.1,), (0.5,))])
def test_statistics_beyond_the_range_are_refused(mean: tuple[float], std: tuple[float]) -> None:
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    for build in (
        lambda: Normalize(mean, std),
        lambda: ImageDataset(images, torch.arange(2), images, torch.arange(2), ("a", "b"), mean, std),
    ):
        with pytest.raises(DataError, match=r"beyond \[0, 1\]: divide it by 255"):
            build()
