"""The files that a network of the user's own comes from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import nn

from poisonlab.config.own_code import source_of
from poisonlab.models.own_network import own_network

PROGRAMS = Path(__file__).resolve().parents[2] / "workflow/scripts"

FILES = {
    "mine.py": "import os\nimport beside\nfrom packed.inner import x\nraise RuntimeError('was run')\n",
    "beside.py": "from further import y\nimport mine\n",
    "further.py": "",
    "unused.py": "",
    "packed/__init__.py": "raise RuntimeError('was run')\n",
    "packed/inner.py": "",
    "broken/__init__.py": "def (\n",
    "broken/net.py": "",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("named", "files"),
    [
        ("mine:make", ["beside.py", "further.py", "mine.py", "packed/__init__.py", "packed/inner.py"]),
        ("further:make", ["further.py"]),
        ("packed.inner:make", ["packed/__init__.py", "packed/inner.py"]),
        ("packed:make", ["packed/__init__.py", "packed/inner.py"]),
        ("broken.net:make", ["broken/__init__.py", "broken/net.py"]),
        ("nowhere:make", []),
    ],
)
def test_all_of_a_package_and_what_a_module_imports_from_beside_it(named: str, files: list[str], folder: Path) -> None:
    """Nothing of it is run to find that out."""
    assert sorted(source_of(named)) == [str(folder / name) for name in files]


def test_an_installed_package_counts_by_its_first_file(folder: Path) -> None:
    (found,) = source_of("torchvision.models:resnet18")
    assert Path(found).parts[-2:] == ("torchvision", "__init__.py")


def test_the_labs_programs_hide_no_modules_of_their_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program's own folder is the first that Python searches."""
    (folder / "train.py").write_text("from dataset import make\n", encoding="utf-8")
    (folder / "dataset.py").write_text("from torch.nn import Flatten as make\n", encoding="utf-8")
    for name in ("train", "dataset"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(PROGRAMS))
    assert sorted(source_of("train:make")) == [str(folder / "dataset.py"), str(folder / "train.py")]
    monkeypatch.syspath_prepend(str(PROGRAMS))
    try:
        assert isinstance(own_network("train:make"), nn.Flatten)
    finally:
        for name in ("train", "dataset"):
            sys.modules.pop(name, None)
