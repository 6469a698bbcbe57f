"""Provenance: settings survive as strings, and a digest changes exactly when code that runs does."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from poisonlab.provenance import code_digests, digest_of, locked_versions, parse, spec

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
    "workflow/scripts/job.py": "from typing import TYPE_CHECKING\n\nfrom lab import top\nimport shared\n\n"
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
