"""Early stopping by histories written out, and on a network that gets worse."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny import MEAN, STD, KilledError, network
from torch import nn

from poisonlab.config.measures import REPORTED
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.config.rows import Row
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.build import build_defenses
from poisonlab.defenses.early_stopping import EarlyStopping, Settings, build
from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Normalize
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.loop import Trained, train


def history(accuracies: list[float]) -> list[dict[str, float]]:
    return [{"validation_accuracy": value, "validation_loss": 1 - value} for value in accuracies]


def stopped(defense: EarlyStopping, accuracies: list[float]) -> int:
    """Epochs that are trained, at most all."""
    past = history(accuracies)
    return next((n for n in range(1, len(past) + 1) if defense.stops(past[:n])), len(past))


@pytest.mark.parametrize("monitor", ["validation-accuracy", "validation-loss"])
@pytest.mark.parametrize(
    ("options", "accuracies", "epochs", "best"),
    [
        ({"patience": 2}, [0.1, 0.5, 0.4, 0.3, 0.9], 4, 2),
        # An equal one is not better, and the first of equals is the best.
        ({"patience": 2}, [0.5, 0.5, 0.5, 0.9], 3, 1),
        ({"patience": 3}, [0.1, 0.5, 0.4, 0.3, 0.9], 5, 5),
        ({"patience": 1, "min_epochs": 4}, [0.5, 0.4, 0.3, 0.2, 0.1], 4, 1),
        # Small steps up do not count, wherever they lead.
        ({"patience": 2, "min_change": 0.1}, [0.5, 0.55, 0.59, 0.9], 3, 1),
        ({"patience": 2, "min_change": 0.1}, [0.5, 0.55, 0.65, 0.7, 0.7], 5, 3),
    ],
)
def test_it_waits_for_a_better_epoch(
    monitor: Any, options: dict[str, Any], accuracies: list[float], epochs: int, best: int
) -> None:
    defense = build(Settings(monitor=monitor, **options))
    assert stopped(defense, accuracies) == epochs
    trained = history(accuracies)[:epochs]
    report = defense.report(Recipe(), 10, trained)
    assert report == {"stopped_epoch": epochs, "best_epoch": best}
    assert {measure.name for measure in REPORTED} >= report.keys()
    assert defense.best_epoch(trained) == best - 1
    assert build(Settings(monitor=monitor, keep="last", **options)).best_epoch(trained) is None


@effort(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 0.3))
def test_the_best_epoch_is_the_last_one_or_the_best_before(values: list[float], change: float) -> None:
    """Or the loop would have to keep the weights of every epoch."""
    defense = build(Settings(min_change=change))
    chosen = [defense.best_so_far(history(values[:n])) for n in range(1, len(values) + 1)]
    assert all(now in (before, place) for place, (before, now) in enumerate(pairwise(chosen), 1))


def data(count: int, seed: int) -> TrainingSet:
    images = torch.randint(0, 256, (count, 2, 6, 6), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return TrainingSet(images, torch.arange(count) % 3, torch.arange(count))


ROW = [{"method": "early-stopping", "patience": 3}, {"method": "random-noise", "distribution": "bernoulli", "mu": 8}]


def run(model: nn.Module, saved: Path | None = None, kill_at: int | None = None, held: bool = True) -> Trained:
    """Labels are noise: what is learned of them is wrong for other images."""
    epochs = []

    def observe(model: nn.Module, left: TrainingSet, costly: bool) -> dict[str, float]:
        epochs.append(1)
        if len(epochs) == kill_at:
            raise KilledError
        return {}

    recipe = Recipe(epochs=12, batch_size=8, lr=0.05, augmentation=Augmentation(pixels=1))
    return train(
        model,
        Normalize(MEAN, STD),
        data(25, 3),
        recipe,
        seed=0,
        defenses=build_defenses(ROW, noise=None),
        validation=data(30, 4) if held else None,
        observe=observe,
        checkpoint=None if saved is None else Checkpoint(saved, "f", interval=0),
    )


def weights(model: nn.Module) -> bytes:
    return b"".join(tensor.contiguous().numpy().tobytes() for tensor in model.state_dict().values())


def test_a_training_ends_at_its_best_weights_and_resumes_to_the_bit(tmp_path: Path) -> None:
    model = network()
    result = run(model)
    accuracies = [record["validation_accuracy"] for record in result.history]
    best = accuracies.index(max(accuracies))
    assert len(accuracies) == best + 1 + 3 < 12
    with torch.no_grad():
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (MEAN, STD))
        predicted = model.eval()((data(30, 4).images / 255 - mean) / std).argmax(1)
    assert float((predicted == data(30, 4).labels).double().mean()) == pytest.approx(max(accuracies))
    for epoch in range(2, len(accuracies) + 1):
        with pytest.raises(KilledError):
            run(network(), tmp_path / f"{epoch}", kill_at=epoch)
        resumed = network(seed=9)
        assert run(resumed, tmp_path / f"{epoch}").history == result.history
        assert weights(resumed) == weights(model)


def test_without_validation_there_is_nothing_to_watch() -> None:
    with pytest.raises(SettingsError, match=r"EarlyStopping needs a validation set.*dataset\.validation") as caught:
        run(network(), held=False)
    assert "\n" not in str(caught.value)


def test_it_stands_with_others_but_not_with_phases() -> None:
    Row(name="a", apply=({"method": "epic"}, {"method": "early-stopping"}))
    with pytest.raises(ValidationError, match="abl does not go with early-stopping"):
        Row(name="a", apply=({"method": "abl"}, {"method": "early-stopping"}))
    with pytest.raises(ValidationError, match="early-stopping is listed twice"):
        Row(name="a", apply=({"method": "early-stopping"}, {"method": "early-stopping"}))
