"""Ablations: one defense or one attack, run again with other values of some settings."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import (
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from poisonlab.config.attack_settings import AttackSettings
from poisonlab.config.rows import DefenseSettings, Row
from poisonlab.config.types import Name, Settings


def _in_one_problem(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Report one problem, not one for each type that the value could have had."""
    try:
        return check(value)
    except ValidationError as error:
        raise ValueError("Input should be a finite number, a text, true or false") from error


Value = Annotated[bool | int | float | str, WrapValidator(_in_one_problem)]
"""One value of a setting."""

MOST_VARIANTS = 1000
"""Most combinations of one ablation."""

_DEFENSE: TypeAdapter[DefenseSettings] = TypeAdapter(DefenseSettings)
_ATTACK: TypeAdapter[AttackSettings] = TypeAdapter(AttackSettings)
_Varied = TypeVar("_Varied", DefenseSettings, AttackSettings)
_OF_EVERY_ATTACK = ("name", "method", "victims", "seeds", "published")


class Ablation(Settings):
    """A table and a figure in which settings of one attack, or of one defense of a row, vary."""

    name: Name
    """Names the table, the figure and the variants: ``<name>-<value>``."""
    title: Annotated[str, Field(max_length=2000)] = ""
    """One sentence below the table and in the caption of the figure: what varies, and in which unit."""
    defense: Name | None = None
    """The row that is varied, in an ablation of a defense."""
    attack: Name | None = None
    """The attack that is varied, in an ablation of an attack. Each variant has poisons of its own."""
    method: Name | None = None
    """In an ablation of a row, and required there: which of the row's defenses varies."""
    vary: Annotated[Mapping[str, Annotated[tuple[Value, ...], Field(min_length=1)]], Field(min_length=1, max_length=2)]
    """One or two settings and their values. Every combination is run, except those that the study runs anyway."""
    attacks: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """In an ablation of a row: the attacks that the variants face; the row's own if not given."""
    defenses: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """In an ablation of an attack, and required there: the rows that meet the variants."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """In an ablation of an attack: the seeds of the table; the attack's own if not given."""

    @model_validator(mode="after")
    def _check_kind(self) -> Ablation:
        where = f"ablation {self.name!r}"
        if (self.defense is None) == (self.attack is None):
            raise ValueError(f"{where}: name what is varied, as defense (a row) or as attack, and not both")
        own, other = ("defense", "attack") if self.attack is None else ("attack", "defense")
        needed, foreign = _ONLY[own], _ONLY[other]
        if wrong := [name for name in foreign if getattr(self, name) is not None]:
            raise ValueError(f"{where} varies {own} {getattr(self, own)!r}: leave out {wrong[0]}, of {other}s only")
        if getattr(self, needed[0]) is None:
            raise ValueError(f"{where} varies {own} {getattr(self, own)!r}: add {needed[0]}, {_NEEDED[own]}")
        return self


_ONLY = {"defense": ("method", "attacks"), "attack": ("defenses", "seeds")}
"""Fields that only one kind of ablation has; the first is required."""
_NEEDED = {
    "defense": "which of the row's defenses has the settings",
    "attack": "the rows that meet the variants",
}


class Variant(Settings):
    """One combination of the values of an ablation of a row."""

    ablation: Name
    values: Mapping[str, Value]
    """Value by setting."""
    row: Row
    own: bool
    """Whether the variant is the varied row itself, which the study runs anyway."""


class AttackVariant(Settings):
    """One combination of the values of an ablation of an attack."""

    ablation: Name
    values: Mapping[str, Value]
    """Value by setting."""
    attack: AttackSettings
    own: bool
    """Whether the variant is the varied attack itself, which the study runs anyway."""
    listed: bool
    """Whether the variant is any attack that the study runs anyway, the varied one or another."""
    defenses: tuple[Name, ...]
    """The rows that meet it."""


def variants(ablation: Ablation, base: Row) -> tuple[Variant, ...]:
    """Every combination of the values of an ablation of a row, in order.

    Args:
        ablation: what is varied.
        base: the row that the ablation names.

    Raises:
        ValueError: the row does not apply the method, or the method lacks the setting or refuses the value; one line.
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
    own = base.apply[places[0]]
    result: list[Variant] = []
    for name, values, changed in _combinations(ablation, own, _DEFENSE, ("method",)):
        apply = (*base.apply[: places[0]], changed, *base.apply[places[0] + 1 :])
        same = changed == own
        attacks = ablation.attacks or base.attacks
        row = base if same else _changed_row(base, where, name=name, attacks=attacks, apply=apply)
        result.append(Variant(ablation=ablation.name, values=values, row=row, own=same))
    return tuple(result)


def attack_variants(
    ablation: Ablation, base: AttackSettings, attacks: Sequence[AttackSettings]
) -> tuple[AttackVariant, ...]:
    """Every combination of the values of an ablation of an attack, in order.

    Args:
        ablation: what is varied.
        base: the attack that the ablation names.
        attacks: the study's attacks; one that equals a variant replaces it.

    Raises:
        ValueError: the attack lacks the setting, refuses the value, or runs with none of the seeds; one line.
    """
    where = f"ablation {ablation.name!r}"
    known = {_bare(attack): attack for attack in reversed((base, *attacks))}
    seeds = base.seeds
    if ablation.seeds is not None:
        seeds = tuple(seed for seed in ablation.seeds if base.seeds is None or seed in base.seeds)
        if not seeds:
            raise ValueError(f"{where}: attack {base.name!r} runs with none of the seeds {list(ablation.seeds)}")
    result: list[AttackVariant] = []
    for name, values, changed in _combinations(ablation, base, _ATTACK, _OF_EVERY_ATTACK):
        listed = known.get(_bare(changed))
        called = {"name": name, "seeds": seeds, "published": ()}
        attack = listed or _validated(_ATTACK, {**changed.model_dump(), **called}, where)
        own = listed is not None and listed.name == base.name
        result.append(
            AttackVariant(
                ablation=ablation.name,
                values=values,
                attack=attack,
                own=own,
                listed=listed is not None,
                defenses=ablation.defenses or (),
            )
        )
    return tuple(result)


def _bare(attack: AttackSettings) -> str:
    """Everything that decides an attack's poisons and victims, but for the seeds."""
    return repr((attack.method, attack.model_dump(exclude={"name", "seeds", "published"})))


def _combinations(
    ablation: Ablation, base: _Varied, settings: TypeAdapter[_Varied], fixed: Sequence[str]
) -> Iterator[tuple[Name, Mapping[str, Value], _Varied]]:
    """The name of each variant, its values, and ``base`` with these values; ``fixed`` settings must not vary."""
    where = f"ablation {ablation.name!r}"
    own, called = base.model_dump(), ablation.method or base.method
    if unknown := [name for name in ablation.vary if name not in own or name in fixed]:
        known = sorted(set(own) - set(fixed))
        raise ValueError(f"{where} varies {unknown[0]!r}, which is no setting of {called}: choose of {known}")
    if (asked := math.prod(map(len, ablation.vary.values()))) > MOST_VARIANTS:
        raise ValueError(f"{where} asks for {asked} combinations, more than {MOST_VARIANTS}: vary less")
    seen: list[Mapping[str, Value]] = []
    for combination in itertools.product(*ablation.vary.values()):
        changed = _validated(settings, {**own, **dict(zip(ablation.vary, combination, strict=True))}, where)
        values: Mapping[str, Value] = {name: getattr(changed, name) for name in ablation.vary}
        if values in seen:
            raise ValueError(f"{where} repeats {', '.join(f'{name} {value}' for name, value in values.items())}")
        seen.append(values)
        yield "-".join([ablation.name, *map(_text, values.values())]), values, changed


def _validated(settings: TypeAdapter[_Varied], values: Mapping[str, object], where: str) -> _Varied:
    try:
        return settings.validate_python(values)
    except ValidationError as error:
        raise _one_line(error, where) from error


def _changed_row(base: Row, where: str, **changes: object) -> Row:
    """A checked row of the ablation, without published numbers and with a line of its own."""
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
    """The value as part of a ``Name``."""
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}".replace("+", "")
        if isinstance(value, float)
        else re.sub(r"[^a-z0-9.]+", "-", str(value).lower()).strip("-")
    )
