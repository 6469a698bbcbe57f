"""Settings that the workflow passes to a job on the command line, checked again in the job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from poisonlab.config.types import Settings
from poisonlab.errors import SettingsError

Seed = Annotated[int, Field(ge=0)]


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
