"""Checks of config files before they are read, for what YAML would ignore silently, or run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO

import yaml

from poisonlab.errors import SettingsError

_DEEPEST = 50
_TEMPLATE = "__use_yte__"
_MERGE = "<<"


class _Mapping:
    """An open mapping: its keys so far, by line, and whether a key comes next."""

    def __init__(self) -> None:
        self.keys: dict[str, int] = {}
        self.key_next = True


def check_config_file(path: Path) -> None:
    """Check that a file is YAML or JSON without repeated keys, too deep nesting or a template.

    Snakemake takes the last of two equal keys, and runs the Python in a file that is marked as a template of YTE. This
    check builds no values, so tags and anchors have no effect. Snakemake itself reports a file that cannot be read.

    Raises:
        SettingsError: one line that names the file and the line in it.
    """
    try:
        # Snakemake, too, reads in text mode and with the parser written in Python: another parser might see another
        # file.
        with path.open(encoding="utf-8") as file:
            _check(file, path)
    except (OSError, UnicodeDecodeError):
        return
    except yaml.YAMLError as error:
        if _is_json(path):
            return
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
        where = path if mark is None else f"{path}:{mark.line + 1}"
        raise SettingsError(f"config: {where}: no YAML: {' '.join(str(problem).split())}") from error


def _is_json(path: Path) -> bool:
    """Whether the file is JSON but not YAML, such as JSON indented with tabs."""
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return True


def _check(file: TextIO, path: Path) -> None:
    # None for a list.
    open_now: list[_Mapping | None] = []
    for event in yaml.parse(file, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionEndEvent):
            open_now.pop()
        if not isinstance(event, yaml.NodeEvent):
            continue
        assert event.start_mark is not None
        where = f"config: {path}:{event.start_mark.line + 1}"
        # Refused at any depth: an alias or a merge could move it to the top.
        if isinstance(event, yaml.ScalarEvent) and event.value == _TEMPLATE:
            raise SettingsError(f"{where}: {_TEMPLATE} makes it a program: write its values out")
        inside = open_now[-1] if open_now else None
        if inside is not None:
            if inside.key_next and isinstance(event, yaml.ScalarEvent) and event.value != _MERGE:
                if (first := inside.keys.get(event.value)) is not None:
                    raise SettingsError(f"{where}: {event.value[:100]!r} is given twice, first on line {first + 1}")
                inside.keys[event.value] = event.start_mark.line
            inside.key_next = not inside.key_next
        if isinstance(event, yaml.CollectionStartEvent):
            if len(open_now) == _DEEPEST:
                raise SettingsError(f"{where}: nested more than {_DEEPEST} deep")
            open_now.append(_Mapping() if isinstance(event, yaml.MappingStartEvent) else None)
