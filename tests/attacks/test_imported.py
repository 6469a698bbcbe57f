"""Poisons made elsewhere give the training set and the targets they would have given where they were made."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.imported import craft
from poisonlab.config.attacks.imported import Imported
from poisonlab.config.recipe import Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import training_set
from poisonlab.errors import DataError, SettingsError
from poisonlab.interchange.benchmark import write_benchmark
from poisonlab.interchange.png_folder import write_png_folder
from poisonlab.interchange.tensors import write_tensors_pth
from poisonlab.models.classifier import Normalize


def pixels(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 3, 5, 7), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def dataset() -> ImageDataset:
    train, test = torch.arange(40) % 4, torch.arange(12) % 4
    return ImageDataset(pixels(40, 1), train, pixels(12, 2), test, tuple("abcd"), (0.5, 0.4, 0.3), (0.2, 0.2, 0.3))


def poison_set(seed: int = 0, targets: int = 1, **changes: Any) -> PoisonSet:
    """Rows of class 1, in ascending order, moved by at most 8 levels."""
    indices = torch.tensor([5, 13, 29]) + 4 * (seed % 2)
    bases = dataset().train_images[indices]
    shift = torch.randint(-8, 9, bases.shape, generator=torch.Generator().manual_seed(seed + 5))
    shift[0, 0, 0, 0] = 8 if bases[0, 0, 0, 0] < 100 else -8
    parts: dict[str, Any] = {
        "indices": indices,
        "images": (bases.int() + shift).clamp(0, 255).to(torch.uint8),
        "labels": torch.tensor([1, 1, 1]),
        "base_images": bases,
        "targets": pixels(targets, seed + 50),
        "target_labels": torch.full((targets,), 2),
        "adversarial_label": 1,
    }
    return PoisonSet(**{**parts, **changes})


def settings(path: Path | str, **options: Any) -> Imported:
    return Imported(**{"name": "elsewhere", "path": str(path), **options})


def imported(path: Path | str, seed: int = 0, **options: Any) -> PoisonSet:
    data = dataset()
    attacker = Attacker((), Normalize(data.mean, data.std), Recipe())
    return craft(data, attacker, settings(path, **options), seed=seed)


def one_line(caught: pytest.ExceptionInfo[Exception], *words: object) -> None:
    assert "\n" not in str(caught.value)
    for word in words:
        assert str(word) in str(caught.value), str(caught.value)


def save(path: Path, poisons: PoisonSet) -> None:
    poisons.save(path)


Write = Callable[[Path, PoisonSet], None]
FORMATS: dict[str, tuple[Write, str]] = {
    "png": (write_png_folder, ""),
    "benchmark": (write_benchmark, ""),
    "pth": (write_tensors_pth, ".pth"),
    "ours": (save, ".safetensors"),
}


@pytest.fixture(params=list(FORMATS))
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[PoisonSet, str], Path]:
    """Writes a set in each of the formats under a name; returns its path."""
    write, suffix = FORMATS[request.param]

    def at(poisons: PoisonSet, name: str = "made") -> Path:
        path = tmp_path / f"{name}{suffix}"
        write(path, poisons)
        return path

    return at


def same(found: PoisonSet, truth: PoisonSet) -> None:
    for name in ("indices", "images", "labels", "base_images", "targets", "target_labels"):
        assert torch.equal(getattr(found, name), getattr(truth, name)), name
    assert found.adversarial_label == truth.adversarial_label


# --- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [1, 3])
def test_every_format_gives_the_training_set_it_was_written_from(
    written: Callable[[PoisonSet], Path], targets: int
) -> None:
    truth = poison_set(targets=targets)
    found = imported(written(truth))
    same(found, truth)
    ours, theirs = training_set(dataset(), found), training_set(dataset(), truth)
    assert torch.equal(ours.images, theirs.images)
    assert torch.equal(ours.labels, theirs.labels)
    assert found.largest_change() == truth.largest_change() <= 8
    # By hand: only the poisoned rows differ from the clean ones, and hold the poisons.
    changed = (ours.images != dataset().train_images).flatten(1).any(1)
    assert torch.nonzero(changed).flatten().tolist() == [5, 13, 29]


def test_the_seed_in_the_path_chooses_the_file(written: Callable[[PoisonSet, str], Path]) -> None:
    sets = {seed: poison_set(seed) for seed in (0, 3, 11)}
    paths = {seed: written(poisons, f"run-{seed}-of-seed{seed}") for seed, poisons in sets.items()}
    pattern = str(paths[3]).replace("run-3-of-seed3", "run-{seed}-of-seed{seed}")
    for seed, truth in sets.items():
        same(imported(pattern, seed), truth)
        assert settings(pattern).at(seed) == paths[seed]
        files = settings(pattern).files(seed)
        below = [file for file in paths[seed].rglob("*") if file.is_file()]
        assert list(files) == (sorted(below) if paths[seed].is_dir() else [paths[seed]])


def test_a_path_without_a_seed_is_the_same_for_all(written: Callable[[PoisonSet], Path]) -> None:
    path = written(poison_set())
    same(imported(path, 0), imported(path, 7))


def test_nothing_depends_on_the_seed_or_the_global_random_state(written: Callable[[PoisonSet], Path]) -> None:
    path = written(poison_set())
    torch.manual_seed(1)
    first = imported(path, 1)
    torch.manual_seed(2)
    same(imported(path, 2), first)


def test_float_poisons_are_rounded_to_levels(tmp_path: Path) -> None:
    truth = poison_set()
    floats = truth.images / 255 + (torch.rand(truth.images.shape) - 0.5) * 0.9 / 255
    for name, write in (("a.pth", write_tensors_pth), ("b.safetensors", save)):
        write(tmp_path / name, poison_set(images=floats.clamp(0, 1)))
        same(imported(tmp_path / name), truth)


def test_normalised_floats_are_undone(tmp_path: Path) -> None:
    truth, data = poison_set(), dataset()
    path = tmp_path / "poisons.pth"
    normalized = Normalize(data.mean, data.std)(truth.images / 255)
    target = Normalize(data.mean, data.std)(truth.targets / 255)
    pairs = list(zip(normalized, truth.labels.tolist(), strict=True))
    torch.save({"poisons": pairs, "indices": truth.indices, "target": (target[0], 2), "adversarial_label": 1}, path)
    same(imported(path, mean=data.mean, std=data.std), truth)
    with pytest.raises(DataError) as caught:
        imported(path)
    one_line(caught, "normalised", "mean and std")
    with pytest.raises(ValueError, match="both mean and std"):
        settings(path, mean=data.mean)


# --- what the files do not say ----------------------------------------------------------------------------------------


def bare_folder(folder: Path, truth: PoisonSet, facts: dict[str, Any] | None = None) -> Path:
    """A folder of nothing but poisons, and perhaps a few facts."""
    write_png_folder(folder, truth)
    (folder / "poisons.json").unlink()
    for file in (folder / "targets").iterdir():
        file.unlink()
    (folder / "targets").rmdir()
    if facts is not None:
        (folder / "poisons.json").write_text(json.dumps(facts))
    return folder


def test_the_dataset_fills_labels_targets_and_the_adversarial_class(tmp_path: Path) -> None:
    truth, data = poison_set(), dataset()
    found = imported(bare_folder(tmp_path / "bare", truth), target_index=6)
    assert torch.equal(found.images, truth.images)
    assert torch.equal(found.labels, data.train_labels[truth.indices])
    assert torch.equal(found.base_images, data.train_images[truth.indices])
    assert torch.equal(found.targets, data.test_images[6][None])
    assert found.target_labels.tolist() == [int(data.test_labels[6])]
    assert found.adversarial_label == 1
    assert found.facts["target_index"] == 6


def test_the_settings_give_the_adversarial_class(tmp_path: Path) -> None:
    folder = bare_folder(tmp_path / "bare", poison_set())
    assert imported(folder, target_index=6, adversarial_label=3).adversarial_label == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ["target_index"]),
        ({"target_index": 12}, ["target_index 12", "12 test rows"]),
        ({"target_index": 5}, ["adversarial class 1 already"]),
        ({"target_index": 6, "adversarial_label": 4}, ["adversarial label 4", "0 ... 3"]),
    ],
)
def test_what_is_missing_or_wrong_is_one_line(tmp_path: Path, options: dict[str, Any], words: list[str]) -> None:
    folder = bare_folder(tmp_path / "bare", poison_set())
    with pytest.raises(DataError) as caught:
        imported(folder, **options)
    one_line(caught, folder, *words)


def test_a_target_that_the_files_hold_is_not_given_again(written: Callable[[PoisonSet], Path]) -> None:
    with pytest.raises(DataError) as caught:
        imported(written(poison_set()), target_index=6)
    one_line(caught, "targets of its own")


def test_poisons_of_another_dataset_are_one_line(written: Callable[[PoisonSet], Path]) -> None:
    path = written(poison_set(indices=torch.tensor([5, 13, 129])))
    with pytest.raises(DataError) as caught:
        imported(path)
    one_line(caught, "index 129", "40 training rows")


@pytest.mark.parametrize("name", ["none", "none.pth", "none.safetensors", "seed-{seed}"])
def test_a_missing_path_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        imported(tmp_path / name, 4)
    one_line(caught, str(tmp_path / name).replace("{seed}", "4"))
    with pytest.raises(SettingsError) as early:
        settings(tmp_path / name).files(4)
    one_line(early, str(tmp_path / name).replace("{seed}", "4"), "'elsewhere'")


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        imported(tmp_path)
    one_line(caught, tmp_path, "no poisons")
    with pytest.raises(SettingsError):
        settings(tmp_path).files(0)


def test_a_hostile_pickle_runs_no_code(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return Path.touch, (tmp_path / "ran",)

    folder = tmp_path / "folder"
    write_benchmark(folder, poison_set())
    (folder / "poisons.pickle").write_bytes(pickle.dumps([Hostile()]))
    with pytest.raises(DataError) as caught:
        imported(folder)
    one_line(caught, folder)
    assert not (tmp_path / "ran").exists()


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [255, 8, 0.5])
def test_a_bound_is_promised_only_if_it_is_given(eps: float) -> None:
    assert settings("a", eps=eps).bound == eps
    assert settings("a").bound is None


def test_a_promised_bound_is_one_that_the_poisons_can_break(written: Callable[[PoisonSet], Path]) -> None:
    found = imported(written(poison_set()), eps=8)
    assert found.largest_change() == 8
    found.check_bound(settings("a", eps=8).bound or 0)
    with pytest.raises(DataError, match=r"more than eps 7\.9"):
        found.check_bound(settings("a", eps=7.9).bound or 0)


def test_an_import_needs_no_surrogates() -> None:
    assert settings("a").surrogates == ()


def test_a_backdoors_untriggered_images_come_along(tmp_path: Path) -> None:
    truth = poison_set(targets=3, untriggered=pixels(3, 77))
    truth.save(tmp_path / "a.safetensors")
    found = imported(tmp_path / "a.safetensors")
    same(found, truth)
    assert found.untriggered is not None
    assert torch.equal(found.untriggered, pixels(3, 77))
