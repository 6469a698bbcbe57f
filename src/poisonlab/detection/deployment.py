"""A detector's outcome on a trained network: the network as it is used from then on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from poisonlab import modules
from poisonlab.config.stages import read_stage
from poisonlab.models.classifier import Normalize
from poisonlab.models.outputs import Rejects


@dataclass(frozen=True)
class Deployment:
    """A network in the hands of a defender who has examined it.

    Attributes:
        network: maps normalised images to logits; repaired, or as it was.
        rejects: watches the inputs; None accepts all.
        tensors: what was found.
        facts: numbers about it.
    """

    network: nn.Module
    rejects: Rejects | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, float | list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class CleanImages:
    """Clean images of the defender's, in random order: (M, C, H, W) uint8 or float in [0, 1], and labels (M,) int64."""

    images: Tensor
    labels: Tensor
    num_classes: int


def draw_clean(images: Tensor, labels: Tensor, num_classes: int, share: float, stream: torch.Generator) -> CleanImages:
    """A random ``share`` of clean images, at least two; ``stream`` is on the CPU."""
    count = max(2, round(share * len(images)))
    rows = torch.randperm(len(images), generator=stream)[:count]
    return CleanImages(images[rows], labels[rows], num_classes)


def deploy(
    row: Mapping[str, object], network: nn.Module, normalize: Normalize, clean: CleanImages, *, seed: int
) -> Deployment:
    """Examine ``network`` by the detector that ``row`` (settings with ``method``) describes.

    Raises:
        SettingsError: a setting is unknown or impossible.
    """
    module = modules.load("detection", str(row.get("method")))
    deployment: Deployment = module.deploy(read_stage(module.Settings, row), network, normalize, clean, seed=seed)
    return deployment
