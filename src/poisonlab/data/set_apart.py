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
    """The settings with those of the other source, which its module checks."""

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
    """The dataset with ``first`` of the last images of each class at the end of the rows of their class.

    Args:
        dataset: of N training images; its labels stay as they are.
        last_per_class: how many images of each class are put in another order.
        first: how many of these go to the end; at most as many.

    Raises:
        DataError: a class has fewer images.
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
