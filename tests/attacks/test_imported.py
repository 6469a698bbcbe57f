"""Poisons made elsewhere give the training set and the targets they would have given where they were made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.imported import craft
from poisonlab.config.attacks.attack import UNTARGETED
from poisonlab.config.attacks.imported import Imported
from poisonlab.config.recipe import Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import training_set
from poisonlab.errors import DataError, DataWarning, SettingsError
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
        "goal": goal_of(targets, seed),
    }
    return PoisonSet(**{**parts, **changes})


def goal_of(targets: int = 1, seed: int = 0, untriggered: Tensor | None = None) -> Goal:
    """Images of class 2 that are to get class 1."""
    true, wanted = torch.full((targets,), 2), torch.full((targets,), 1)
    return Goal(pixels(targets, seed + 50), true, wanted, untriggered)


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
    for name in ("indices", "images", "labels", "base_images"):
        assert torch.equal(getattr(found, name), getattr(truth, name)), name
    for name in ("targets", "target_labels", "adversarial_labels"):
        assert torch.equal(getattr(found.goal, name), getattr(truth.goal, name)), name


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
    target = Normalize(data.mean, data.std)(truth.goal.targets / 255)
    pairs = list(zip(normalized, truth.labels.tolist(), strict=True))
    torch.save({"poisons": pairs, "indices": truth.indices, "target": (target[0], 2), "adversarial_label": 1}, path)
    same(imported(path, mean=data.mean, std=data.std), truth)
    with pytest.raises(DataError) as caught:
        imported(path)
    one_line(caught, "normalised", "mean and std")
    with pytest.raises(ValueError, match="both mean and std"):
        settings(path, mean=data.mean)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_the_settings_give_target_and_adversarial_class(tmp_path: Path) -> None:
    """``tests/interchange/test_complete.py`` has the rules that they follow."""
    truth, data = poison_set(), dataset()
    write_png_folder(tmp_path / "bare", replace(truth, goal=None))
    found = imported(tmp_path / "bare", target_index=6, adversarial_label=3).goal
    assert found is not None
    assert torch.equal(found.targets, data.test_images[6][None])
    assert found.target_labels.tolist() == [int(data.test_labels[6])]
    assert found.adversarial_labels.tolist() == [3]
    # Classes 1, 2 and 3 become 2, 3 and 0, and so does that of the target.
    rows = torch.tensor([5, 14, 31])
    bases = data.train_images[rows]
    labels = (data.train_labels[rows] + 1) % 4
    shifted = poison_set(indices=rows, labels=labels, images=bases ^ 1, base_images=bases, goal=None)
    write_png_folder(tmp_path / "next", shifted)
    found = imported(tmp_path / "next", target_index=6, all_to_all=True).goal
    assert found is not None
    assert found.adversarial_labels.tolist() == [3]
    # A target that is a test image of another class than it says.
    odd = Goal(data.test_images[6:7], torch.tensor([3]), torch.tensor([1]))
    write_png_folder(tmp_path / "odd", replace(truth, goal=odd))
    with pytest.raises(DataError, match="test image 6 of class 2"):
        imported(tmp_path / "odd")
    assert imported(tmp_path / "odd", allow_mismatch=True).goal is not None


@pytest.mark.parametrize("written", [name for name in FORMATS if name != "benchmark"], indirect=True)
def test_poisons_of_the_whole_set_need_no_target(written: Callable[[PoisonSet], Path]) -> None:
    data = dataset()
    images = data.train_images // 2
    whole = PoisonSet(torch.arange(40), images, data.train_labels, data.train_images)
    found = imported(written(whole), targeted=False)
    assert found.goal is None
    assert torch.equal(training_set(data, found).images, images)


def test_an_untargeted_import_takes_no_target() -> None:
    for name in ("target_index", "target_label", "adversarial_label"):
        with pytest.raises(ValueError, match=f"not targeted, so it takes no {name}"):
            settings("a", targeted=False, **{name: 1})
    names = [[measure.name for measure in settings("a", targeted=targeted).measures] for targeted in (True, False)]
    assert names[0] == ["success", "untriggered_success", "adversarial_confidence", "accuracy"]
    assert names[1] == [measure.name for measure in UNTARGETED]
    assert [settings("a", targeted=targeted).history_level for targeted in (True, False)] == [None, 0.5]
    assert settings("a", targeted=False, low_loss=0.2).history_level == 0.2


@pytest.mark.parametrize("name", ["none", "none.pth", "none.safetensors", "seed-{seed}"])
def test_a_missing_path_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        imported(tmp_path / name, 4)
    one_line(caught, str(tmp_path / name).replace("{seed}", "4"))
    with pytest.raises(SettingsError) as early:
        settings(tmp_path / name).files(4)
    one_line(early, str(tmp_path / name).replace("{seed}", "4"), "'elsewhere'")


@pytest.mark.parametrize("eps", [255, 8, 1.5])
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
    truth = poison_set(goal=goal_of(3, untriggered=pixels(3, 77)))
    truth.save(tmp_path / "a.safetensors")
    found = imported(tmp_path / "a.safetensors")
    same(found, truth)
    assert found.goal.untriggered is not None
    assert torch.equal(found.goal.untriggered, pixels(3, 77))


# --- rows, changes and photos by the config -------------------------------------------------------------------


def crafted(chosen: Imported, data: ImageDataset, seed: int = 0) -> PoisonSet:
    return craft(data, Attacker((), Normalize(data.mean, data.std), Recipe()), chosen, seed=seed)


def test_positions_within_a_subset_and_a_photo_as_the_target(tmp_path: Path) -> None:
    data = dataset()
    # The last 4 of each class are rows 24 to 39, so position 5 is row 29.
    images = data.train_images[[29, 37]] ^ 1
    torch.save([[(image, 1) for image in images], [5, 13]], tmp_path / "poisons0.pth")
    Image.fromarray(pixels(1, 9)[0].permute(1, 2, 0).numpy()).save(tmp_path / "fish0.png")
    chosen = settings(
        tmp_path / "poisons{seed}.pth",
        rows={"last_per_class": 4},
        target_files=str(tmp_path / "fish{seed}.png"),
        target_label="c",
    )
    found = crafted(chosen, data)
    assert found.indices.tolist() == [29, 37]
    assert found.goal is not None
    assert torch.equal(found.goal.targets, pixels(1, 9))
    assert (found.goal.target_labels.tolist(), found.goal.adversarial_labels.tolist()) == ([2], [1])
    assert chosen.files(0) == (tmp_path / "poisons0.pth", tmp_path / "fish0.png")
    by_file = chosen.model_copy(update={"rows": str(tmp_path / "rows{seed}.npy")})
    with pytest.raises(SettingsError, match=r"rows0.npy is missing: check rows and target_files"):
        by_file.files(0)
    np.save(tmp_path / "rows0.npy", np.arange(24, 40))
    assert crafted(by_file, data).indices.tolist() == [29, 37]
    assert by_file.files(0)[1] == tmp_path / "rows0.npy"


def test_poisons_are_appended_and_changes_added_as_the_config_says(tmp_path: Path) -> None:
    data = dataset()
    torch.save({"poisons": pixels(2, 7), "labels": [1, 1]}, tmp_path / "a.pth")
    found = crafted(settings(tmp_path / "a.pth", rows="appended", targeted=False), data)
    assert found.indices.tolist() == [-1, -1]
    torch.save(torch.full((4, 3, 5, 7), 4 / 255), tmp_path / "b.pth")
    found = crafted(settings(tmp_path / "b.pth", holds="changes", targeted=False), data)
    assert torch.equal(found.images.int(), (data.train_images.int() + 4).clamp(max=255))
    torch.save(torch.full((4, 3, 5, 7), -4 / 255), tmp_path / "b.pth")
    with pytest.raises(DataError, match="leaves the dataset's training set unchanged"):
        crafted(settings(tmp_path / "b.pth", signs="plus", targeted=False), data)


def test_the_target_may_be_a_training_image(tmp_path: Path) -> None:
    write_tensors_pth(tmp_path / "a.pth", poison_set(goal=None))
    chosen = settings(tmp_path / "a.pth", target_index=2, target_split="train")
    with pytest.warns(DataWarning, match="the target is training image 2"):
        found = crafted(chosen, dataset())
    assert found.goal is not None
    assert torch.equal(found.goal.targets, dataset().train_images[2:3])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target_files": "a.png"}, "has target_files: give target_label, their true class"),
        ({"target_files": ["a.png"], "target_label": 1, "target_index": 2}, "has target_files: leave out target_index"),
        ({"target_split": "train"}, "target_split says where target_index counts"),
        (
            {"target_files": "a.png", "target_label": 1, "targeted": False},
            "is not targeted, so it takes no target_files",
        ),
        ({"rows": "rows{x}.npy"}, "rows must not hold braces"),
        ({"rows": {"last_per_class": 0}}, "greater than 0"),
        ({"holds": "noise"}, "images"),
    ],
)
def test_contradictions_in_the_config(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings("x.pth", **options)


def test_new_settings_are_told_only_where_they_are_given() -> None:
    told = settings("x.pth").told()
    assert not {"rows", "holds", "signs", "target_split", "target_files"} & told.keys()
