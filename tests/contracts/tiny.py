"""A tiny network, batch and training, for the tests of defenses that need all three."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.config.rows import Row
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.build import build_defenses
from poisonlab.models import small_resnet
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.defense import Batch, EpochRecord
from poisonlab.training.loop import train

MEAN, STD = (0.4, 0.5), (0.2, 0.3)
STILL = Augmentation(kind="none")


def network(seed: int = 0, dropout: float = 0.3) -> Classifier:
    """For images (2, 6, 6) of three classes; its running statistics are not those of its data."""
    torch.manual_seed(seed)
    layers = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Softplus(), nn.Dropout(dropout), nn.Flatten()
    made = Classifier(nn.Sequential(*layers), nn.Linear(144, 3))
    statistics = made.extract.get_submodule("1")
    statistics.running_mean = torch.randn(4) * 0.3
    statistics.running_var = torch.rand(4) + 0.5
    return made


def grouped(seed: int = 0, norm: str = "group") -> Classifier:
    """Likewise, with group norm, so that every example has a gradient of its own; its weights are not all 1."""
    torch.manual_seed(seed)
    model = small_resnet.build(3, (2, 6, 6), width=4, norm=norm)
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
    return model


def data_set(count: int = 24, seed: int = 3) -> TrainingSet:
    """uint8 images (count, 2, 6, 6) of three classes; a row is not a position."""
    stream = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 2, 6, 6), generator=stream, dtype=torch.uint8)
    return TrainingSet(images, torch.arange(count) % 3, 5 * torch.arange(count) + 2)


def batch_of(model: nn.Module, count: int = 12, seed: int = 0, images: Tensor | None = None) -> Batch:
    """Images (count, 2, 6, 6), drawn if not given, with labels 0, 1, 2, 0, ...; ``seed`` is that of its stream."""
    if images is None:
        images = torch.rand(count, 2, 6, 6, generator=torch.Generator().manual_seed(8))
    rows = torch.arange(len(images))
    stream = torch.Generator().manual_seed(seed)
    return Batch(images, rows % 3, rows, 0, stream, model, Normalize(MEAN, STD).to(images.dtype))


def state(model: nn.Module) -> list[tuple[str, bytes]]:
    """Weights, statistics, gradients, hooks and modes: what a look at a network must leave as it found it."""
    tensors = [*model.state_dict().items(), *((f"{n}.grad", p.grad) for n, p in model.named_parameters())]
    values = [(name, b"" if value is None else value.detach().cpu().numpy().tobytes()) for name, value in tensors]
    values += [
        (name, str((module.training, len(module._forward_hooks))).encode()) for name, module in model.named_modules()
    ]
    return values + [(name, str(parameter.requires_grad).encode()) for name, parameter in model.named_parameters()]


class KilledError(Exception):
    """Stands for an interruption."""


@dataclass
class Run:
    """The end of a training, what it was given, and what was left of that in every epoch."""

    weights: Tensor
    history: list[EpochRecord]
    left: list[TrainingSet]
    data: TrainingSet


def trained(
    rows: Sequence[Mapping[str, Any]],
    device: torch.device | str = "cpu",
    *,
    model: Classifier | None = None,
    seed: int = 0,
    saved: Path | None = None,
    kill_at: int | None = None,
    until: int | None = None,
    capture: bool = False,
    **changes: Any,
) -> Run:
    """A small training through the real loop, of three epochs unless a defense has a schedule of its own.

    Args:
        rows: settings of the defenses, which must go together. Friendly noise is drawn within its ``zeta``.
        model: trained in place; made for the rows if not given.
        saved: where every epoch is saved; a save that is there is gone on from.
        kill_at: raise ``KilledError`` at the end of this epoch (0-based), before it is saved.
        until, capture: see ``train``.
        changes: of the recipe.
    """
    row = Row.model_validate({"name": "row", "apply": rows})
    if model is None:
        model = grouped() if row.per_example else network()
    changed = {"epochs": 3, "batch_size": 8, "milestones": (2,), "augmentation": Augmentation(pixels=1), **changes}
    data = data_set()
    zeta = 0.0 if row.friendly is None else row.friendly.zeta / 255
    noise = torch.rand(200, 2, 6, 6, generator=torch.Generator().manual_seed(1)) * 2 - 1
    left: list[TrainingSet] = []

    def observe(model: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
        left.append(data)
        if len(left) == kill_at:
            raise KilledError
        return {}

    ended = train(
        model.to(device),
        Normalize(MEAN, STD).to(device),
        data,
        Recipe(**changed),
        seed=seed,
        defenses=build_defenses(rows, noise=zeta * noise),
        validation=data_set(12, seed=4),
        observe=observe,
        until=until,
        capture=capture,
        checkpoint=None if saved is None else Checkpoint(saved, "the same run", interval=0),
    )
    weights = torch.cat([value.detach().double().flatten().cpu() for value in model.state_dict().values()])
    return Run(weights, ended.history, left, data)
