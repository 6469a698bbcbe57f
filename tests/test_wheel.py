"""The package as others get it: a wheel in a clean environment, one version, and how to cite it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import poisonlab

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "envs/requirements.lock"
UV = str(Path(sys.executable).with_name("uv"))

USE = """
import poisonlab, torch
from importlib.metadata import version

assert poisonlab.__version__ == version("poisonlab") == "{version}"
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
noise = poisonlab.friendly_noise(network, torch.rand(2, 3, 2, 2))
print(tuple(noise.shape), poisonlab.__file__)
"""


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A program that sees nothing of this environment and this checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, check=False)


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not Path(UV).exists(), reason="uv is not installed")
def test_a_wheel_works_in_a_clean_environment(tmp_path: Path) -> None:
    # Of copies, as setuptools leaves files beside the sources.
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    build = (UV, "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", "wheels", ".")
    succeeded(run(*build, folder=tmp_path))
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    assert wheel.name == f"poisonlab-{poisonlab.__version__}-py3-none-any.whl"
    succeeded(run(UV, "venv", "--python", sys.executable, "clean", folder=tmp_path))
    python = str(tmp_path / "clean/bin/python")
    install = (UV, "pip", "install", "--python", python, "--constraint", str(LOCK), str(wheel))
    # What the lock names was downloaded when this environment was made.
    if run(*install, "--offline", folder=tmp_path).returncode != 0:
        succeeded(run(*install, folder=tmp_path))
    (tmp_path / "use.py").write_text(USE.format(version=poisonlab.__version__), encoding="utf-8")
    told = succeeded(run(python, "-I", "use.py", folder=tmp_path))
    assert told.startswith("(2, 3, 2, 2)")
    assert str(tmp_path / "clean/lib") in told


def test_the_version_has_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "poisonlab.__version__"}
    assert citation()["version"] == poisonlab.__version__


def test_the_lock_has_all_that_the_extras_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = set(re.findall(r"^([\w.-]+)==", LOCK.read_text(encoding="utf-8"), flags=re.MULTILINE))
    extras = project["optional-dependencies"]
    assert {"workflow", "examples", "docs"} == extras.keys()
    for extra, packages in {"": project["dependencies"], **extras}.items():
        names = {re.split(r"[\[<>=~;]", package)[0] for package in packages}
        assert names <= locked, extra


# --- Citation ---


def citation() -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return told


PERSON = {"family-names", "given-names", "orcid", "affiliation"}


def test_the_citation_file_has_the_fields_of_its_format() -> None:
    """As the Citation File Format 1.2.0 asks for them."""
    told = citation()
    assert told["cff-version"] == "1.2.0"
    assert {"title", "message", "authors", "version", "license", "type"} <= told.keys()
    assert told["type"] == "software"
    for work in (told, *told["references"]):
        assert all({"name"} <= author.keys() or author.keys() <= PERSON for author in work["authors"])
        assert isinstance(work["title"], str)
    for paper in told["references"]:
        assert {"type", "title", "authors", "year", "conference", "url"} <= paper.keys()
        assert paper["type"] == "conference-paper"
        assert isinstance(paper["year"], int)
        assert isinstance(paper["conference"]["name"], str)
        assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", paper["url"])


def test_every_paper_with_published_numbers_is_cited() -> None:
    titles = " ".join(paper["title"] for paper in citation()["references"])
    for words in ("Friendly Noise", "Witches' Brew", "learned faster", "Deep k-NN"):
        assert words in titles
