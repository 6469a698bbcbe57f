"""Settings of the networks under attack: how they begin, what they are fine-tuned on, how they are trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from poisonlab.config.models import ModelSettings
from poisonlab.config.recipe import Recipe
from poisonlab.config.types import Name, PositiveInt, Settings


class Start(Settings):
    """How a victim begins, and which images it is trained on."""

    scenario: Literal["from-scratch", "transfer", "fine-tune"] = "from-scratch"
    """``from-scratch``: random weights; ``transfer``: the features of a pretrained network stay as they are and a
    linear head is trained on them; ``fine-tune``: a pretrained network is trained on, end to end."""
    head: Literal["fresh", "kept"] = "fresh"
    """Whether the head of a pretrained network is drawn anew (FRIENDS, the poisoning benchmark) or kept (convex
    polytope)."""
    batch_norm: Literal["eval", "train"] = "eval"
    """Frozen features: ``eval``: batch norm's statistics are frozen, too (as published); ``train``: they follow the
    batches (as FRIENDS was released)."""
    fine_tune_per_class: PositiveInt | None = None
    """Fine-tune on the last so many training images of each class, and draw the bases from them; all if not given."""


class Victim(Start):
    """A network that is trained on the poisoned data."""

    name: Name
    """What attacks call it."""
    model: ModelSettings | None = None
    """Its architecture; a pretrained victim has that of its pretrained network."""
    pretrained: Name | None = None
    """The surrogate that a ``transfer`` or ``fine-tune`` victim begins as: the attacker's own (white box) or
    another."""
    member: Annotated[int, Field(ge=0, lt=1000)] = 0
    """Which one of that surrogate's networks of the same seed: one that the attacker does not craft on is a grey
    box."""
    recipe: Recipe = Recipe()
    """How it is trained, under whichever defense."""

    @model_validator(mode="after")
    def _check_start(self) -> Victim:
        if self.scenario == "from-scratch":
            if self.model is None:
                raise ValueError(f"victim {self.name!r} is trained from scratch: give its model")
            for key in ("pretrained", "fine_tune_per_class"):
                if getattr(self, key) is not None:
                    raise ValueError(f"victim {self.name!r} is trained from scratch, so it takes no {key}")
        else:
            if self.pretrained is None:
                raise ValueError(f"victim {self.name!r}: scenario {self.scenario} needs pretrained, a surrogate's name")
            if self.model is not None:
                raise ValueError(
                    f"victim {self.name!r} begins as {self.pretrained!r} and has its architecture: take model away"
                )
        return self
