"""Settings of one job of each stage: what the workflow passes on the command line, checked again on arrival."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from poisonlab.config.models.model import NamedModel
from poisonlab.config.recipe import Recipe
from poisonlab.config.start import Start
from poisonlab.config.types import Settings
from poisonlab.errors import SettingsError

Seed = Annotated[int, Field(ge=0)]


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


Stage = TypeVar("Stage", bound=Settings)


def read_stage(kind: type[Stage], values: Mapping[str, Any]) -> Stage:
    """Check one job's settings.

    Raises:
        SettingsError: one line that names the first problem.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise SettingsError(f"--spec {place}: {problem['msg']}") from error
