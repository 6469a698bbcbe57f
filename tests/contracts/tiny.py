"""A tiny network, batch and training, for the tests of defenses that need all three."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.build import build_defenses
from poisonlab.defenses.defense import Batch, Defense
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.loop import train

MEAN, STD = (0.4, 0.5), (0.2, 0.3)
RANDOM_NOISE = {"method": "random-noise", "distribution": "bernoulli", "mu": 8}


def network(seed: int = 0, dropout: float = 0.3) -> Classifier:
    """For images (2, 6, 6) of three classes; its running statistics are not those of its data."""
    torch.manual_seed(seed)
    layers = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Softplus(), nn.Dropout(dropout), nn.Flatten()
    made = Classifier(nn.Sequential(*layers), nn.Linear(144, 3))
    statistics = made.extract.get_submodule("1")
    statistics.running_mean = torch.randn(4) * 0.3
    statistics.running_var = torch.rand(4) + 0.5
    return made


def batch_of(model: nn.Module, count: int = 12, seed: int = 0, images: Tensor | None = None) -> Batch:
    """Images (count, 2, 6, 6), drawn if not given, with labels 0, 1, 2, 0, ...; ``seed`` is that of its stream."""
    if images is None:
        images = torch.rand(count, 2, 6, 6, generator=torch.Generator().manual_seed(8))
    rows = torch.arange(len(images))
    stream = torch.Generator().manual_seed(seed)
    return Batch(images, rows % 3, rows, 0, stream, model, Normalize(MEAN, STD).to(images.dtype))


def state(model: nn.Module) -> list[tuple[str, bytes]]:
    """Weights, statistics, gradients and modes: what a defense must leave as it found it."""
    tensors = [*model.state_dict().items(), *((f"{n}.grad", p.grad) for n, p in model.named_parameters())]
    values = [(name, b"" if value is None else value.detach().numpy().tobytes()) for name, value in tensors]
    return values + [(name, str(module.training).encode()) for name, module in model.named_modules()]


class KilledError(Exception):
    """Stands for an interruption."""


def trained(rows: Sequence[Mapping[str, object]], saved: Path | None = None, **changes: Any) -> Tensor:
    """All weights after three epochs through the real loop; with ``saved``, killed after two and resumed."""
    recipe = Recipe(**{"epochs": 3, "batch_size": 8, "augmentation": Augmentation(pixels=1), **changes})
    stream = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (25, 2, 6, 6), generator=stream, dtype=torch.uint8)
    data = TrainingSet(images, torch.arange(25) % 3, torch.arange(25))
    defenses: list[Defense] = build_defenses(rows, noise=None)

    def run(model: nn.Module, kill_at: int | None) -> Tensor:
        epochs = []

        def observe(model: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
            epochs.append(1)
            if len(epochs) == kill_at:
                raise KilledError
            return {}

        state = None if saved is None else Checkpoint(saved, "f", interval=0)
        train(model, Normalize(MEAN, STD), data, recipe, seed=0, defenses=defenses, observe=observe, checkpoint=state)
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    if saved is not None:
        try:
            run(network(), kill_at=3)
        except KilledError:
            assert saved.exists()
            return run(network(seed=9), kill_at=None)
    return run(network(), kill_at=None)
