"""Training recipes by name: the papers' schedules and the lab's short one. A config can override every field."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from poisonlab.config.recipe import Recipe

_OF_SGD = ("momentum", "nesterov")
_OF_ADAM = ("betas", "eps")
_OF_STEPS = ("milestones", "gamma")


class NamedRecipe(Recipe):
    """How a network is trained on the cross-entropy, filled from a published recipe if it names one."""

    base: str | None = None
    """Name of the published recipe that the other fields were filled from."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_base(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("base") is None:
            return values
        if not isinstance(values["base"], str) or values["base"] not in PUBLISHED:
            raise ValueError(f"unknown recipe {values['base']!r}; choose one of {', '.join(PUBLISHED)}")
        filled = {**PUBLISHED[values["base"]], **values}
        if isinstance(values.get("augmentation"), dict):
            filled["augmentation"] = {**PUBLISHED[values["base"]].get("augmentation", {}), **values["augmentation"]}
        return filled

    @model_validator(mode="before")
    @classmethod
    def _check_unused(cls, values: Any) -> Any:
        """Refuse a setting that would do nothing, unless it repeats the base's value or the default. ``Recipe`` cannot
        check this, because jobs receive all settings. This check runs before the base fills the recipe."""
        if not isinstance(values, dict):
            return values
        optimizer = values.get("optimizer", "sgd")
        base = values.get("base")
        filled = PUBLISHED.get(base, {}) if isinstance(base, str) else {}
        schedule = values.get("schedule", filled.get("schedule", "steps"))
        unused = dict.fromkeys(_OF_ADAM, f"optimizer {optimizer!s:.20}: set optimizer: adam")
        if optimizer != "sgd":
            unused = dict.fromkeys(_OF_SGD, f"optimizer {optimizer!s:.20}: leave it out")
        if schedule != "steps":
            unused |= dict.fromkeys(_OF_STEPS, f"schedule {schedule!s:.20}: leave it out")
        for name, of in unused.items():
            usual = filled.get(name, cls.model_fields[name].default)
            given = values.get(name, usual)
            if given is not None and (tuple(given) if isinstance(given, list) else given) != usual:
                raise ValueError(f"{name} is no setting of {of}")
        if optimizer != "sgd" and "lr" not in values:
            raise ValueError(f"optimizer {optimizer!s:.20} needs an lr: the default is SGD's")
        return values


PUBLISHED: dict[str, dict[str, Any]] = {
    # FRIENDS, section 4.1: 80 epochs for tables 1, 3, 4, 6; 40 for tables 2 and 5. The text's milestones.
    "friends-paper": {"epochs": 80, "milestones": (30, 50, 70), "decay_norm_and_bias": False},
    # The released command line: 40 epochs, and the floored milestones 14, 24, 35.
    "friends-released": {"epochs": 40, "decay_norm_and_bias": False},
    "friends-transfer": {"epochs": 40, "milestones": (15, 25, 35), "decay_norm_and_bias": False},
    # Witches' Brew's "conservative" surrogate and victim.
    "witches-brew": {"epochs": 40},
    # EPIC's trainer: reflections aside, whole-pixel crops and the exact eighths of the epochs.
    "epic": {
        "epochs": 80,
        "milestones": (30, 50, 70),
        "decay_norm_and_bias": False,
        "augmentation": {"kind": "crop"},
    },
    # The public poisoning benchmark, from scratch.
    "poisoning-benchmark": {
        "epochs": 200,
        "milestones": (100, 150),
        "nesterov": False,
        "weight_decay": 2e-4,
        "augmentation": {"kind": "crop", "padding": "black"},
    },
    # "Poisons that are learned faster are more effective", victims of table 1.
    "learned-faster": {
        "epochs": 100,
        "milestones": (50,),
        "nesterov": False,
        "augmentation": {"kind": "crop", "padding": "black"},
    },
    # The lab's own, for short trainings of fast-cifar. Not smoothed: poisons match smoothed surrogates badly.
    "fast": {
        "epochs": 8,
        "batch_size": 128,
        "lr": 0.1,
        "schedule": "linear",
        "warmup_epochs": 1,
        "decay_norm_and_bias": False,
        "bias_lr": 16,
        "precision": "bfloat16",
        "augmentation": {"kind": "crop", "pixels": 2, "flip": "alternating"},
    },
}
