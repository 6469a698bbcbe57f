"""Check that a config holds only mappings, lists, text and numbers of usual size, before its settings are checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from poisonlab.errors import SettingsError

_DEEPEST = 40
_LARGEST = 1 << 63
# Control characters except tabs and line breaks, and lone surrogates, which no file can hold.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``values`` without null keys, by which an overlay removes keys of the file below it.

    A value that a YAML anchor repeats is copied once: ten lines of YAML can expand to billions of values.

    Raises:
        SettingsError: a value is not plain, or larger or deeper than any setting; one line.
    """
    # The originals are kept, so that no new object gets the id of one.
    done: dict[int, tuple[Any, Any]] = {}

    def copied(value: Any, place: tuple[object, ...]) -> Any:
        if isinstance(value, Mapping | list | tuple):
            if id(value) not in done:
                done[id(value)] = (value, copied_inside(value, place))
            return done[id(value)][1]
        if isinstance(value, str):
            if found := _UNWRITABLE.search(value):
                raise _refusal(place, f"must not hold the character {found[0]!a}")
        elif isinstance(value, int | float):
            if isinstance(value, int) and abs(value) >= _LARGEST:
                raise _refusal(place, "is a number beyond 64 bits")
        elif value is not None:
            raise _refusal(place, f"is a {type(value).__name__}: write it as text, in quotes")
        return value

    def copied_inside(value: Mapping[Any, Any] | list[Any] | tuple[Any, ...], place: tuple[object, ...]) -> Any:
        if len(place) == _DEEPEST:
            raise _refusal(place, f"is nested more than {_DEEPEST} deep")
        if isinstance(value, Mapping):
            for key in value:
                copied(key, place)
            return {key: copied(inner, (*place, key)) for key, inner in value.items() if inner is not None}
        return [copied(inner, (*place, number)) for number, inner in enumerate(value)]

    plain: dict[str, Any] = copied(values, ())
    return plain


def _refusal(place: tuple[object, ...], problem: str) -> SettingsError:
    where = ".".join(map(str, place[:6]))
    shown = where.encode("unicode_escape").decode()[:100]
    return SettingsError(f"config: {shown or 'a key'} {problem}")
