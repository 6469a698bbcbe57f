"""Build a network from its settings; keep and restore its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from poisonlab import modules
from poisonlab.artifacts.files import read_tensors, write_tensors
from poisonlab.config.models import ModelSettings
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import DataError
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.randomness import stream_seed

KIND = "network"


def build_network(
    settings: ModelSettings, dataset: ImageDataset, *, seed: int, device: torch.device | str = "cpu"
) -> Classifier:
    """A freshly initialised network for the dataset's shape and classes; the seed fixes every weight.

    Raises:
        SettingsError: the architecture cannot take images of this size.
    """
    torch.manual_seed(stream_seed(seed, "weights"))
    module = modules.load("models", settings.name)
    options = settings.model_dump(exclude={"name"})
    network: Classifier = module.build(dataset.num_classes, dataset.image_shape, **options)
    return network.to(device)


def build_normalize(dataset: ImageDataset, device: torch.device | str = "cpu") -> Normalize:
    """The dataset's normalisation."""
    return Normalize(dataset.mean, dataset.std).to(device)


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
