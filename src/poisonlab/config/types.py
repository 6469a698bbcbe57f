"""Field types shared by the settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from os.path import expanduser
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

LATER = object()
"""Marks a field that joined its settings after results had been made: ``Annotated[bool, LATER] = False``. While it has
its default, jobs do not receive it, so these results stay current. The default must not change results, and must never
change itself: no digest holds it."""


class Settings(BaseModel):
    """A frozen group of settings; unknown keys are errors, and booleans are no numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _keep_truths(cls, values: Any) -> Any:
        """Refuse booleans as numbers: YAML reads ``yes`` and ``on`` as true, and pydantic would read true as 1."""
        if isinstance(values, dict):
            for name in _numbers(cls) & values.keys():
                given = values[name]
                if any(isinstance(each, bool) for each in (given if isinstance(given, list | tuple) else [given])):
                    raise ValueError(f"{name} must be a number, not true or false (yes and no are those in YAML)")
        return values

    def told(self, *without: str) -> dict[str, Any]:
        """The settings, without the fields ``without``, as the plain values that a job receives and depends on."""
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

_LEVELS = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*/\s*255\s*")


def from_text(value: Any) -> Any:
    """The number of levels in a text such as "8/255"; any other value as it is."""
    if isinstance(value, str) and (found := _LEVELS.fullmatch(value)):
        return float(found[1])
    return value


def below_one_level(value: float) -> str:
    """Part of a message: a bound is too small, and how to cure it."""
    levels = value * 255
    # 8/255 is most often written with a few digits.
    meant = f"{round(levels) if abs(levels - round(levels)) < 0.1 and round(levels) else levels:.4g}"
    return f'{value:g} is less than one level: bounds count in levels of 1/255, so write {meant} or "{meant}/255"'


_LEAST = 1.0


def _one_level(value: float) -> float:
    if value < _LEAST:
        raise ValueError(below_one_level(value))
    return value


PositiveLevels = Annotated[float, Field(gt=0, le=255), BeforeValidator(from_text)]
"""A positive intensity in units of 1/255 (pixel levels), as a number or as a text such as "8/255"."""

WholeLevel = Annotated[PositiveLevels, AfterValidator(_one_level)]
"""An intensity of at least one level: anything less was most likely meant in units of the [0, 1] pixel range."""

ShortText = Annotated[str, Field(min_length=1, max_length=200)]
"""A name inside a file, such as that of a column."""

PositiveInt = Annotated[int, Field(gt=0, le=1_000_000_000)]
"""A count with a limit, so that products of a few counts stay manageable."""

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
        raise ValueError("a path must not hold braces, which Snakemake takes for its own: rename the file or folder")
    return path


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, if none is given twice."""
    if len(set(names)) < len(names):
        raise ValueError("lists a name twice: remove one")
    return names


ONE, SEVERAL = "one name", "several names"


def one_or_several(value: object) -> str:
    """The form that a value was meant to have, so that a mistake is reported for that one."""
    return ONE if isinstance(value, str) else SEVERAL


CLASS_NUMBER, CLASS_NAME = "class number", "class name"
A_FILE, A_SUBSET = "a file", "a subset"


def _number_or_name(value: object) -> str:
    return CLASS_NAME if isinstance(value, str) else CLASS_NUMBER


ClassLabel = Annotated[
    Annotated[int, Field(ge=0), Tag(CLASS_NUMBER)] | Annotated[ShortText, Tag(CLASS_NAME)],
    Discriminator(_number_or_name),
]
"""A class of the dataset, by its name (a text) or by its number from 0 in the order of the dataset's classes."""

InputPath = Annotated[FilePath, AfterValidator(_without_braces)]
"""The path of an input file of a workflow rule."""

InputPaths = Annotated[
    Annotated[InputPath, Tag(ONE)] | Annotated[tuple[InputPath, ...], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(one_or_several),
]
"""A path or a list of paths."""
