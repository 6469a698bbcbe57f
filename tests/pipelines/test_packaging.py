"""What others take up: the wheel, its version, the citation, the catalogue's entry, the public tests."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import poisonlab
from poisonlab.provenance import ROOT

BUILD = "from setuptools import build_meta; print(build_meta.build_wheel('out'))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the backend that pyproject.toml names, from a copy of what a source distribution holds."""
    place = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place)
    shutil.copytree(ROOT / "src", place / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=place, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return place / "out" / done.stdout.split()[-1]


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "poisonlab").rglob("*.py")}
    assert names == sources | {"poisonlab/py.typed"}


def test_the_wheel_is_of_the_package_s_version_and_needs_what_the_package_imports(wheel: Path) -> None:
    assert wheel.name == f"poisonlab-{poisonlab.__version__}-py3-none-any.whl"
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    told = archive.read(metadata).decode()
    needed = set(re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", told, re.MULTILINE))
    modules = {"adjusttext": "adjustText", "pillow": "PIL", "scikit-learn": "sklearn", "pyyaml": "yaml"}
    trees = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "src" / "poisonlab").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    dotted = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    dotted += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    roots = {name.partition(".")[0] for name in dotted}
    foreign = roots - set(sys.stdlib_module_names) - {"poisonlab"}
    imported = {name for name in needed if modules.get(name, name) in foreign}
    # pandas' to_markdown imports tabulate, and its to_latex jinja2.
    assert needed - imported == {"tabulate", "jinja2"}
    # Those of extras: without them the functions that import them are not called.
    extras = set(re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*; extra ==", told, re.MULTILINE))
    assert foreign - {modules.get(name, name) for name in needed | extras} == set()


def test_the_wheel_imports_where_nothing_else_is_installed(wheel: Path, tmp_path: Path) -> None:
    """A wheel of Python alone is installed by unpacking it."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import poisonlab\n"
        f"assert poisonlab.__file__.startswith({str(tmp_path)!r}), poisonlab.__file__\n"
        "import poisonlab.errors, poisonlab.modules\n"
        f"assert poisonlab.__version__ == {poisonlab.__version__!r}\n"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


USE = f"""
import poisonlab, torch
from importlib.metadata import version

assert poisonlab.__version__ == version("poisonlab") == {poisonlab.__version__!r}
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
noise = poisonlab.friendly_noise(network, torch.rand(2, 3, 2, 2))
print(tuple(noise.shape), poisonlab.__file__)
"""


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A program that sees nothing of this environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True)


def test_the_wheel_works_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """With its declared dependencies alone, in the locked versions, which uv keeps since it made this environment."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if uv is None:
        pytest.skip("uv is not installed")
    python = str(tmp_path / "clean/bin/python")
    install = (
        uv,
        "pip",
        "install",
        "--python",
        python,
        "--constraint",
        str(ROOT / "envs/requirements.lock"),
        str(wheel),
    )
    made = run(uv, "venv", "--python", sys.executable, "clean", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    if run(*install, "--offline", folder=tmp_path).returncode != 0:
        installed = run(*install, folder=tmp_path)
        assert installed.returncode == 0, installed.stderr
    (tmp_path / "use.py").write_text(USE, encoding="utf-8")
    used = run(python, "-I", "use.py", folder=tmp_path)
    assert used.returncode == 0, used.stderr
    assert used.stdout.startswith("(2, 3, 2, 2)")
    assert str(tmp_path / "clean/lib") in used.stdout


def test_the_version_has_one_place() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert settings["project"]["dynamic"] == ["version"]
    assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "poisonlab.__version__"}


def test_the_lock_has_all_that_the_package_and_its_extras_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lock = (ROOT / "envs/requirements.lock").read_text("utf-8")
    locked = re.findall(r"^([\w.-]+)==([\w.]+)", lock, re.MULTILINE)
    extras = project["optional-dependencies"]
    assert {"workflow", "examples", "docs"} == set(extras)
    for named in (package for packages in (project["dependencies"], *extras.values()) for package in packages):
        needed = Requirement(named)
        # One version for each range of Pythons.
        versions = [version for name, version in locked if name == needed.name]
        assert versions, named
        assert all(version in needed.specifier for version in versions), named


def test_the_citation_is_of_this_version_and_names_the_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == poisonlab.__version__
    assert {"title", "message", "authors"} <= set(citation)
    titles = [reference["title"] for reference in citation["references"]]
    papers = ("Friendly Noise against", "Witches' Brew", "Poisons that are learned faster", "Deep k-NN Defense")
    for paper in papers:
        assert sum(title.startswith(paper) for title in titles) == 1
    for reference in citation["references"]:
        assert reference["type"] == "conference-paper"
        assert reference["conference"]["name"].startswith(
            {2020: "ECCV", 2021: "ICLR", 2022: ("NeurIPS", "CVPR")}[reference["year"]]
        )
        assert all(set(author) == {"family-names", "given-names"} for author in reference["authors"])
        assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", reference["url"])


def test_the_catalogue_finds_what_it_asks_for() -> None:
    """Standardised usage: the workflow, its configuration's page, the entry with its keys."""
    assert (ROOT / "workflow" / "Snakefile").is_file()
    assert (ROOT / "config" / "README.md").is_file()
    readme = (ROOT / "README.md").read_text("utf-8").lower()
    assert "snakemake" in readme
    assert "workflow" in readme
    entry = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text("utf-8"))["usage"]
    assert set(entry) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert entry["report"] is True
    assert set(entry["mandatory-flags"]) == {"desc", "flags"}
    untested = "`--sdm conda`" in (ROOT / "docs" / "cluster.md").read_text("utf-8")
    assert entry["software-stack-deployment"]["conda"] is not untested


def test_the_public_tests_run_on_every_python_that_is_promised() -> None:
    (job,) = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8"))["jobs"].values()
    pythons = job["strategy"]["matrix"]["python"]
    assert pythons == ["3.11", "3.12", "3.13"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["requires-python"] == f">={pythons[0]}"
    assert any(step.get("run", "").startswith("make test") for step in job["steps"])
