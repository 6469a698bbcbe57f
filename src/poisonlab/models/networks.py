"""Build a network from its settings; save and load its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from poisonlab import modules
from poisonlab.artifacts.tensors import read_tensors, write_tensors
from poisonlab.config.models.model import Model
from poisonlab.config.start import Start
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import DataError, SettingsError
from poisonlab.models.classifier import Classifier, FrozenFeatures, Normalize
from poisonlab.models.surroundings import random_streams_kept, usable
from poisonlab.randomness import stream_seed

KIND = "network"


def build_network(
    settings: Model, dataset: ImageDataset, *, seed: int, device: torch.device | str = "cpu"
) -> Classifier:
    """A freshly initialised network for the dataset's shape and classes. The seed determines every weight, except those
    that the architecture computes from the clean training images.

    Raises:
        SettingsError: ``settings`` are not those of a network, the architecture cannot take images of this size, or
            there is no such device.
    """
    if not isinstance(settings, Model):
        raise SettingsError(
            f"build_network takes the settings of a network, not a {type(settings).__name__}: pass for example "
            "SmallResNet() of poisonlab.config.models.small_resnet"
        )
    device = usable(device)
    module = modules.load("models", settings.name)
    options = settings.model_dump(exclude={"name"})
    with random_streams_kept(device):
        torch.manual_seed(stream_seed(seed, "weights"))
        network: Classifier = module.build(dataset.num_classes, dataset.image_shape, **options)
        if hasattr(module, "adapt"):
            module.adapt(network, dataset)
    return network.to(device)


def read_network(path: Path, settings: Model, dataset: ImageDataset, device: torch.device | str = "cpu") -> Classifier:
    """A trained network.

    Raises:
        DataError: the file is missing, damaged, or holds another architecture.
    """
    network = build_network(settings, dataset, seed=0, device=device)
    load_weights(path, network)
    return network


def build_victim(
    settings: Model,
    start: Start,
    dataset: ImageDataset,
    pretrained: Path | None,
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> Classifier:
    """A victim before its first epoch: fresh, or begun from ``pretrained`` weights.

    Raises:
        SettingsError: the scenario needs pretrained weights and there are none.
        DataError: the weights are missing, damaged, or of another architecture.
    """
    network = build_network(settings, dataset, seed=seed, device=device)
    if start.scenario == "from-scratch":
        return network
    if pretrained is None:
        raise SettingsError(f"scenario {start.scenario} needs --pretrained weights")
    return begin_from(network, pretrained, start, seed=seed)


def begin_from(network: Classifier, weights: Path, start: Start, *, seed: int) -> Classifier:
    """Turn a freshly initialised network into a victim that begins from pretrained weights.

    Args:
        network: freshly initialised; its head is the fresh one.
        weights: of the same architecture, for the same number of classes.
        start: whether the pretrained head is kept, and whether the features are frozen.
        seed: of the fresh head.

    Raises:
        DataError: the weights are missing, damaged, or of another architecture.
    """
    device = network.head.weight.device
    load_weights(weights, network)
    if start.head == "fresh":
        with random_streams_kept(device):
            torch.manual_seed(stream_seed(seed, "head"))
            network.head = nn.Linear(network.head.in_features, network.head.out_features).to(device)
    if start.scenario == "transfer":
        return FrozenFeatures(network.extract, network.head, start.batch_norm)
    return network


def build_normalize(dataset: ImageDataset, device: torch.device | str = "cpu") -> Normalize:
    """The dataset's normalisation.

    Raises:
        SettingsError: there is no such device.
    """
    return Normalize(dataset.mean, dataset.std).to(usable(device))


def save_weights(path: Path, network: nn.Module, facts: dict[str, Any]) -> None:
    """Write the weights and buffers as one safetensors file."""
    write_tensors(path, KIND, network.state_dict(), facts)


def load_weights(path: Path, network: nn.Module) -> None:
    """Read weights into ``network``.

    Raises:
        DataError: the file is missing, damaged, or holds another architecture.
    """
    tensors, _ = read_tensors(path, KIND)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(f"{path} holds the weights of another architecture: was the config changed?") from error
