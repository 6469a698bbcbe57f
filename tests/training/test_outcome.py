"""The outcome of an attack on a network whose outputs are known, and of a history."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from poisonlab.artifacts.poison_set import Goal
from poisonlab.config.attacks.attack import BACKDOOR, UNTARGETED
from poisonlab.models.classifier import Normalize
from poisonlab.models.outputs import accuracy, outputs_of
from poisonlab.training.outcome import CLEAN_VALIDATION, goal_outcome, history_outcome

NORMALIZE = Normalize((0.0,), (1.0,))


def levels(*values: int) -> Tensor:
    """Images (N, 1, 1, 1) of one pixel."""
    return torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1)


class Brightness(nn.Module):
    """Logits (brightness, 0.5, -1) of the first pixel."""

    def forward(self, x: Tensor) -> Tensor:
        first = x[:, 0, 0, 0]
        return torch.stack([first, torch.full_like(first, 0.5), torch.full_like(first, -1)], 1)


def chances(level: int) -> list[float]:
    """Of its three classes, at one level."""
    powers = [math.exp(level / 255), math.exp(0.5), math.exp(-1)]
    return [power / sum(powers) for power in powers]


def turns_away(*turned: int) -> Callable[[Tensor], Tensor]:
    """Images whose first pixel has one of these levels."""
    return lambda images: torch.isin(images[:, 0, 0, 0], torch.tensor(turned, dtype=torch.uint8))


def test_outputs_and_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poisonlab.models.outputs.images_at_once", lambda _: 3)
    model, images = Brightness().train(), levels(0, 100, 200, 255)
    assert outputs_of(model, NORMALIZE, images)[:, 0].tolist() == pytest.approx([0, 100 / 255, 200 / 255, 1])
    assert accuracy(model, NORMALIZE, images, torch.tensor([1, 0, 0, 0])) == 0.75
    assert model.training, "the network keeps its mode"


def test_a_goal_is_reached_target_by_target() -> None:
    """Of levels 0, 100, 200 and 255 the network takes the last two for class 0 and the others for class 1."""
    images, true = levels(0, 100, 200, 255), torch.tensor([1, 2, 1, 1])
    one = goal_outcome(Brightness(), NORMALIZE, Goal(images, true, torch.zeros(4, dtype=torch.int64)))
    assert one["success"] == 0.5
    assert one["target_accuracy"] == 0.25
    assert one["adversarial_confidence"] == pytest.approx(sum(chances(v)[0] for v in (0, 100, 200, 255)) / 4, rel=1e-6)
    assert "untriggered_success" not in one

    several = goal_outcome(Brightness(), NORMALIZE, Goal(images, true, torch.tensor([0, 1, 0, 2])))
    assert several["success"] == 0.5
    expected = chances(0)[0] + chances(100)[1] + chances(200)[0] + chances(255)[2]
    assert several["adversarial_confidence"] == pytest.approx(expected / 4, rel=1e-6)

    backdoor = Goal(images, true, torch.zeros(4, dtype=torch.int64), untriggered=levels(0, 0, 0, 200))
    triggered = goal_outcome(Brightness(), NORMALIZE, backdoor)
    assert triggered.pop("untriggered_success") == 0.25
    assert triggered == one


def test_what_is_turned_away_is_no_success_and_no_correct_answer() -> None:
    model, images, labels = Brightness(), levels(0, 100, 200, 255), torch.tensor([1, 1, 0, 1])
    assert accuracy(model, NORMALIZE, images, labels) == 0.75
    assert accuracy(model, NORMALIZE, images, labels, rejects=turns_away(100)) == 0.5
    # To turn away what was wrong anyway costs nothing, and all of them everything.
    assert accuracy(model, NORMALIZE, images, labels, rejects=turns_away(255)) == 0.75
    assert accuracy(model, NORMALIZE, images, labels, rejects=turns_away(0, 100, 200, 255)) == 0

    # Of the targets 0, 100 and 200 are left; without the trigger 200, 250 and 0.
    goal = Goal(images, labels, torch.zeros(4, dtype=torch.int64), untriggered=levels(255, 200, 250, 0))
    outcome = goal_outcome(model, NORMALIZE, goal, rejects=turns_away(255))
    assert outcome["success"] == 0.25
    assert outcome["target_accuracy"] == 0.75
    assert outcome["adversarial_confidence"] == pytest.approx(sum(chances(v)[0] for v in (0, 100, 200)) / 4, rel=1e-6)
    assert outcome["untriggered_success"] == 0.5
    nothing = goal_outcome(model, NORMALIZE, goal, rejects=turns_away(0, 100, 200, 250, 255))
    assert set(nothing.values()) == {0.0}
    assert goal_outcome(model, NORMALIZE, goal, rejects=turns_away(1)) == goal_outcome(model, NORMALIZE, goal)


def test_outcomes_are_called_as_the_measures_are() -> None:
    wanted = torch.zeros(1, dtype=torch.int64)
    reached = goal_outcome(Brightness(), NORMALIZE, Goal(levels(0), wanted + 1, wanted, levels(0)))
    assert {measure.name for measure in BACKDOOR} - {"accuracy"} == reached.keys() - {"target_accuracy"}
    record = {"train_loss": 0.1, "accuracy": 0.5, "validation_accuracy": 0.4, CLEAN_VALIDATION: 0.5}
    past = history_outcome([record], 0.5, poisoned_validation=True)
    assert {measure.name for measure in UNTARGETED} - {"accuracy"} == past.keys()


def test_a_history_tells_the_peak_and_when_the_loss_was_low() -> None:
    history = [
        {"train_loss": 2.0, "accuracy": 0.3},
        {"train_loss": 0.5},
        {"train_loss": 0.4, "accuracy": 0.6},
        {"train_loss": 0.6, "accuracy": 0.5},
    ]
    peak = {"peak_accuracy": 0.6, "peak_epoch": 3.0}
    assert history_outcome(history, 0.5) == {**peak, "first_epoch": 3.0}
    assert history_outcome(history, 0.51) == {**peak, "first_epoch": 2.0}
    assert history_outcome(history, 0.1) == peak
    assert history_outcome(history[1:2], 1.0) == {"first_epoch": 1.0}


def test_a_history_tells_where_early_stopping_would_have_ended() -> None:
    history = [
        {"train_loss": 2.0, "accuracy": 0.3, "validation_accuracy": 0.1, CLEAN_VALIDATION: 0.2},
        {"train_loss": 1.5, "accuracy": 0.6, "validation_accuracy": 0.5, CLEAN_VALIDATION: 0.5},
        {"train_loss": 1.4, "validation_accuracy": 1.0, CLEAN_VALIDATION: 1.0},  # no accuracy to tell
        {"train_loss": 1.3, "accuracy": 0.5, "validation_accuracy": 0.7, CLEAN_VALIDATION: 0.5},
        {"train_loss": 1.2, "accuracy": 0.4, "validation_accuracy": 0.7, CLEAN_VALIDATION: 0.4},
    ]
    peak = {"peak_accuracy": 0.6, "peak_epoch": 2.0}
    both = history_outcome(history, 0.5, poisoned_validation=True)
    assert both == {**peak, "stopped_clean": 0.6, "stopped_poisoned": 0.5}
    clean = [{key: value for key, value in record.items() if key != CLEAN_VALIDATION} for record in history]
    assert history_outcome(clean, 0.5) == {**peak, "stopped_clean": 0.5}


def test_a_part_of_a_network_is_looked_at_unaugmented_and_in_eval_mode() -> None:
    part = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.9), nn.Flatten()).train()
    part[0].running_mean, part[0].running_var = torch.tensor([0.25]), torch.tensor([0.0625])
    images = torch.tensor([[0, 51], [255, 102]], dtype=torch.uint8).view(2, 1, 1, 2)
    # Normalised by 0.5 and 0.5, then by 0.25 and a deviation of 0.25.
    expected = [[((level / 255 - 0.5) / 0.5 - 0.25) / math.sqrt(0.0625 + 1e-5) for level in one] for one in
                ((0, 51), (255, 102))]  # fmt: skip
    outputs = outputs_of(part, Normalize((0.5,), (0.5,)), images)
    assert outputs.dtype == torch.float32
    assert [pytest.approx(one, rel=1e-5) for one in expected] == outputs.tolist()
