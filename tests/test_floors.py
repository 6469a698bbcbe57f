"""The house: which package may import which, what stays free of torch, and that running a program computes nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"

FLOORS = (
    ("errors", "randomness", "files", "provenance", "modules", "precision"),
    ("runtime",),
    ("config",),
    ("artifacts", "data", "interchange", "models"),
    ("training",),
    ("attacks", "defenses", "detection", "filters", "landscapes", "scanning"),
    ("evaluation",),
    ("figures",),
    ("graph",),
    ("determinism", "stage_program", "pipelines"),
)
"""From the lowest up. A package imports from floors below and from its own; programs stand above all."""

FREE_OF_TORCH = ("config", "evaluation", "figures", "graph", "runtime", "errors", "files", "provenance", "modules")

KNOWN: set[tuple[str, str]] = set()
"""Imports that break the rule, each until its module has moved."""

KNOWN_WITH_TORCH: set[str] = set()
"""Modules that import torch although they should not, each until it has moved."""


@cache
def modules() -> list[tuple[str, ast.Module]]:
    """Name within the package and syntax tree of every module."""
    paths = sorted((SOURCE / "poisonlab").rglob("*.py"))
    return [
        (".".join(path.relative_to(SOURCE / "poisonlab").with_suffix("").parts), ast.parse(path.read_text("utf-8")))
        for path in paths
        if path.parent != SOURCE / "poisonlab" or path.stem != "__init__"
    ]


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all that is imported, in functions too, but for what only a type checker reads."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            assert child.module is not None
            names = [alias.name for alias in child.names]
            yield from (
                f"{child.module}.{name}" if is_module(f"{child.module}.{name}") else child.module for name in names
            )
        yield from imported(child)


def is_module(name: str) -> bool:
    place = SOURCE / name.replace(".", "/")
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def floor_of(name: str) -> int:
    package = name.removeprefix("poisonlab.").partition(".")[0]
    return next(place for place, packages in enumerate(FLOORS) if package in packages)


def test_every_package_has_a_floor() -> None:
    for name, _ in modules():
        floor_of(name)


def test_each_floor_imports_only_from_those_below() -> None:
    upward = {
        (name, other)
        for name, tree in modules()
        for other in imported(tree)
        if other.startswith("poisonlab.") and floor_of(other) > floor_of(name)
    }
    assert upward == KNOWN


def test_what_is_read_without_torch_imports_none() -> None:
    trees = {f"poisonlab.{name.removesuffix('.__init__')}": tree for name, tree in modules()}
    found = set()
    for name in trees:
        if name.split(".")[1] not in FREE_OF_TORCH or name in ALLOWED:
            continue
        waiting, seen = [name], {name}
        while waiting:
            for other in imported(trees[waiting.pop()]):
                if other.partition(".")[0] in ("torch", "torchvision"):
                    found.add(name)
                if other in trees and other not in seen and other.partition(".")[2] not in KNOWN_WITH_TORCH:
                    seen.add(other)
                    waiting.append(other)
    assert {name.removeprefix("poisonlab.") for name in found} == KNOWN_WITH_TORCH


ALLOWED = {"poisonlab.runtime.cards": {"cuda.get_device_name", "cuda.max_memory_allocated", "get_num_threads",
                                       "backends.cpu.get_cpu_capability", "device"}}  # fmt: skip
"""What run cards ask of torch: names and amounts."""


def attributes_of_torch(tree: ast.AST) -> set[str]:
    found = set()
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node not in inner:
            names = [node.attr]
            value = node.value
            while isinstance(value, ast.Attribute):
                inner.add(value)
                names.append(value.attr)
                value = value.value
            if isinstance(value, ast.Name) and value.id == "torch":
                found.add(".".join(reversed(names)))
    return found


@pytest.mark.parametrize("name", [name for name, _ in modules() if name.startswith("runtime.")])
def test_running_a_program_touches_no_tensor(name: str) -> None:
    tree = dict(modules())[name]
    own = {other.partition(".")[0] for other in imported(tree)}
    assert not own & {"numpy", "scipy", "sklearn", "pandas", "safetensors"}
    allowed = ALLOWED.get(f"poisonlab.{name}", set())
    assert ("torch" in own) <= bool(allowed)
    assert attributes_of_torch(tree) <= allowed
    below = {other.split(".")[1] for other in imported(tree) if other.startswith("poisonlab.")}
    assert below <= {"errors", "files", "provenance", "runtime"}
