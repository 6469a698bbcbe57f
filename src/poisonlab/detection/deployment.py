"""The result of a detector: the network as it is used after the examination."""

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
    """A network after a defender has examined it.

    Attributes:
        network: maps normalised images to logits; repaired or unchanged.
        rejects: decides which inputs are rejected; None accepts all.
        tensors: the detector's findings.
        facts: numbers about the findings.
    """

    network: nn.Module
    rejects: Rejects | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, float | list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class CleanImages:
    """The defender's clean images, in random order: (M, C, H, W) uint8 or float in [0, 1], and labels (M,) int64."""

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
    """Examine ``network`` with the detector that ``row`` (settings with ``method``) describes.

    Raises:
        SettingsError: a setting is unknown or impossible.
    """
    module = modules.load("detection", str(row.get("method")))
    deployment: Deployment = module.deploy(read_stage(module.Settings, row), network, normalize, clean, seed=seed)
    return deployment
