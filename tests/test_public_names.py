"""The names that the package itself offers: they are the real ones, cost nothing, and hide no module from digests."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import poisonlab
from poisonlab.modules import roots
from poisonlab.provenance import ROOT, code_digests

SOURCE = ROOT / "src" / "poisonlab" / "__init__.py"


def read_by_type_checkers() -> dict[str, str]:
    """The module of each name as mypy and editors see it."""
    (block,) = (node for node in ast.parse(SOURCE.read_text("utf-8")).body if isinstance(node, ast.If))
    return {
        alias.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


@pytest.mark.parametrize("name", poisonlab.__all__)
def test_a_name_is_the_object_that_its_module_defines(name: str) -> None:
    found = getattr(poisonlab, name)
    assert found is getattr(import_module(read_by_type_checkers()[name]), name)
    assert found.__module__ == read_by_type_checkers()[name]


@pytest.mark.parametrize("name", poisonlab.__all__)
def test_a_name_is_documented_and_typed(name: str) -> None:
    found = getattr(poisonlab, name)
    assert len(inspect.getdoc(found) or "") > 20
    call = found.__init__ if inspect.isclass(found) and "__init__" in vars(found) else found
    if inspect.isfunction(call):
        parameters = [each for each in inspect.signature(call).parameters if each != "self"]
        assert {*parameters, "return"} <= set(call.__annotations__)


def test_all_lists_are_of_the_same_names() -> None:
    assert sorted(read_by_type_checkers()) == sorted(poisonlab.__all__)
    assert set(poisonlab.__all__) <= set(dir(poisonlab))


def test_the_page_begins_with_these_names() -> None:
    page = (ROOT / "docs" / "library.md").read_text("utf-8")
    table = page.partition("## Names of the package")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"`(\w+)`", table)) == sorted(poisonlab.__all__)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="'poisonlab' has no attribute 'trian'"):
        _ = poisonlab.trian  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        exec("from poisonlab import trian")


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    program = (
        "import sys, poisonlab\n"
        "assert not [name for name in sys.modules if name.startswith('poisonlab.')]\n"
        "poisonlab.wilson\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_no_job_depends_on_them(tmp_path: Path) -> None:
    for folder in ("src", "workflow/scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    jobs = {"train": roots("models", "lenet"), "tables": [], "dataset": roots("data", "npz")}

    def digests() -> list[list[str]]:
        return [code_digests(f"workflow/scripts/{job}.py", *named, base=tmp_path) for job, named in jobs.items()]

    before = digests()
    copied = tmp_path / "src" / "poisonlab" / "__init__.py"
    copied.write_text(copied.read_text("utf-8") + "\nfrom poisonlab.attacks.matching import gradients\n", "utf-8")
    assert digests() == before


@pytest.mark.parametrize("folder", ["src/poisonlab", "workflow/scripts", "benchmarks", "docs"])
def test_the_lab_s_own_code_imports_from_where_a_name_is_defined(folder: str) -> None:
    """An import from the package itself would hide the module behind it from digests."""
    nodes = [node for path in (ROOT / folder).rglob("*.py") for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    imported = {
        alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module == "poisonlab"
        for alias in node.names
    }
    used = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "poisonlab"
    }
    assert not (imported | used) & set(poisonlab.__all__)
