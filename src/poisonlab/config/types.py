"""Field types shared by the settings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from os.path import expanduser
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

LATER = object()
"""Marks a field that joined its settings after results had been made: ``Annotated[bool, LATER] = False``. Jobs are not
told of it while it has its default, which must change nothing, so that these results stay current. The default must
never change: no digest holds it."""


class Settings(BaseModel):
    """A frozen group of settings; unknown keys are errors, and true is no number."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _keep_truths(cls, values: Any) -> Any:
        """YAML reads ``yes`` and ``on`` as true, and pydantic would go on to read that as 1."""
        if isinstance(values, dict):
            for name in _numbers(cls) & values.keys():
                given = values[name]
                if any(isinstance(each, bool) for each in (given if isinstance(given, list | tuple) else [given])):
                    raise ValueError(f"{name} must be a number, not true or false (yes and no are those in YAML)")
        return values

    def told(self, *without: str) -> dict[str, Any]:
        """The settings as the plain values that a job is told and depends on, but for the fields ``without``."""
        values: dict[str, Any] = self.model_dump(mode="json", exclude=set(without), context=_TOLD)
        return values

    @model_serializer(mode="wrap")
    def _leave_out_later(self, serialize: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        if info.context is not _TOLD:
            return values
        fields = type(self).model_fields
        same = {name for name in _later(type(self)) if getattr(self, name) == fields[name].get_default()}
        return {name: value for name, value in values.items() if name not in same}


_TOLD = {"told": True}


@cache
def _later(kind: type[Settings]) -> frozenset[str]:
    return frozenset(name for name, field in kind.model_fields.items() if LATER in field.metadata)


@cache
def _numbers(kind: type[Settings]) -> frozenset[str]:
    """The fields that are numbers, or lists of them."""
    found = {name: frozenset(_plain_types(field.annotation)) for name, field in kind.model_fields.items()}
    return frozenset(name for name, types in found.items() if types & {int, float} and bool not in types)


def _plain_types(annotation: Any) -> Iterator[Any]:
    """The classes that an annotation is made of."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    elif get_origin(annotation) is not Literal:
        for inner in get_args(annotation):
            yield from _plain_types(inner)


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=60)]
"""A name that becomes part of a file name: lower-case letters, digits, dots and dashes."""

Levels = Annotated[float, Field(ge=0, le=255)]
"""An intensity in units of 1/255 (pixel levels)."""

PositiveLevels = Annotated[float, Field(gt=0, le=255)]
"""A positive intensity in units of 1/255 (pixel levels)."""

PositiveInt = Annotated[int, Field(gt=0, le=1_000_000_000)]
"""A count that any product of a few of them can still be reckoned with."""

Fraction = Annotated[float, Field(gt=0, le=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]


def _path(path: str) -> str:
    if path.startswith("-"):
        raise ValueError("a path must not begin with a dash, which programs take for an option: put ./ before it")
    if not path.isprintable():
        raise ValueError("a path must not hold line breaks or other control characters")
    return path


FilePath = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_path), AfterValidator(expanduser)]
"""A path, absolute, from the home folder (``~``) or from the folder that the workflow runs in."""


def _without_braces(path: str) -> str:
    if "{" in path or "}" in path:
        raise ValueError("a path must not hold braces, which Snakemake takes for its own: rename the file")
    return path


InputPath = Annotated[FilePath, AfterValidator(_without_braces)]
"""The path of a file that a rule of the workflow has as its input."""
