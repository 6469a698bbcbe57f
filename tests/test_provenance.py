"""Provenance: settings survive as strings, and a digest changes exactly when code that runs does."""

from __future__ import annotations

import datetime
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from poisonlab.provenance import changed_sources, code_digests, digest_of, locked_versions, newest_source, parse, spec

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
KEYS = st.text(min_size=1, max_size=5).filter(lambda key: not set(key) & set(".=\n") and not key.isdecimal())
VALUES = st.recursive(
    st.one_of(SCALARS, st.lists(SCALARS, max_size=3)),
    lambda inner: st.one_of(
        st.dictionaries(KEYS, inner, min_size=1, max_size=3),
        st.lists(st.dictionaries(KEYS, inner, min_size=1, max_size=2), min_size=1, max_size=12),
    ),
    max_leaves=12,
)
SETTINGS = st.dictionaries(KEYS, VALUES, max_size=4)


def shuffled(value: Any) -> Any:
    """The same settings, every mapping turned round."""
    if isinstance(value, dict):
        return {key: shuffled(inner) for key, inner in reversed(value.items())}
    return [shuffled(inner) for inner in value] if isinstance(value, list) else value


@given(SETTINGS)
@effort(max_examples=40, deadline=None)
def test_settings_come_back(settings: dict[str, Any]) -> None:
    strings = spec(**settings)
    assert parse(strings) == settings
    assert parse(reversed(strings)) == settings
    assert all(isinstance(string, str) and "\n" not in string for string in strings)
    assert strings == sorted(set(strings)) == spec(**shuffled(settings))


@given(SETTINGS, SETTINGS)
@effort(max_examples=40, deadline=None)
def test_other_settings_are_another_set_of_strings(first: dict[str, Any], second: dict[str, Any]) -> None:
    # repr, because Python takes 1, 1.0 and True for equal.
    if repr(shuffled(shuffled(first))) != repr(shuffled(shuffled(second))) and first != second:
        assert set(spec(**first)) != set(spec(**second))


def test_values_carry_their_names() -> None:
    assert spec(a={"x": 8, "y": 16}) == ["a.x=8", "a.y=16"]
    assert not set(spec(a={"x": 16, "y": 8})) & set(spec(a={"x": 8, "y": 16}))
    assert spec(list=[{"b": 1}, {"b": 2}]) == ["list.0.b=1", "list.1.b=2"]
    assert spec(flag=True, one=1, text="1", number=1.0) == ["flag=true", "number=1.0", "one=1", 'text="1"']


def test_eleven_items_keep_their_order() -> None:
    items = [{"n": number} for number in range(11)]
    assert parse(spec(items=items)) == {"items": items}


@pytest.mark.parametrize(
    "value",
    [
        Path("a"),
        np.float64(1),
        np.int64(1),
        np.zeros(2),
        {1, 2},
        object(),
        b"x",
        datetime.date(2020, 1, 1),
        [Path("a")],
        [[1]],
        (np.float64(1),),
    ],
)
def test_what_snakemake_cannot_track_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r"a\.b"):
        spec(a={"b": value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, float("-inf")]])
def test_numbers_must_be_finite(value: object) -> None:
    with pytest.raises(ValueError, match=r"a\.b"):
        spec(a={"b": value})


@pytest.mark.parametrize("key", ["", "a.b", "a=b", 3])
def test_keys_must_be_distinguishable(key: object) -> None:
    with pytest.raises(ValueError):
        spec(a={key: 1})


@pytest.mark.parametrize("string", ["a", "a=", "a={", "a.b=word", ""])
def test_other_strings_are_refused(string: str) -> None:
    with pytest.raises(ValueError):
        parse([string])


@pytest.mark.parametrize("strings", [["a=1", "a.b=2"], ["a.b=2", "a=1"]])
def test_contradicting_strings_are_refused(strings: list[str]) -> None:
    with pytest.raises(ValueError):
        parse(strings)


@pytest.mark.parametrize("settings", [{"a": {}}, {"a": [{}, {"x": 1}]}, {"a": [{"x": {}}]}])
def test_empty_mappings_come_back(settings: dict[str, Any]) -> None:
    assert parse(spec(**settings)) == settings


def test_digest_of_ignores_order_only() -> None:
    assert digest_of(["a=1", "b=2"]) == digest_of(["b=2", "a=1"])
    assert len({digest_of(strings) for strings in (["a=1"], ["a=2"], ["a=1", "b=2"], ["a=1b=2"])}) == 4


# --- code -----------------------------------------------------------------------------------------------------------

TREE = {
    "src/lab/__init__.py": '"""The lab."""\n',
    "src/lab/top.py": "from lab.middle import helper\nimport numpy\n\n\ndef top():\n    return helper()\n",
    "src/lab/middle.py": "from .deep.leaf import value\n\n\ndef helper():\n    return value\n",
    "src/lab/deep/__init__.py": "",
    "src/lab/deep/leaf.py": 'from ..side import one\n\n\ndef value(a, b=2):\n    """Doc."""\n    return a + b * one\n',
    "src/lab/side.py": "one = 1\n",
    "src/lab/typed.py": "",
    "src/lab/attack.py": "strength = 1\n",
    "src/lab/unrelated.py": "x = 1\n",
    "src/poisonlab/__init__.py": "",
    "src/poisonlab/runtime/__init__.py": "",
    "src/poisonlab/runtime/locks.py": "seconds = 1\n",
    "src/poisonlab/config/__init__.py": "",
    "src/poisonlab/config/thing.py": "from lab.side import one\n",
    "workflow/scripts/job.py": "from typing import TYPE_CHECKING\n\nfrom lab import top\nimport shared\n"
    "from poisonlab.config.thing import Thing\nfrom poisonlab.runtime.locks import seconds\n\n"
    "if TYPE_CHECKING:\n    from lab.typed import T\n",
    "workflow/scripts/shared.py": "y = 1\n",
}  # fmt: skip
LEAF = "src/lab/deep/leaf.py"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in TREE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def edit(tree: Path, name: str, change: Callable[[str], str]) -> None:
    path = tree / name
    before = path.stat().st_mtime_ns
    path.write_text(change(path.read_text()))
    # Coarse clocks would let two writes share a time.
    os.utime(path, ns=(before + 10**9, before + 10**9))


def digests(tree: Path, *more: str) -> dict[str, str]:
    return dict(string.split("@") for string in code_digests("workflow/scripts/job.py", *more, base=tree))


def test_everything_that_runs_is_named_once(tree: Path) -> None:
    assert set(digests(tree)) == {
        "workflow/scripts/job.py",
        "workflow/scripts/shared.py",
        "src/lab/__init__.py",
        "src/lab/top.py",
        "src/lab/middle.py",
        "src/lab/deep/__init__.py",
        "src/lab/deep/leaf.py",
        "src/lab/side.py",
        "src/poisonlab/config/__init__.py",
        "src/poisonlab/config/thing.py",
    }
    assert set(digests(tree, "lab.attack")) - set(digests(tree)) == {"src/lab/attack.py"}
    strings = code_digests("workflow/scripts/job.py", base=tree)
    assert strings == sorted(strings)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "# A comment.\n" + text + "\n\n# Another.\n",
        lambda text: text.replace('"""Doc."""', '"""Other words,\n\n    longer ones."""'),
        lambda text: text.replace('    """Doc."""\n', ""),
        lambda text: text.replace("def value(a, b=2):", "def value(\n    a,\n    b=2,\n):"),
        lambda text: text.replace("a + b * one", "(a + (b * one))  # sum"),
        lambda text: '"""Module."""\n' + text,
    ],
)
def test_comments_docstrings_and_layout_do_not_count(tree: Path, change: Callable[[str], str]) -> None:
    before = digests(tree)
    edit(tree, LEAF, change)
    assert change(TREE[LEAF]) != TREE[LEAF]
    assert digests(tree) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("a + b * one", "(a + b) * one"),
        lambda text: text.replace("b=2", "b=2.0"),
        lambda text: text.replace("b=2", "b=True"),
        lambda text: text.replace("a, b=2", "a, *, b=2"),
        lambda text: text.replace("return a + b * one", "return None"),
        lambda text: text.replace("def value", "async def value"),
        lambda text: text.replace("return a", "x = 'text'\n    return a"),
        lambda text: text + "\nz = {**{}, None: 1}\n",
    ],
)
def test_a_deep_edit_counts_and_only_there(tree: Path, change: Callable[[str], str]) -> None:
    before = digests(tree)
    edit(tree, LEAF, change)
    after = digests(tree)
    assert {name for name in after if after[name] != before[name]} == {LEAF}


WORDS = """
import argparse
import logging
import sys

logger = logging.getLogger()


def work(path, found, epoch, told=False):
    arguments = argparse.ArgumentParser(description="Work.")
    arguments.add_argument("--path", type=int, default=3, help="where", metavar="PATH")
    print("begins", len(found), file=sys.stderr)
    if not told:
        logger.info("found %d", len(found))
    print(next(found))
    if epoch > 3:
        raise OddError(f"epoch {epoch} is odd: " + "choose another", epoch, path=path)
    raise refusal("no")


def refusal(text):
    return OddError("refused: " + text)
"""


def reread(tree: Path, name: str, before: str, after: str) -> bool:
    """Whether a file's digest is another one after an edit."""
    edit(tree, name, lambda _: WORDS if name == LEAF else FIELDS)
    first = digests(tree)
    edit(tree, name, lambda text: _replaced(text, before, after))
    second = digests(tree)
    changed = {path for path in {**first, **second} if first.get(path) != second.get(path)}
    assert changed <= {name}
    return changed != set()


def _replaced(text: str, before: str, after: str) -> str:
    assert text.count(before) == 1, before
    return text.replace(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('f"epoch {epoch} is odd: " + "choose another"', '"an odd epoch"'),
        ('f"epoch {epoch} is odd: " + "choose another"', '"even" if epoch % 2 else f"{epoch} is odd"'),
        ('refusal("no")', 'refusal("by no means")'),
        ('OddError("refused: " + text)', 'OddError(f"refused because of {text}")'),
        ('description="Work."', 'description="Works hard."'),
        (', help="where", metavar="PATH"', ', help="whence"'),
        ('    print("begins", len(found), file=sys.stderr)\n', ""),
        ('print("begins", len(found), file=sys.stderr)', 'print(f"{len(found)} to do", flush=True)'),
        ('logger.info("found %d", len(found))', 'logger.warning(f"found {len(found)}")'),
    ],
)
def test_words_do_not_count(tree: Path, before: str, after: str) -> None:
    assert not reread(tree, LEAF, before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("raise OddError", "raise EvenError"),
        (", epoch, path=path)", ", epoch + 1, path=path)"),
        (", epoch, path=path)", ", epoch)"),
        ('raise refusal("no")', 'return refusal("no")'),
        ("epoch > 3", "epoch > 4"),
        ("default=3", "default=4"),
        ("type=int", "type=float"),
        ('"--path"', '"--paths"'),
        # Printed, it is also taken out of the iterator.
        ("    print(next(found))\n", ""),
        ("len(found), file", "(found := len(found)), file"),
        ('print("begins", len(found), file=sys.stderr)', 'found.remove("begins")'),
        ("told=False", "told=True"),
    ],
)
def test_what_only_looks_like_words_counts(tree: Path, before: str, after: str) -> None:
    assert reread(tree, LEAF, before, after)


SETTINGS_FILE = "src/poisonlab/config/thing.py"
FIELDS = '''
from math import floor
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from lab.side import one

Share = Annotated[float, Field(ge=0, le=1)]


class Thing(Settings):
    """A thing."""

    kind: ClassVar[str] = "thing"
    share: Share = 0.5
    mode: Literal["fast", "slow"] = "fast"

    @property
    def steps(self) -> int:
        return floor(10 * self.share)

    @model_validator(mode="after")
    def _check(self):
        if self.share > one:
            raise ValueError(f"share {self.share} is too large")
        return self
'''


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    share: Share = 0.5\n", "    share: Share = 0.6\n"),
        ("    share: Share = 0.5\n", "    share: Share = 0.5\n    later: Annotated[bool, LATER] = False\n"),
        ("import Field, model_validator", "import AfterValidator, Field, model_validator"),
        ("le=1)]", "le=2)]\n\nMode = Literal['fast', 'slow']"),
        ("is too large", "exceeds one: lower it"),
    ],
)
def test_fields_of_settings_do_not_count(tree: Path, before: str, after: str) -> None:
    assert not reread(tree, SETTINGS_FILE, before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('ClassVar[str] = "thing"', 'ClassVar[str] = "other"'),
        ("floor(10 * self.share)", "floor(20 * self.share)"),
        ("from math import floor", "from math import ceil as floor"),
        ("from math import floor", "from numpy import floor"),
        ("self.share > one", "self.share >= one"),
        ("class Thing(Settings)", "class Thing(Other)"),
    ],
)
def test_what_settings_compute_counts(tree: Path, before: str, after: str) -> None:
    assert reread(tree, SETTINGS_FILE, before, after)


def test_fields_of_other_classes_count(tree: Path) -> None:
    edit(tree, LEAF, lambda _: "class Thing:\n    share: float = 0.5\n")
    before = digests(tree)
    edit(tree, LEAF, lambda text: text.replace("0.5", "0.6"))
    assert digests(tree) != before


def test_what_runs_a_program_is_left_out(tree: Path) -> None:
    assert not any("runtime" in path for path in digests(tree, "poisonlab.runtime.locks"))
    before = digests(tree)
    edit(tree, "src/poisonlab/runtime/locks.py", lambda text: text + "\nnew = 5\nimport lab.unrelated\n")
    assert digests(tree) == before


def test_subtle_pairs_differ(tree: Path) -> None:
    bodies = ["return", "return None", "return 0", "return False", "return ''", "return b''", "return ()", "return []",
              "return {**x}", "return {None: x}", "return x[:]", "return x[None:]", "return x[::1]", "pass",
              "return not x", "return -x", "return 1", "return 1.0", "return '1'"]  # fmt: skip
    found = set()
    for body in bodies:
        edit(tree, LEAF, lambda _, body=body: f"def value(x):\n    {body}\n")
        found.add(digests(tree)[LEAF])
    assert len(found) == len(bodies)


def test_packages_around_and_names_imported_count(tree: Path) -> None:
    for name in ("src/lab/__init__.py", "src/lab/deep/__init__.py", "src/lab/side.py", "workflow/scripts/shared.py"):
        before = digests(tree)
        edit(tree, name, lambda text: text + "\nnew = 5\n")
        after = digests(tree)
        assert {key for key in after if after[key] != before[key]} == {name}
    for name in ("src/lab/unrelated.py", "src/lab/typed.py", "src/lab/attack.py"):
        before = digests(tree)
        edit(tree, name, lambda text: text + "\nnew = 5\n")
        assert digests(tree) == before


def test_the_packages_of_a_module_without_imports_count(tree: Path) -> None:
    edit(tree, LEAF, lambda _: "value = 1\n")
    names = [string.split("@")[0] for string in code_digests("lab.deep.leaf", base=tree)]
    assert names == ["src/lab/__init__.py", "src/lab/deep/__init__.py", LEAF]


def test_imports_inside_functions_and_beside_a_type_check_count(tree: Path) -> None:
    edit(tree, LEAF, lambda text: text + "\n\ndef late():\n    import lab.unrelated\n")
    assert "src/lab/unrelated.py" in digests(tree)
    edit(tree, "workflow/scripts/job.py", lambda text: text + "else:\n    import lab.attack\n")
    assert "src/lab/attack.py" in digests(tree)
    edit(tree, "src/lab/side.py", lambda text: text + "from . import typed\n")
    assert "src/lab/typed.py" in digests(tree)


def test_circles_end(tree: Path) -> None:
    edit(tree, "src/lab/side.py", lambda text: text + "import lab.top\n")
    assert "src/lab/side.py" in digests(tree)


def test_a_missing_root_is_named(tree: Path) -> None:
    for root in ("workflow/scripts/none.py", "lab.none", "numpy"):
        with pytest.raises(FileNotFoundError, match=root.split("/")[-1]):
            code_digests(root, base=tree)


def test_locked_versions(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text(
        "# torch==1\ntorch==2.1 \\\n    --hash=sha256:aa==\nnumpy==2.0 ; python_version > '3'\n    # via torch==9\n"
    )
    assert locked_versions(lock, "torch", "numpy") == ["torch==2.1", "numpy==2.0"]
    with pytest.raises(ValueError, match="pandas"):
        locked_versions(lock, "torch", "pandas")


def test_sources_that_change_after_planning_are_named(tmp_path: Path) -> None:
    package, scripts = tmp_path / "src" / "poisonlab", tmp_path / "workflow" / "scripts"
    for folder in (package, scripts):
        folder.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "one.py").write_text("A = 1\n", encoding="utf-8")
    (scripts / "job.py").write_text("from poisonlab import one\n", encoding="utf-8")
    planned = ["torch==2.12", *code_digests("workflow/scripts/job.py", base=tmp_path), "files read by craft@0123"]
    newest = newest_source(tmp_path)
    later = itertools.count(newest + 10**9, 10**9)

    def edit(text: str) -> list[str]:
        (package / "one.py").write_text(text, encoding="utf-8")
        os.utime(package / "one.py", ns=(newest, next(later)))
        return changed_sources(planned, newest, tmp_path)

    assert changed_sources(planned, newest, tmp_path) == []
    assert edit("A = 1  # a comment changes nothing\n") == []
    assert edit("A = 2\n") == ["src/poisonlab/one.py"]
    assert edit("A = 1\n") == []
    # An older file takes its place, as a backup, or by rsync -a.
    backup = package / "one.bak"
    backup.write_text("A = 0\n", encoding="utf-8")
    os.utime(backup, (1e9, 1e9))
    backup.replace(package / "one.py")
    assert changed_sources(planned, newest, tmp_path) == ["src/poisonlab/one.py"]
    (package / "one.py").unlink()
    assert changed_sources(planned, newest, tmp_path) == ["src/poisonlab/one.py"]
