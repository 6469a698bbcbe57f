"""Print the reference of every config key, made from the settings classes; with --write, update docs/config.md."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any

from poisonlab.config.recipes import PUBLISHED
from poisonlab.config.study import Study
from poisonlab.config.types import Settings

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "config.md"

Schema = dict[str, Any]

INTRODUCTION = """\
# Config keys

<!-- Made by docs/generate_config_reference.py from src/poisonlab/config; edit the docstrings there. -->

A config is a YAML file with the keys of [Study](#study); [config/README.md](../config/README.md) says how several files
are merged. `~` in a path is the home folder. Unknown keys are errors, and so is a key given twice.

`[]` in a path stands for every entry of a list. A key without a default is required. Intensities (`eps`, `zeta`, `mu`,
`init`, `radius`) are in pixel levels, that is 1/255 of the pixel range; the text `"8/255"` is 8 levels, too. A bound
below one level is refused: 0.0314 was most likely meant as 8/255.

The ranges below hold for single keys. Rules between keys, such as "an attack names an existing surrogate", are checked
when Snakemake reads the config. A breach stops it before any job, with one line that names the key.
"""

RECIPES = """\
## Published recipes

`recipe.base` fills a recipe with the values of a published one; keys written beside it win. Keys not listed keep the
default of [NamedRecipe](#namedrecipe).
"""


def reference() -> str:
    """The content of docs/config.md."""
    schema = Study.model_json_schema()
    groups = {"Study": schema, **schema["$defs"]}
    # Programs and stages that were imported beside this have settings of their own, some of the same names.
    kinds = {kind.__name__: kind for kind in _kinds(Settings) if kind.__module__.startswith("poisonlab.config.")}
    sections = [INTRODUCTION]
    for name, paths in _places(groups).items():
        sections.append(_section(name, groups[name], _meanings(kinds[name]), paths))
    sections.append(_recipes())
    return "\n".join(sections)


def _kinds(base: type[Settings]) -> Iterator[type[Settings]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)


def _meanings(kind: type[Settings]) -> dict[str, str]:
    """The docstrings of the fields. Pydantic can read them, too, but would do so whenever a program starts."""
    found = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, Settings):
            (body,) = ast.parse(dedent(inspect.getsource(base))).body
            assert isinstance(body, ast.ClassDef)
            for field, text in pairwise([*body.body, None]):
                match field, text:
                    case ast.AnnAssign(target=ast.Name(id=key)), ast.Expr(value=ast.Constant(value=str(meaning))):
                        found[key] = meaning
                    case ast.AnnAssign(target=ast.Name(id=key)), _:
                        found[key] = ""
    return found


def _places(groups: dict[str, Schema]) -> dict[str, list[str]]:
    """Where in a config each group of settings can stand, in the order of first mention."""
    places: dict[str, list[str]] = {"Study": []}
    waiting = [("Study", "")]
    while waiting:
        group, path = waiting.pop(0)
        for key, field in groups[group]["properties"].items():
            for name, marks in _references(field):
                place = f"{path}.{key}{marks}" if path else f"{key}{marks}"
                if place not in places.setdefault(name, []):
                    places[name].append(place)
                    waiting.append((name, place))
    return places


def _references(field: Schema) -> Iterator[tuple[str, str]]:
    """Names of the groups a field can hold, each with ``[]`` per list around it."""
    if "$ref" in field:
        yield field["$ref"].rpartition("/")[2], ""
    for member in _members(field):
        yield from _references(member)
    if "items" in field:
        for name, marks in _references(field["items"]):
            yield name, "[]" + marks


def _members(field: Schema) -> list[Schema]:
    """The alternatives of a union."""
    members: list[Schema] = field.get("oneOf") or field.get("anyOf") or []
    return members


def _section(name: str, group: Schema, meanings: dict[str, str], paths: list[str]) -> str:
    lines = [f"## {name}", "", _plain(group.get("description", "")), ""]
    if paths:
        lines += ["In: " + ", ".join(f"`{path}`" for path in paths) + ".", ""]
    required = group.get("required", [])
    rows = [
        [
            f"`{key}`",
            _type(field),
            _range(field),
            _default(field, key in required),
            _plain(meanings[key]),
        ]
        for key, field in group["properties"].items()
    ]
    return "\n".join([*lines, *_table(["Key", "Type", "Range", "Default", "Meaning"], rows), ""])


def _type(field: Schema) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "oneOf" in field or "anyOf" in field:
        members = [member for member in _members(field) if member.get("type") != "null"]
        return " or ".join(_type(member) for member in members)
    if field.get("maxItems") == 0:
        return "empty list"
    if field.get("type") == "array":
        items = field.get("items") or field["prefixItems"][0]  # all of a tuple are alike
        return f"list of {_type(items)}"
    if field.get("type") == "object":
        return "mapping"
    return {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}[field["type"]]


def _range(field: Schema) -> str:
    for member in _members(field):
        if member.get("type") != "null":
            return _range(member)
    parts = []
    if field.get("minItems"):
        parts.append(f"at least {field['minItems']}")
    for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")):
        if key in field:
            parts.append(f"{sign} {_value(field[key])}")
    if "pattern" in field:
        parts.append(f"`{field['pattern']}`")
    if "maxLength" in field:
        parts.append(f"at most {field['maxLength']} characters")
    if "items" in field and (inner := _range(field["items"])):
        parts.append(f"each {inner}")
    return ", ".join(parts)


def _default(field: Schema, required: bool) -> str:
    if required:
        return "required"
    value = field.get("default")
    # The names that tell the members of a union apart.
    if isinstance(field.get("const"), str) and value == field["const"]:
        return "must be written"
    if value is None:
        return "none"
    return "see there" if isinstance(value, dict) else f"`{_value(value)}`"


def _value(value: Any) -> str:
    """A value as one would write it in YAML."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) and value else json.dumps(value)


def _plain(text: str) -> str:
    """A docstring as Markdown."""
    return " ".join(text.replace("``", "`").split())


def _recipes() -> str:
    rows = [
        [f"`{name}`", ", ".join(f"`{key}: {_flow(value)}`" for key, value in values.items())]
        for name, values in PUBLISHED.items()
    ]
    return "\n".join([RECIPES, *_table(["Recipe", "Values"], rows), ""])


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    return _value(list(value) if isinstance(value, tuple) else value)


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--write", action="store_true", help="update docs/config.md instead of printing")
    if not arguments.parse_args().write:
        print(reference(), end="")
        return
    REFERENCE.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
