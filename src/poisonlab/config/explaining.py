"""Pydantic's validation errors as one line in the words of a config."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from poisonlab.config.types import A_FILE, A_SUBSET, CLASS_NAME, CLASS_NUMBER, ONE, SEVERAL
from poisonlab.errors import SettingsError

_SHOWN = 10
"""Most problems in one message."""
_LONGEST = 100
"""Most characters of a key or value in a message."""
_TELLING = ("source", "method", "name", "base")
"""Keys whose values decide which other keys a mapping may hold."""
_PATTERNS = {
    r"^[a-z0-9][a-z0-9.-]*$": "a name of small letters, digits, dots and dashes, with a letter or digit first",
    r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$": "a path below this folder, of letters, digits and '_', '.', '-', '/'",
    r"^[\w.]+:\w+$": "module:function",
}
"""Descriptions of these patterns for messages."""


def explained(error: ValidationError, kind: type[BaseModel], where: str, more: tuple[str, ...] = ()) -> SettingsError:
    """The error that a user reads: where the problems are, what is wrong, and what is allowed.

    Args:
        error: pydantic's error about ``kind``.
        kind: the settings that were checked.
        where: the file or function that they come from.
        more: further top-level keys that are allowed, but removed before ``kind`` is checked.
    """
    problems = error.errors(include_url=False)
    # A wrong item also makes its list count as too short: report only the item.
    outer = {tuple(problem["loc"][:depth]) for problem in problems for depth in range(1, len(problem["loc"]))}
    texts = list(dict.fromkeys(_explain(problem, kind, more) for problem in problems if problem["loc"] not in outer))
    rest = [f"and {len(texts) - _SHOWN} problems more"] if len(texts) > _SHOWN else []
    return SettingsError(f"{where}: " + "; ".join(texts[:_SHOWN] + rest))


def _explain(problem: Any, kind: type[BaseModel], more: tuple[str, ...]) -> str:
    # Pydantic's location also names union members, which are no config keys.
    parts = [str(part) for number, part in enumerate(problem["loc"]) if number == 0 or str(part) not in _tags(kind)]
    place = _shortened(".".join(parts))
    text = str(problem["msg"]).removeprefix("Value error, ")
    shown = problem.get("input")
    given = f", not {_shortened(repr(shown))}" if isinstance(shown, str | int | float | bool) or shown is None else ""
    match problem["type"]:
        case "extra_forbidden":
            *section, key = problem["loc"]
            source = f" of source {section[1]}" if section[:1] == ["dataset"] and len(section) == 2 else ""
            known = _keys(tuple(section), kind) + ([] if section else list(more))
            return f"unknown key {place!r}{source}{_suggest(str(key), known)}"
        case "union_tag_invalid":
            chosen = problem["ctx"]
            tag = _shortened(repr(chosen["tag"]))
            return f"{place}.{_key(chosen)}: Input should be one of {chosen['expected_tags']}, not {tag}"
        case "union_tag_not_found":
            return f"'{place}.{_key(problem['ctx'])}' is missing"
        case "missing":
            return f"{place!r} is missing"
        case "model_type" | "model_attributes_type" | "dict_type":
            text = f"must hold keys and values, such as {_example(tuple(problem['loc']), shown, kind)}"
        case "tuple_type" | "list_type":
            text = f"must be a list, such as [{_items(str(shown))}]" if given else "must be a list"
        case "string_pattern_mismatch" if (meant := _PATTERNS.get(problem["ctx"]["pattern"])) is not None:
            text = f"must be {meant}"
    return f"{place}: {text}{given}" if place else text


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _items(text: str) -> str:
    """A value as the items of a list; a range such as 0-5 becomes its first numbers."""
    if (ends := re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-|\.\.)\s*([0-9]{1,9})\s*", text)) is None:
        return _shortened(text)
    return ", ".join(map(str, range(int(ends[1]), int(ends[2]) + 1)[:_SHOWN])) or text


def _key(context: Mapping[str, str]) -> str:
    """The key that tells the members of a union apart, without pydantic's quotes."""
    return context["discriminator"].strip("'")


def _example(section: tuple[str | int, ...], given: Any, kind: type[BaseModel]) -> str:
    """An example mapping for the section; a bare name becomes the value of the key that it was most likely meant
    for."""
    keys = _keys(section, kind)
    key = next((key for key in _TELLING if key in keys), keys[0] if keys else "key")
    named = isinstance(given, str) and (given in _tags(kind) or key == "base")
    return f"{{{key}: {_shortened(str(given)) if named else '...'}}}"


@cache
def _tags(kind: type[BaseModel]) -> frozenset[str]:
    """Every value of a field that tells the members of a union apart."""
    found = {ONE, SEVERAL, CLASS_NUMBER, CLASS_NAME, A_FILE, A_SUBSET}
    for definition in _schema(kind).get("$defs", {}).values():
        for field in ("source", "name", "method"):
            values = definition.get("properties", {}).get(field, {})
            found |= {values["const"]} if "const" in values else set(values.get("enum", ()))
    return frozenset(found)


def _suggest(key: str, known: list[str]) -> str:
    # A key that begins with a known one was most likely meant for it. A text longer than any key is no misspelling.
    begun = [name for name in known if len(name) > 2 and key.startswith(name)]
    if begun:
        return f" (did you mean {max(begun, key=len)!r}?)"
    close = get_close_matches(key, known, n=1) if len(key) <= _LONGEST else []
    return f" (did you mean {close[0]!r}?)" if close else ""


def _keys(section: tuple[str | int, ...], kind: type[BaseModel]) -> list[str]:
    """The keys of a section; ``section`` is its location as pydantic gives it: keys, numbers and union tags."""
    nodes = _alternatives(_schema(kind), kind)
    for part in section:
        nodes = [inner for node in nodes for inner in _inside(node, part, kind)]
    return sorted({key for node in nodes for key in node.get("properties", {})})


@cache
def _schema(kind: type[BaseModel]) -> dict[str, Any]:
    return kind.model_json_schema()


def _alternatives(node: Mapping[str, Any], kind: type[BaseModel]) -> list[Mapping[str, Any]]:
    """The node, or the members of its union, with references resolved."""
    if "$ref" in node:
        return _alternatives(_schema(kind)["$defs"][node["$ref"].rpartition("/")[2]], kind)
    if members := [*node.get("anyOf", ()), *node.get("oneOf", ())]:
        return [each for member in members for each in _alternatives(member, kind)]
    return [node]


def _inside(node: Mapping[str, Any], part: str | int, kind: type[BaseModel]) -> list[Mapping[str, Any]]:
    """The nodes at ``part`` of a node; the node itself if ``part`` is one of its union tags."""
    if isinstance(part, int):
        return _alternatives(node["items"], kind) if "items" in node else []
    properties = node.get("properties", {})
    if part in properties:
        return _alternatives(properties[part], kind)
    tagged = any(part == field.get("const") or part in field.get("enum", ()) for field in properties.values())
    return [node] if tagged or part in (ONE, SEVERAL, A_FILE, A_SUBSET) else []
