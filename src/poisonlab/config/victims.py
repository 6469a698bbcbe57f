"""Settings of the networks under attack: how they begin, what they are fine-tuned on, how they are trained."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from poisonlab.config.architectures import ModelSettings
from poisonlab.config.recipes import NamedRecipe
from poisonlab.config.start import Start
from poisonlab.config.types import Name


class Victim(Start):
    """A network that is trained on the poisoned data."""

    name: Name
    """The name by which attacks refer to it."""
    model: ModelSettings | None = None
    """Its architecture; a pretrained victim has that of its pretrained network."""
    pretrained: Name | None = None
    """The surrogate that a ``transfer`` or ``fine-tune`` victim begins as: the attacker's own (white box) or
    another."""
    member: Annotated[int, Field(ge=0, lt=1000)] = 0
    """Index of that surrogate's network with the same seed; one that the attacker does not craft on is a grey box."""
    recipe: NamedRecipe = NamedRecipe()
    """How it is trained, under whichever defense."""

    @model_validator(mode="after")
    def _check_start(self) -> Victim:
        if self.scenario == "from-scratch":
            if self.model is None:
                raise ValueError(f"victim {self.name!r} is trained from scratch: give its model")
            for key in ("pretrained", "fine_tune_per_class", "member", "head", "batch_norm"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"victim {self.name!r} is trained from scratch, so it takes no {key}")
        else:
            if self.pretrained is None:
                raise ValueError(f"victim {self.name!r}: scenario {self.scenario} needs pretrained, a surrogate's name")
            if self.model is not None:
                raise ValueError(
                    f"victim {self.name!r} begins as {self.pretrained!r} and has its architecture: take model away"
                )
            if self.scenario == "fine-tune" and self.batch_norm == "train":
                raise ValueError(
                    f"victim {self.name!r}: batch_norm is of frozen features, and fine-tuning has none: take it away"
                )
        return self
