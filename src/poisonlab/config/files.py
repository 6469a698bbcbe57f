"""Config files before they are read: what YAML would pass over in silence, or run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from poisonlab.errors import SettingsError

_DEEPEST = 50
_TEMPLATE = "__use_yte__"
_MERGE = "<<"


def check_config_file(path: Path) -> None:
    """Check that a file says nothing twice, is not nested without end, and is no template.

    Snakemake takes the last of two equal keys, and runs the Python in a file that calls itself a template of YTE.
    Nothing is built here, so that neither tags nor anchors do anything. A file that is no YAML is left to Snakemake.

    Raises:
        SettingsError: one line that names the file and the line in it.
    """
    try:
        for key, line, depth in _keys(path):
            if key == _TEMPLATE and depth == 1:
                raise SettingsError(f"config: {path}:{line}: {_TEMPLATE} makes it a program: write its values out")
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return


def _keys(path: Path) -> Iterator[tuple[str, int, int]]:
    """Key, line and depth of every entry of every mapping."""
    # For each open collection: the keys so far and whether a key comes next; None for a list.
    open_now: list[tuple[dict[str, int], list[bool]] | None] = []
    with path.open(encoding="utf-8") as file:
        for event in yaml.parse(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            assert event.start_mark is not None
            line = event.start_mark.line + 1
            if isinstance(event, yaml.CollectionEndEvent):
                open_now.pop()
                continue
            if not isinstance(event, yaml.NodeEvent):
                continue
            inside = open_now[-1] if open_now else None
            if inside is not None:
                keys, comes_next = inside
                if comes_next[0] and isinstance(event, yaml.ScalarEvent):
                    if event.value in keys and event.value != _MERGE:
                        first = keys[event.value]
                        raise SettingsError(
                            f"config: {path}:{line}: {event.value[:100]!r} is given twice, first on line {first}"
                        )
                    keys[event.value] = line
                    yield event.value, line, len(open_now)
                comes_next[0] = not comes_next[0]
            if isinstance(event, yaml.CollectionStartEvent):
                if len(open_now) == _DEEPEST:
                    raise SettingsError(f"config: {path}:{line}: nested more than {_DEEPEST} deep")
                open_now.append(({}, [True]) if isinstance(event, yaml.MappingStartEvent) else None)
