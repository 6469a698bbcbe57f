"""Each program in examples/ runs on a tiny folder of images; those of other libraries where these are installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
import torch
from harness import Checkout
from torchvision.transforms import v2

from poisonlab import load_noise, save_noise
from poisonlab.provenance import ROOT

EXAMPLES = ROOT / "examples"
OTHERS = {"lightning_module": "lightning", "timm_dataset": "timm", "hugging_face_datasets": "datasets"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen images of two classes, 32 x 32 pixels, and their noise."""
    place = tmp_path_factory.mktemp("data")
    images = torch.randint(0, 256, (16, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    names = [f"{('cat', 'dog')[row % 2]}/{row}.png" for row in range(16)]
    for name, image in zip(names, images, strict=True):
        (place / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        v2.functional.to_pil_image(image).save(place / "train" / name)
    save_noise(place / "noise.safetensors", torch.full((16, 3, 32, 32), 8 / 255), names)
    return place


def run(name: str, *arguments: str) -> None:
    done = Checkout(ROOT).program(f"examples/{name}.py", *arguments, HF_HUB_OFFLINE="1")
    assert done.code == 0, done.output


def test_the_plain_loop_runs_past_the_epoch_of_the_noise(folder: Path) -> None:
    run("plain_pytorch", str(folder / "train"), "6")


def test_the_plain_loop_is_short_and_is_the_one_on_the_page() -> None:
    text = (EXAMPLES / "plain_pytorch.py").read_text("utf-8")
    assert len(text.splitlines()) <= 25
    assert f"```python\n{text}```" in (ROOT / "docs" / "defend-my-pipeline.md").read_text("utf-8")


def test_the_notebook_s_cells_run_in_order(folder: Path, tmp_path: Path) -> None:
    """Without Jupyter: the cells are plain Python, and run as one program on the tiny folder."""
    notebook = nbformat.read(EXAMPLES / "from_folder_to_model.ipynb", as_version=4)
    nbformat.validate(notebook)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    first = 'folder, size, epochs, noise_epoch = "photos", 32, 20, 5'
    assert cells[0] == first
    (tmp_path / "photos").symlink_to(folder / "train")
    (tmp_path / "cells.py").write_text("\n".join([first.replace("20, 5", "2, 1"), *cells[1:]]), "utf-8")
    done = Checkout(tmp_path).program("cells.py", PYTHONPATH=str(ROOT / "src"), MPLBACKEND="agg")
    assert done.code == 0, done.output
    assert "12 images to train on, 4 held out" in done.output or "13 images to train on, 3 held out" in done.output
    assert "accuracy on the held-out images" in done.output
    assert len(load_noise(tmp_path / "noise.safetensors").names) == 16


@pytest.mark.parametrize("name", OTHERS)
def test_other_libraries_train_on_the_noise(name: str, folder: Path) -> None:
    if find_spec(OTHERS[name]) is None:
        pytest.skip(f"{OTHERS[name]} is not installed")
    run(name, str(folder / "train"), str(folder / "noise.safetensors"), "1")


def test_every_example_is_run_and_named_on_the_page() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"plain_pytorch", *OTHERS}
    page = (ROOT / "docs" / "defend-my-pipeline.md").read_text("utf-8")
    assert all(f"(../examples/{name}.py)" in page for name in ("plain_pytorch", *OTHERS))
