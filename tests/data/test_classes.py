"""Classes: their order in an image folder, their names and numbers, and which ones a seed attacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.config.attacks.imported import Imported
from poisonlab.config.attacks.sleeper_agent import SleeperAgent
from poisonlab.config.data.image_folder import ImageFolder
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.sources import load_dataset
from poisonlab.errors import SettingsError
from poisonlab.interchange.imported import complete
from poisonlab.interchange.imported_poisons import ImportedPoisons


def folders(root: Path, names: list[str]) -> ImageDataset:
    """A folder per name; the images of the n-th are of intensity n."""
    for split in ("train", "test"):
        for place, name in enumerate(names):
            (root / split / name).mkdir(parents=True)
            for number in range(2):
                pixels = np.full((8, 8, 3), 10 * place + number, np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return load_dataset(ImageFolder(source="image-folder", root=str(root)))


def named(*names: str) -> ImageDataset:
    labels, images = torch.arange(len(names)), torch.arange(len(names), dtype=torch.uint8).view(-1, 1, 1, 1)
    images = images.expand(-1, 3, 4, 4) * 20
    return ImageDataset(images, labels, images, labels, names, (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    "order",
    [
        [str(number) for number in range(12)],
        [f"class_{number}" for number in (1, 2, 9, 10, 100)],
        ["0", "00", "01", "1", "2"],
        ["a1b2", "a1b10", "a2", "a10b1", "b"],
        ["1000", "cat2", "cat10", "dog"],
        ["n01443537", "n01629819", "n01641577"],
        ["²", "٣"],
    ],
)
def test_class_folders_are_in_natural_order(tmp_path: Path, order: list[str]) -> None:
    dataset = folders(tmp_path, order)
    assert list(dataset.class_names) == order
    # The image's own intensity says which folder it came from.
    assert (dataset.train_images[:, 0, 0, 0] // 10).tolist() == dataset.train_labels.tolist()
    assert (dataset.test_images[:, 0, 0, 0] // 10).tolist() == dataset.test_labels.tolist()


def test_class_folders_in_the_order_of_text_have_torchvision_s_labels(tmp_path: Path) -> None:
    dataset = folders(tmp_path, [str(number) for number in range(12)])
    settings = ImageFolder(source="image-folder", root=str(tmp_path), class_order="text")
    found, theirs = load_dataset(settings), torchvision.datasets.ImageFolder(str(tmp_path / "train"))
    assert list(found.class_names) == theirs.classes != list(dataset.class_names)
    assert found.train_labels.tolist() == theirs.targets
    assert torch.equal(found.train_images, torch.stack([pil_to_tensor(image) for image, _ in theirs]))
    # Results that were made before there was a choice stay current.
    assert "class_order" not in ImageFolder(source="image-folder", root=".").told()
    assert settings.told()["class_order"] == "text"


def test_a_number_is_the_folder_of_that_number(tmp_path: Path) -> None:
    dataset = folders(tmp_path, [str(number) for number in range(12)])
    for given in (10, "10"):
        label = dataset.class_number(given, "target_class")
        assert dataset.class_names[label] == "10"
        assert set((dataset.train_images[dataset.train_labels == label] // 10).unique().tolist()) == {10}


def test_a_class_has_a_name_and_a_number() -> None:
    dataset = named("cat", "dog", "elk")
    assert [dataset.class_number(name, "x") for name in ("cat", "dog", "elk", 0, 1, 2)] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("names", "given", "words"),
    [
        (("cat", "dog"), "cow", ["target_class is 'cow'", "none of", "'cat', 'dog'"]),
        (("cat", "dog"), "Cat", ["'Cat'", "none of"]),
        (("cat", "dog"), 2, ["target_class is 2", "2 classes: 0 to 1"]),
        (("cat", "dog"), -1, ["0 to 1"]),
        (("cat", "dog"), "1", ["'1'", "none of"]),
        (("a", "b", "a"), "a", ["more than one"]),
        # Folders 1, 2, 3: is 2 the folder, or the number of folder 3?
        (("1", "2", "3"), 2, ["class number 2 is called '3'", "'2' is number 1", "in quotes"]),
        (("1", "2", "3"), 3, ["there are fewer", "'3' is number 2", "in quotes"]),
    ],
)
def test_what_names_no_class_or_two(names: tuple[str, ...], given: Any, words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        named(*names).class_number(given, "target_class")
    for word in words:
        assert word in str(caught.value)


def test_settings_take_names_and_numbers() -> None:
    for given in (3, "3", "cat"):
        sleeper = SleeperAgent(name="x", surrogate="s", source_class=given, target_class="dog")
        assert sleeper.source_class == given
        assert type(sleeper.source_class) is type(given)
        assert Imported(name="x", path="p", adversarial_label=given, target_label=given).target_label == given
    for wrong in (-1, "", True, 1.5, "x" * 201):
        with pytest.raises(ValueError, match="source_class"):
            SleeperAgent(name="x", surrogate="s", source_class=wrong)


def test_an_import_names_classes() -> None:
    data = named("cat", "dog", "elk")
    poisons = ImportedPoisons(
        images=data.train_images[:2] + 1,
        labels=None,
        indices=torch.tensor([0, 1]),
        targets=data.test_images[:1],
        source="here",
    )
    goal = complete(poisons, data, target_label="cat", adversarial_label="elk").goal
    assert goal is not None
    assert (goal.target_labels.tolist(), goal.adversarial_labels.tolist()) == ([0], [2])
    with pytest.raises(SettingsError, match="here: adversarial_label is 'cow'"):
        complete(poisons, data, target_label="cat", adversarial_label="cow")


def test_a_set_says_whom_it_attacks() -> None:
    images = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    clean = torch.tensor([0, 1, 2, 1, 1])
    targets = torch.zeros(5, 1, 2, 2, dtype=torch.uint8)
    goal = Goal(targets, torch.tensor([0, 1, 2, 3, 0]), torch.tensor([2, 2, 2, 0, 2]))
    poisons = PoisonSet(torch.tensor([1, 3, -1]), images, torch.tensor([2, 2, 0]), images, goal)
    assert poisons.classes(("ant", "bee", "cow", "dog"), clean) == {
        "base_class": "ant + bee",
        "true_class": "4 classes",
        "adversarial_class": "ant + cow",
    }
    without = PoisonSet(torch.tensor([1, 3, 4]), images, torch.tensor([2, 2, 2]), images)
    assert without.classes(("ant", "bee", "cow"), clean) == {"base_class": "bee"}
