"""The outcome of an attack on one victim: by the attack's goal, or, without a goal, by the victim's history.

Names are those of ``poisonlab.config.measures``, which is not imported, so that a new measure reruns no training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from poisonlab.artifacts.poison_set import Goal
from poisonlab.models.classifier import Normalize
from poisonlab.models.outputs import Rejects, accept_all, outputs_of


def goal_outcome(model: nn.Module, normalize: Normalize, goal: Goal, rejects: Rejects = accept_all) -> dict[str, float]:
    """How the targets fare; a target that is turned away gets no label, so the attack fails on it.

    Returns:
        ``success``: fraction of targets classified as their adversarial labels (0 or 1 for one target);
        ``adversarial_confidence``: mean softmax probability of the adversarial labels;
        ``target_accuracy``: fraction classified correctly;
        ``untriggered_success``, of a backdoor: the fraction of the same images without the trigger that get the
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


def history_outcome(history: Sequence[Mapping[str, float]], low_loss: float) -> dict[str, float]:
    """The outcome of an attack without a goal, from a victim's epochs.

    Args:
        history: one record per epoch: ``train_loss``, and ``accuracy`` on the test images where it was measured.
        low_loss: the level of the training loss that ``first_epoch`` waits for.

    Returns:
        ``peak_accuracy``: the highest accuracy; ``first_epoch``: epochs until the mean training loss of one of them is
        below ``low_loss`` (1 is the first), absent if none is.
    """
    outcome = {}
    if measured := [record["accuracy"] for record in history if "accuracy" in record]:
        outcome["peak_accuracy"] = max(measured)
    below = [number for number, record in enumerate(history, 1) if record["train_loss"] < low_loss]
    if below:
        outcome["first_epoch"] = float(below[0])
    return outcome


def _share(which: Tensor) -> float:
    return float(which.double().mean())
