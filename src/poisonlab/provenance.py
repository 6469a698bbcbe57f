"""A job's settings and code as plain strings that Snakemake can compare.

Snakemake compares a rule's ``params`` as an unordered set of values, without their names, and silently ignores values
that are not plain. So every setting becomes one string ``section.key=value``, which contains its name, and every source
file one string ``path@digest``. Snakemake then notices a changed string, and ``snakemake -n`` shows it.
Standard library only: the Snakefile imports this module.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_DIGEST_LENGTH = 12

_COMPUTE_NOTHING = ("src/poisonlab/runtime/", "src/poisonlab/config/measures.py", "src/poisonlab/__init__.py")
"""Sources that no digest covers: they run programs, name and show outcomes, or re-export names for users."""
_SETTINGS = "src/poisonlab/config/"
"""Folder of settings classes. Digests omit their fields, because a job gets the values as ``section.key=value``."""


def spec(**sections: Any) -> list[str]:
    """Sorted ``section.key=value`` strings; values are JSON, nested mappings and sequences of mappings are flattened.

    Raises:
        TypeError: a value is of a kind that Snakemake cannot track (paths, arrays, objects).
        ValueError: a value is not finite, or a key is empty, not text, or contains ``.`` or ``=``.
    """
    return sorted(f"{key}={value}" for key, value in _flatten(sections, ""))


def _flatten(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and not value and path:
        yield path, "{}"
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str) or not key or any(mark in key for mark in ".="):
                raise ValueError(f"a setting's name must be text without '.' and '=', not {key!r}")
            yield from _flatten(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
        for place, inner in enumerate(value):
            yield from _flatten(inner, f"{path}.{place}")
    else:
        yield path, _plain(value, path)


def _plain(value: Any, path: str) -> str:
    for inner in value if type(value) in (list, tuple) else [value]:
        if inner is not None and type(inner) not in (bool, int, float, str):
            raise TypeError(f"{path} is a {type(inner).__name__}: Snakemake tracks only plain values")
        if isinstance(inner, float) and not math.isfinite(inner):
            raise ValueError(f"{path} is {inner}: settings must be finite")
    return json.dumps(value, ensure_ascii=False)


def parse(strings: Iterable[str]) -> dict[str, Any]:
    """The nested settings that ``spec`` flattened; sequences of mappings come back as lists.

    Raises:
        ValueError: a string is not ``section.key=value`` with a JSON value.
    """
    nested: dict[str, Any] = {}
    for string in strings:
        path, separator, value = string.partition("=")
        if not separator:
            raise ValueError(f"{string!r} is not of the form section.key=value")
        *parents, leaf = path.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ValueError(f"{path} is given below a setting that has a value of its own")
        if leaf in place:
            raise ValueError(f"{path} is given twice")
        try:
            place[leaf] = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"the value of {path} is not JSON: {value!r}") from error
    result = _lists(nested)
    assert isinstance(result, dict)
    return result


def _lists(value: Any) -> Any:
    """Turn each mapping with keys 0, 1, 2, ... back into the sequence that was flattened."""
    if not isinstance(value, dict):
        return value
    inner = {key: _lists(item) for key, item in value.items()}
    if inner and all(key.isdecimal() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


def digest_of(strings: Sequence[str]) -> str:
    """One short digest of a list of strings, independent of their order."""
    return hashlib.sha256("\n".join(sorted(strings)).encode()).hexdigest()[:_DIGEST_LENGTH]


def code_digests(*roots: str, base: Path = ROOT) -> list[str]:
    """Sorted ``path@digest`` strings of the named sources and of every project module they import, transitively.

    The digest covers the syntax tree without the parts that change no result: comments, docstrings and layout; messages
    of exceptions, help texts, and statements that only print; fields of settings, whose values a job gets as strings.
    The sources in ``_COMPUTE_NOTHING`` are left out, and so are modules that only they import. Imports are read
    statically, so ``roots`` must name every module that is loaded by name (attack, defense, model, data source).

    Args:
        roots: script paths relative to ``base`` (``workflow/scripts/train.py``) or dotted project modules.
        base: the repository's root.

    Raises:
        FileNotFoundError: a root does not exist.
    """
    waiting = [base / root if root.endswith(".py") else _module_file(root, base) for root in roots]
    for root, path in zip(roots, waiting, strict=True):
        if path is None or not path.is_file():
            raise FileNotFoundError(f"no source for {root} below {base}")
    digests: dict[Path, str] = {}
    named: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path is None or path in digests or path.relative_to(base).as_posix().startswith(_COMPUTE_NOTHING):
            continue
        digests[path], imported = _read(path, path.stat().st_mtime_ns, base)
        waiting += [_module_file(name, base) for name in imported - named]
        named |= imported
    return sorted(f"{path.relative_to(base).as_posix()}@{digest}" for path, digest in digests.items())


def newest_source(base: Path = ROOT) -> int:
    """Time of the latest change to a source of the project, moves and copies included, in nanoseconds since the
    epoch."""
    folders = (base / "src" / "poisonlab", base / "workflow" / "scripts")
    return max(_written(path) for folder in folders for path in folder.rglob("*.py"))


def _written(path: Path) -> int:
    """The later of a file's two times, modification and change: a moved or copied file may keep the old first one."""
    found = path.stat()
    return max(found.st_mtime_ns, found.st_ctime_ns)


def changed_sources(planned: Iterable[str], newer_than: int = 0, base: Path = ROOT) -> list[str]:
    """Sources that are gone or whose digest has changed.

    Args:
        planned: strings of ``code_digests``; other strings, such as versions of packages, are ignored.
        newer_than: ``newest_source`` at planning time; files that are not newer count as unchanged.
        base: the repository's root.
    """
    changed = []
    for string in planned:
        name, _, digest = string.rpartition("@")
        path = base / name
        if not name.endswith(".py"):
            continue
        written = _written(path) if path.is_file() else None
        if written is None or (written > newer_than and _read(path, written, base)[0] != digest):
            changed.append(name)
    return changed


def _module_file(name: str, base: Path) -> Path | None:
    """The project file of a dotted module; None for anything outside the project."""
    # Strings instead of paths: a dry run calls this tens of thousands of times.
    for folder in ("src", "workflow/scripts"):
        place = f"{base}/{folder}/{name.replace('.', '/')}"
        for file in (f"{place}/__init__.py", f"{place}.py"):
            if os.path.isfile(file):
                return Path(file)
    return None


# The modification time is part of the cache's key, not of the digest.
@cache
def _read(path: Path, _modified: int, base: Path) -> tuple[str, frozenset[str]]:
    """The digest of a source file, and the dotted names that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = _imports(tree, path, base)
    if path.relative_to(base).as_posix().startswith(_SETTINGS):
        tree = _WithoutFields().visit(tree)
    canonical = _canonical(tree)
    return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGEST_LENGTH], imported


def _imports(tree: ast.Module, path: Path, base: Path) -> frozenset[str]:
    """Dotted names that may be project modules imported by the file at ``path``."""
    source = base / "src"
    package = list(path.relative_to(source).parent.parts) if path.is_relative_to(source) else []
    names: set[str] = set()
    # Importing a module first runs the packages that contain it.
    for depth in range(1, len(package) + 1):
        names.add(".".join(package[:depth]))
    for node in _running_statements(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names |= set(_prefixes(alias.name))
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*parent, *([node.module] if node.module else [])])
            names |= set(_prefixes(module))
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        yield ".".join(parts[:depth])


def _running_statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements except the bodies of ``if TYPE_CHECKING:``, which only a type checker reads."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            continue
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            for other in child.orelse:
                yield from _running_statements(other)
            continue
        yield from _running_statements(child)


class _WithoutFields(ast.NodeTransformer):
    """Removes the fields of settings classes: a job gets their values as strings, and validation changes no value.

    Type aliases of the fields go too, and imports that nothing else uses.
    """

    def visit_Module(self, node: ast.Module) -> ast.AST:
        self.generic_visit(node)
        node.body = [statement for statement in node.body if not _is_type(statement)]
        used = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
        for statement in node.body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                names = statement.names
                statement.names = [name for name in names if (name.asname or name.name).partition(".")[0] in used]
        node.body = [statement for statement in node.body if getattr(statement, "names", True)]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [
            statement
            for statement in node.body
            if not isinstance(statement, ast.AnnAssign) or "ClassVar" in ast.dump(statement.annotation)
        ]
        return self.generic_visit(node)


def _is_type(statement: ast.stmt) -> bool:
    """Whether it names a type, as ``Share = Annotated[float, Field(ge=0)]``."""
    return (
        isinstance(statement, ast.Assign)
        and isinstance(statement.value, ast.Subscript)
        and _name(statement.value.value) in ("Annotated", "Literal")
    )


_OF_ARGUMENTS = ("ArgumentParser", "add_argument", "add_argument_group", "add_parser", "add_subparsers")
_EXPLAINING = ("help", "description", "metavar", "epilog")
_LOGGING = ("debug", "info", "warning", "error", "exception")
_FREE_OF_EFFECTS = ("len", "str", "repr", "round", "sum", "min", "max", "sorted", "list", "map", "join", "format")


def _name(function: ast.expr) -> str:
    """The last part of the called name, as ``append`` of ``found.append``."""
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def _only_prints(call: ast.Call) -> bool:
    """Whether a call prints or logs, and its arguments have no side effects."""
    function = call.func
    logs = isinstance(function, ast.Attribute) and _name(function.value) in ("logger", "logging", "warnings", "log")
    if not (isinstance(function, ast.Name) and function.id == "print") and not (
        logs and _name(function) in (*_LOGGING, "warn")
    ):
        return False
    return all(_has_no_effect(argument) for argument in (*call.args, *(keyword.value for keyword in call.keywords)))


def _has_no_effect(expression: ast.expr) -> bool:
    for node in ast.walk(expression):
        if isinstance(node, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom):
            return False
        if isinstance(node, ast.Call) and _name(node.func) not in _FREE_OF_EFFECTS:
            return False
    return True


def _without_texts(call: ast.Call) -> ast.Call:
    """The call without its text arguments; other arguments may carry more than a message, so they stay."""
    call.args = [argument for argument in call.args if not _is_text(argument)]
    call.keywords = [keyword for keyword in call.keywords if not _is_text(keyword.value)]
    return call


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add | ast.Mod) and (_is_text(node.left) or _is_text(node.right))
    if isinstance(node, ast.IfExp):
        return _is_text(node.body) and _is_text(node.orelse)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _canonical(node: Any) -> str:
    """A syntax tree as text: no positions, no empty fields, which differ between Python versions, and no text that only
    people read: docstrings, messages, help texts and prints."""
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        node.exc = _without_texts(node.exc)
    elif isinstance(node, ast.Call):
        name = _name(node.func)
        if name.endswith("Error"):
            node = _without_texts(node)
        elif name in _OF_ARGUMENTS:
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in _EXPLAINING]
    fields = []
    for field in node._fields:
        value = getattr(node, field, None)
        if isinstance(value, list):
            items = [_canonical(item) for item in value if not (isinstance(item, ast.Expr) and _only_tells(item.value))]
            if items:
                fields.append(f"{field}=[{','.join(items)}]")
        elif value is not None:
            fields.append(f"{field}={_canonical(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _only_tells(value: ast.expr) -> bool:
    """Whether a statement is a docstring, or prints."""
    if isinstance(value, ast.Constant):
        return isinstance(value.value, str)
    return isinstance(value, ast.Call) and _only_prints(value)


def locked_versions(lock: Path, *packages: str) -> list[str]:
    """``package==version`` strings from a lock file, for the packages whose version changes results.

    A lock file for several Python versions may pin a package more than once; every pin is returned.

    Raises:
        ValueError: the lock does not pin a package.
    """
    pins: dict[str, list[str]] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        name, separator, rest = line.partition("==")
        if separator and not name.startswith((" ", "#")):
            pins.setdefault(name.strip(), []).append(rest.split()[0])
    missing = [package for package in packages if package not in pins]
    if missing:
        raise ValueError(f"{lock} does not pin {', '.join(missing)}: regenerate it with `make lock`")
    return [f"{package}=={version}" for package in packages for version in sorted(pins[package])]
