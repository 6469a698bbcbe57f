"""Settings of one job that trains a network."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from poisonlab.config.models.model import NamedModel
from poisonlab.config.recipe import Recipe
from poisonlab.config.stages import Seed
from poisonlab.config.start import Start
from poisonlab.config.types import Settings


class Training(Settings):
    """Training one network."""

    model: NamedModel
    recipe: Recipe
    seed: Seed


class Pretraining(Training):
    """Training one surrogate; members of an ensemble differ in their random streams."""

    member: Seed
    held_out_per_class: Annotated[int, Field(ge=0)] = 0
    apply: tuple[dict[str, object], ...] = ()


class VictimTraining(Training):
    """Training a victim, or the first epochs of one."""

    start: Start
    defenses: tuple[dict[str, object], ...] = ()
