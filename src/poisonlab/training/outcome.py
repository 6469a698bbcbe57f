"""The outcome of an attack on one victim, measured on the attack's goal or, without a goal, on the victim's history.

The names are those in ``poisonlab.config.measures``. That module is not imported, so that a new measure reruns no
training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from poisonlab.artifacts.poison_set import Goal
from poisonlab.models.classifier import Normalize
from poisonlab.models.outputs import Rejects, accept_all, outputs_of


def goal_outcome(model: nn.Module, normalize: Normalize, goal: Goal, rejects: Rejects = accept_all) -> dict[str, float]:
    """The outcome on the targets; a rejected target gets no label, so the attack fails on it.

    Returns:
        ``success``: fraction of targets classified as their adversarial labels (0 or 1 for one target);
        ``adversarial_confidence``: mean softmax probability of the adversarial labels;
        ``target_accuracy``: fraction classified correctly;
        ``untriggered_success``, for a backdoor: fraction of the same images, without the trigger, that get the
        adversarial labels.
    """
    logits = outputs_of(model, normalize, goal.targets).cpu()
    predicted, accepted = logits.argmax(1), ~rejects(goal.targets)
    confidence = logits.double().softmax(1).gather(1, goal.adversarial_labels[:, None])[:, 0]
    outcome = {
        "success": _share((predicted == goal.adversarial_labels) & accepted),
        "adversarial_confidence": float((confidence * accepted).mean()),
        "target_accuracy": _share((predicted == goal.target_labels) & accepted),
    }
    if goal.untriggered is not None:
        without = outputs_of(model, normalize, goal.untriggered).argmax(1).cpu()
        seen = ~rejects(goal.untriggered)
        outcome["untriggered_success"] = _share((without == goal.adversarial_labels) & seen)
    return outcome


CLEAN_VALIDATION = "clean_validation_accuracy"
"""In a victim's history: the accuracy on the originals of a poisoned validation set."""


def history_outcome(
    history: Sequence[Mapping[str, float]], low_loss: float, *, poisoned_validation: bool = False
) -> dict[str, float]:
    """The outcome of an attack without a goal, from a victim's epochs.

    Args:
        history: one record per epoch: ``train_loss``; ``accuracy`` on the test images, if it was measured; with a
            validation set, ``validation_accuracy``, and ``CLEAN_VALIDATION`` if that set holds poisons.
        low_loss: the threshold of the training loss for ``first_epoch``.
        poisoned_validation: whether the validation set holds poisons.

    Returns:
        ``peak_accuracy``: the highest accuracy; ``peak_epoch``: the first epoch that reached it (from 1).
        ``first_epoch``: the first epoch (from 1) with a mean training loss below ``low_loss``; absent if there is none.
        ``stopped_clean`` and ``stopped_poisoned``: the accuracy of the best epoch on a clean and on a poisoned
        validation set, among epochs with measured accuracy (the first among equals); absent without such a set.
    """
    outcome: dict[str, float] = {}
    measured = [(number, record) for number, record in enumerate(history, 1) if "accuracy" in record]
    if measured:
        # max takes the first among equals.
        number, record = max(measured, key=lambda each: each[1]["accuracy"])
        outcome |= {"peak_accuracy": record["accuracy"], "peak_epoch": float(number)}
        watched = {"stopped_clean": CLEAN_VALIDATION if poisoned_validation else "validation_accuracy"}
        watched |= {"stopped_poisoned": "validation_accuracy"} if poisoned_validation else {}
        for name, key in watched.items():
            if all(key in record for _, record in measured):
                outcome[name] = max(measured, key=lambda each: each[1][key])[1]["accuracy"]
    below = [number for number, record in enumerate(history, 1) if record["train_loss"] < low_loss]
    if below:
        outcome["first_epoch"] = float(below[0])
    return outcome


def _share(which: Tensor) -> float:
    return float(which.double().mean())
