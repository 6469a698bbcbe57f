"""The export program: what it writes comes back as the same poisons, and bad input ends in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from harness import Checkout, Outcome

from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.data.dataset import ImageDataset
from poisonlab.interchange.imported import complete, read_poisons

ROOT = Path(__file__).resolve().parents[2]


def dataset() -> ImageDataset:
    images = torch.randint(0, 256, (24, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(24) % 3
    return ImageDataset(images[:18], labels[:18], images[18:], labels[18:], ("a", "b", "c"), (0.5,) * 3, (0.2,) * 3)


def poisons() -> PoisonSet:
    data, rows = dataset(), torch.tensor([1, 4, 10])
    bases = data.train_images[rows]
    images = (bases.int() + 5).clamp(0, 255).to(torch.uint8)
    goal = Goal(data.test_images[2:3], torch.tensor([2]), torch.tensor([1]))
    return PoisonSet(rows, images, data.train_labels[rows], bases, goal)


def export(*arguments: str | Path) -> Outcome:
    return Checkout(ROOT).script("export", *map(str, arguments))


@pytest.mark.parametrize(("form", "name"), [("benchmark", "out"), ("png", "out"), ("tensors", "out.pth")])
def test_what_is_exported_is_imported_again(tmp_path: Path, form: str, name: str) -> None:
    poisons().save(tmp_path / "poisons.safetensors")
    done = export("--poisons", tmp_path / "poisons.safetensors", "--format", form, "--output", tmp_path / name)
    assert done.code == 0, done.output
    back = complete(read_poisons(tmp_path / name), dataset())
    for part in ("indices", "images", "labels", "base_images"):
        assert torch.equal(getattr(poisons(), part), getattr(back, part)), part
    for part in ("targets", "target_labels", "adversarial_labels"):
        assert torch.equal(getattr(poisons().goal, part), getattr(back.goal, part)), part


def test_changes_of_a_whole_set_are_imported_again(tmp_path: Path) -> None:
    data, rows = dataset(), torch.arange(18)
    images = (data.train_images.int() + torch.where(rows % 2 > 0, 5, -5)[:, None, None, None]).clamp(0, 255)
    whole = PoisonSet(rows, images.to(torch.uint8), data.train_labels, data.train_images)
    whole.save(tmp_path / "poisons.safetensors")
    done = export("--poisons", tmp_path / "poisons.safetensors", "--format", "changes", "--output", tmp_path / "a.npz")
    assert done.code == 0, done.output
    back = complete(read_poisons(tmp_path / "a.npz"), data, targeted=False)
    assert torch.equal(back.images, whole.images)
    assert torch.equal(back.indices, rows)


def test_a_missing_set_is_one_line(tmp_path: Path) -> None:
    done = export("--poisons", tmp_path / "none.safetensors", "--format", "png", "--output", tmp_path / "out")
    assert done.code == 2
    assert done.output.startswith("error: ")
    assert done.output.count("\n") == 1
    assert "none.safetensors" in done.output
    assert not (tmp_path / "out").exists()


def test_an_export_overwrites_nothing(tmp_path: Path) -> None:
    poisons().save(tmp_path / "poisons.safetensors")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    done = export("--poisons", tmp_path / "poisons.safetensors", "--format", "png", "--output", tmp_path / "out")
    assert done.code == 2
    assert done.output.count("\n") == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(("form", "name"), [("tensors", "out.pth"), ("npz", "out.npz")])
def test_nor_does_it_overwrite_a_file(tmp_path: Path, form: str, name: str) -> None:
    poisons().save(tmp_path / "poisons.safetensors")
    (tmp_path / name).write_text("mine")
    done = export("--poisons", tmp_path / "poisons.safetensors", "--format", form, "--output", tmp_path / name)
    assert done.code == 2
    assert f"{name} exists already" in done.output
    assert done.output.count("\n") == 1
    assert (tmp_path / name).read_text() == "mine"
