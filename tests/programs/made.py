"""Trials and lines of a made-up study, as the table programs are told of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from poisonlab.config.measures import (
    ACCURACY,
    ADVERSARIAL_CONFIDENCE,
    FIRST_EPOCH,
    PEAK_ACCURACY,
    SUCCESS,
    SUCCESS_RATE,
    UNTRIGGERED_SUCCESS,
    Measure,
)
from poisonlab.evaluation.choosing import Shown
from poisonlab.evaluation.trials import Trial, write_trials

VICTIM = "net"
MEASURES: dict[str, tuple[Measure, ...]] = {
    **dict.fromkeys(("gm", "bp", "a", "b"), (SUCCESS, ADVERSARIAL_CONFIDENCE, ACCURACY)),
    "sa": (SUCCESS_RATE, UNTRIGGERED_SUCCESS, ADVERSARIAL_CONFIDENCE, ACCURACY),
    "none": (PEAK_ACCURACY, FIRST_EPOCH, ACCURACY),
}
"""Attacks on one target, one with a trigger, and one without a goal."""
COMPARE = ("none", "friends-bernoulli")


def trial(
    attack: str, defense: str, seed: int, success: float, accuracy: float = 0.9, seconds: float = 1.0, **more: Any
) -> Trial:
    """Keywords that a trial does not have are measures."""
    own = {name: more.pop(name) for name in list(more) if name in Trial.__dataclass_fields__}
    measures = {"success": success, "adversarial_confidence": success / 2, "accuracy": accuracy, **more}
    return Trial(attack, own.pop("victim", VICTIM), defense, seed, measures, seconds=seconds, **own)


def line(attack: str, defense: str, seeds: Sequence[int], victim: str = VICTIM, **more: Any) -> dict[str, Any]:
    settings = f"settings of {attack}/{defense}"
    who = {"attack": attack, "victim": victim, "defense": defense, "seeds": list(seeds)}
    return {**who, "control": defense == "clean", "settings": settings, "called": defense, **more}


def told(lines: Sequence[dict[str, Any]], compare: Sequence[str] = COMPARE, **more: Any) -> dict[str, Any]:
    """What every table program is told of these lines."""
    attacks = dict.fromkeys(each["attack"] for each in lines)
    measures = [{"attack": attack, "measures": [each.model_dump() for each in MEASURES[attack]]} for attack in attacks]
    return {"description": "Made up.", "lines": list(lines), "measures": measures, "compare": list(compare), **more}


def stage(lines: Sequence[dict[str, Any]], **more: Any) -> Shown:
    return Shown.model_validate(told(lines, **more))


def put(path: Path, trials: Sequence[Trial]) -> Path:
    """A file of trials without provenance."""
    write_trials(path, trials)
    return path
