"""Ablations: one defense again and again with some of its settings varied."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from poisonlab.config.rows import DefenseSettings, Row
from poisonlab.config.types import Name, Settings


def _in_one_problem(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Without a problem for each of the types that a value could have been."""
    try:
        return check(value)
    except ValidationError as error:
        raise ValueError("Input should be a finite number, a text, true or false") from error


Value = Annotated[bool | int | float | str, WrapValidator(_in_one_problem)]
"""One value of a setting."""

MOST_VARIANTS = 1000
"""Combinations of one ablation."""

_SETTINGS: TypeAdapter[DefenseSettings] = TypeAdapter(DefenseSettings)


class Ablation(Settings):
    """A table and a figure of one row of the study with other settings of one of its defenses."""

    name: Name
    """Names the table, the figure and the rows: ``<name>-<value>``."""
    title: Annotated[str, Field(max_length=2000)] = ""
    """One sentence above the table: what it is for."""
    defense: Name
    """The row that is varied."""
    method: Name
    """Which of the row's defenses."""
    vary: Annotated[Mapping[str, Annotated[tuple[Value, ...], Field(min_length=1)]], Field(min_length=1, max_length=2)]
    """One setting, or two, and the values that it takes; every combination is run, but for the row's own
    values, which are not run again."""
    attacks: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """The attacks that the variants face; those of the row if not given."""


class Variant(Settings):
    """One combination of an ablation's values."""

    ablation: Name
    values: Mapping[str, Value]
    """By setting."""
    row: Row
    own: bool
    """Whether it is the study's row itself, run as such."""


def variants(ablation: Ablation, base: Row) -> tuple[Variant, ...]:
    """Every combination of an ablation's values, in order.

    Args:
        ablation: what is varied.
        base: the row that it names.

    Raises:
        ValueError: the row does not apply the method, or it has no such setting, or not that value; one line.
    """
    where = f"ablation {ablation.name!r}"
    places = [place for place, defense in enumerate(base.apply) if defense.method == ablation.method]
    if len(places) != 1:
        raise ValueError(
            f"{where}: row {base.name!r} must apply {ablation.method!r} once, not {len(places)} times; it applies "
            f"{[defense.method for defense in base.apply]}"
        )
    if foreign := [name for name in ablation.attacks or () if not base.faces(name)]:
        raise ValueError(f"{where}: row {base.name!r} does not face attack {foreign[0]!r}")
    own = base.apply[places[0]].model_dump()
    unknown = [name for name in ablation.vary if name not in own or name == "method"]
    if unknown:
        known = sorted(set(own) - {"method"})
        raise ValueError(f"{where} varies {unknown[0]!r}, which is no setting of {ablation.method}: choose of {known}")
    if (asked := math.prod(map(len, ablation.vary.values()))) > MOST_VARIANTS:
        raise ValueError(f"{where} asks for {asked} combinations, more than {MOST_VARIANTS}: vary less")
    result: list[Variant] = []
    seen: set[tuple[Value, ...]] = set()
    for combination in itertools.product(*ablation.vary.values()):
        changed = _validated({**own, **dict(zip(ablation.vary, combination, strict=True))}, where)
        values = {name: getattr(changed, name) for name in ablation.vary}
        if (combined := tuple(values.values())) in seen:
            raise ValueError(f"{where} repeats {', '.join(f'{name} {value}' for name, value in values.items())}")
        seen.add(combined)
        apply = (*base.apply[: places[0]], changed, *base.apply[places[0] + 1 :])
        same = changed == base.apply[places[0]]
        name = "-".join([ablation.name, *map(_text, values.values())])
        attacks = ablation.attacks or base.attacks
        row = base if same else _changed_row(base, where, name=name, attacks=attacks, apply=apply)
        result.append(Variant(ablation=ablation.name, values=values, row=row, own=same))
    return tuple(result)


def _validated(values: Mapping[str, object], where: str) -> DefenseSettings:
    try:
        return _SETTINGS.validate_python(values)
    except ValidationError as error:
        raise _one_line(error, where) from error


def _changed_row(base: Row, where: str, **changes: object) -> Row:
    """A row of the ablation, under the rules of every row; beside no published number, and in no other row's line."""
    try:
        return Row.model_validate({**dict(base), **changes, "published": None, "joined_as": None})
    except ValidationError as error:
        raise _one_line(error, where) from error


def _one_line(error: ValidationError, where: str) -> ValueError:
    problem = error.errors()[0]
    if problem["type"] == "value_error":  # a rule between settings, which says what is wrong itself
        return ValueError(f"{where}: {problem['msg'].removeprefix('Value error, ')}")
    return ValueError(f"{where}: {problem['loc'][-1]}: {problem['msg']}, not {problem['input']!r}")


def _text(value: Value) -> str:
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}".replace("+", "")
        if isinstance(value, float)
        else str(value)
    )
