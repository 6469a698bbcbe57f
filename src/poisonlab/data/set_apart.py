"""A dataset whose images to fine-tune on come last in each class: the split of convex polytope (Zhu et al. 2019)."""

from __future__ import annotations

from dataclasses import replace

import torch

from poisonlab import modules
from poisonlab.config.data.set_apart import SetApart
from poisonlab.config.stages import read_stage
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.sources import load_dataset
from poisonlab.errors import DataError


class Settings(SetApart):
    """The settings, with the other source's settings still unchecked: its module checks them."""

    of: dict[str, object]


def load(settings: Settings) -> ImageDataset:
    """Read the other source and put the images in order.

    Raises:
        DataError: a class has fewer than ``last_per_class`` training images; also whatever the other source raises.
    """
    module = modules.load("data", str(settings.of.get("source")))
    dataset = load_dataset(read_stage(module.Settings, settings.of))
    return fine_tuning_last(dataset, settings.last_per_class, settings.first)


def fine_tuning_last(dataset: ImageDataset, last_per_class: int, first: int) -> ImageDataset:
    """The dataset in which the first ``first`` of each class's ``last_per_class`` last images come last in the class.

    Args:
        dataset: N training images; their labels stay in place.
        last_per_class: how many images at the end of each class are reordered.
        first: how many of these move to the end, at most ``last_per_class``.

    Raises:
        DataError: a class has fewer than ``last_per_class`` images.
    """
    order = torch.arange(len(dataset.train_labels))
    for label, name in enumerate(dataset.class_names):
        rows = torch.nonzero(dataset.train_labels == label).flatten()
        if len(rows) < last_per_class:
            raise DataError(
                f"dataset: class {name!r} has {len(rows)} training images, fewer than last_per_class {last_per_class}: "
                "lower it"
            )
        order[rows[-last_per_class:]] = rows[-last_per_class:].roll(-first)
    return replace(dataset, train_images=dataset.train_images[order])
