"""An import and its dataset make a poison set, or say in one line why not."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from made_poisons import as_pil, dataset, pixels, poison_set, refusal
from PIL import Image

from poisonlab.config.class_folders import ClassOrder
from poisonlab.config.data.image_folder import ImageFolder
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.sources import load_dataset
from poisonlab.errors import DataError, DataWarning, PoisonlabError
from poisonlab.interchange.benchmark import write_benchmark
from poisonlab.interchange.imported import ImportedPoisons, complete, read_poisons
from poisonlab.interchange.png_folder import write_png_folder
from poisonlab.interchange.tensors import write_tensors_pth

# Rows 29, 5 and 13 with changed last bits.
POISONS = dataset().train_images[[29, 5, 13]] ^ 1


def imported(**changes: Any) -> ImportedPoisons:
    parts: dict[str, Any] = {
        "images": POISONS,
        "labels": None,
        # Rows of class 1.
        "indices": torch.tensor([29, 5, 13]),
        "source": "somewhere",
    }
    return ImportedPoisons(**{**parts, **changes})


WITH_TARGET = {"targets": pixels(2, 4), "target_labels": torch.tensor([2, 3])}


def test_the_dataset_fills_every_gap() -> None:
    data = dataset()
    found = complete(imported(), data, target_index=6)
    assert torch.equal(found.images, POISONS)
    assert found.labels.tolist() == [1, 1, 1]
    assert torch.equal(found.base_images, data.train_images[[29, 5, 13]])
    assert torch.equal(found.goal.targets, data.test_images[6:7])
    assert found.goal.target_labels.tolist() == [2]
    assert int(found.goal.adversarial_labels[0]) == 1
    assert found.facts == {"target_index": 6}


def test_what_the_import_says_is_kept() -> None:
    labels, wanted = torch.tensor([0, 3, 0]), torch.tensor([0])
    found = complete(imported(labels=labels, adversarial_labels=wanted, **WITH_TARGET), dataset())
    assert found.labels.tolist() == [0, 3, 0]
    assert torch.equal(found.goal.targets, pixels(2, 4))
    assert found.goal.target_labels.tolist() == [2, 3]
    assert int(found.goal.adversarial_labels[0]) == 0
    assert found.facts == {}


@pytest.mark.parametrize("write", [write_benchmark, write_png_folder, write_tensors_pth])
@pytest.mark.parametrize("targets", [1, 3])
def test_an_export_is_completed_to_the_set_it_came_from(tmp_path: Path, write: Any, targets: int) -> None:
    rows = torch.tensor([5, 13, 29])
    bases = dataset().train_images[rows]
    poisons = poison_set(targets, indices=rows, images=bases ^ 1, base_images=bases)
    path = tmp_path / "a.pth"
    write(path, poisons)
    found = complete(read_poisons(path), dataset())
    for name in ("indices", "images", "labels", "base_images"):
        assert torch.equal(getattr(found, name), getattr(poisons, name))
    for name in ("targets", "target_labels", "adversarial_labels"):
        assert torch.equal(getattr(found.goal, name), getattr(poisons.goal, name))


def test_appended_poisons_are_their_own_base() -> None:
    labels = torch.tensor([1, 1, 1])
    found = complete(imported(indices=torch.tensor([-1, 5, -1]), labels=labels), dataset(), target_index=0)
    assert torch.equal(found.base_images[[0, 2]], POISONS[[0, 2]])
    assert torch.equal(found.base_images[1], dataset().train_images[5])
    without = complete(imported(indices=None, labels=labels), dataset(), rows="appended", target_index=0)
    assert without.indices.tolist() == [-1, -1, -1]
    assert torch.equal(without.base_images, without.images)


def test_labels_can_be_given() -> None:
    found = complete(imported(targets=pixels(2, 4)), dataset(), target_label=3, adversarial_label=0)
    assert found.goal.target_labels.tolist() == [3, 3]
    assert int(found.goal.adversarial_labels[0]) == 0
    # Saying again what is known is no contradiction.
    again = imported(targets=pixels(1), target_labels=torch.tensor([2]), adversarial_labels=torch.tensor([1]))
    assert complete(again, dataset(), target_label=2, adversarial_label=1).goal.adversarial_labels.tolist() == [1]


def test_every_target_can_have_an_adversarial_label_of_its_own() -> None:
    wanted = torch.tensor([0, 1])
    found = complete(imported(adversarial_labels=wanted, **WITH_TARGET), dataset())
    assert found.goal is not None
    assert found.goal.adversarial_labels.tolist() == [0, 1]


def test_poisons_without_the_adversarial_class_are_told_of() -> None:
    """As where labels count from 1: victims learn nothing of the class that the attacker wants."""
    shifted = imported(labels=torch.tensor([2, 2, 2]), **WITH_TARGET)
    with pytest.warns(
        DataWarning, match=r"no poison has the label of an adversarial class \(theirs begin with 2, .* 1\)"
    ):
        complete(shifted, dataset(), adversarial_label=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        complete(imported(labels=torch.tensor([2, 1, 2]), **WITH_TARGET), dataset(), adversarial_label=1)


@pytest.mark.parametrize("patched", [False, True])
def test_a_target_that_is_a_test_image_must_have_its_class(patched: bool) -> None:
    """Labels that count from 1 shift poisons and target together, so that only the pixels can tell."""
    data = dataset()
    plain = data.test_images[[6, 9]]
    given = {"targets": pixels(2, 8), "unpatched_targets": plain} if patched else {"targets": plain}
    counted = {"labels": torch.tensor([2, 2, 2]), "target_labels": torch.tensor([3, 0]), **given}
    with pytest.raises(DataError) as caught:
        complete(imported(**counted), data)
    refusal(caught, "somewhere: a target is test image 6 of class 2 (c), but is labelled 3 (d)", "count from 0")
    assert complete(imported(**counted), data, allow_mismatch=True).goal is not None
    with pytest.raises(DataError, match=r"test image 6 of class 2 \(c\), but is labelled 0 \(a\): check target_label"):
        complete(imported(**given), data, target_label=0)
    # Of equal test images that have several labels, any will do.
    twins = replace(data, test_images=data.test_images.clone())
    twins.test_images[3] = plain[0]
    right = {"target_labels": torch.tensor([3, 1]), "labels": torch.tensor([2, 2, 2]), **given}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        complete(imported(**right), twins)


def test_poisons_with_the_label_after_their_class_are_told_of() -> None:
    """Where no label of the file is seen to count from 0, by a target or by the adversarial label."""
    data, labels = dataset(), torch.tensor([2, 2, 2])
    told = r"^somewhere: all poisons replace images of class 1 and are labelled 2: check whether labels count from 0"
    foreign = {"targets": pixels(1, 4), "target_labels": torch.tensor([3])}
    of_split = {"targets": data.test_images[7:8], "target_labels": torch.tensor([3])}
    for changes, given in (
        (foreign, {}),
        ({}, {"target_index": 7}),
        ({"targets": data.test_images[7:8]}, {"target_label": 3}),
    ):
        with pytest.warns(DataWarning, match=told):
            complete(imported(labels=labels, **changes), data, **given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        complete(imported(labels=labels, **of_split), data)
        complete(imported(labels=labels, **foreign), data, adversarial_label=2)
        complete(imported(labels=labels + 1, **foreign | {"target_labels": torch.tensor([0])}), data)
        # The class after the last one is the first, which no counting from 1 gives.
        last = {"images": data.train_images[[3, 7]] ^ 1, "indices": torch.tensor([3, 7])}
        complete(imported(labels=torch.tensor([0, 0]), **last, **foreign), data)


def test_targets_of_the_adversarial_class_are_left_out_with_a_warning() -> None:
    """As of a backdoor whose whole test set is stamped."""
    data, stamped = dataset(), pixels(12, 4)
    there = imported(
        targets=stamped, target_labels=data.test_labels, unpatched_targets=data.test_images, source="somewhere"
    )
    told = r"^somewhere: 3 of 12 targets are of their adversarial class, as class 1 \(b\), and left out"
    with pytest.warns(DataWarning, match=told):
        found = complete(there, data)
    others = torch.arange(12) % 4 != 1
    assert found.goal is not None
    assert found.goal.untriggered is not None
    assert torch.equal(found.goal.targets, stamped[others])
    assert torch.equal(found.goal.untriggered, data.test_images[others])
    assert found.goal.target_labels.tolist() == [0, 2, 3] * 3
    assert found.goal.adversarial_labels.tolist() == [1] * 9
    with pytest.warns(DataWarning, match="1 of 2 targets"):
        one = complete(imported(adversarial_labels=torch.tensor([0, 3]), **WITH_TARGET), data)
    assert one.goal is not None
    assert one.goal.adversarial_labels.tolist() == [0]
    with pytest.raises(DataError, match=r"all 2 targets are of class 3 \(d\), which is the adversarial class"):
        complete(
            imported(targets=pixels(2, 4), target_labels=torch.tensor([3, 3]), labels=torch.tensor([3, 3, 3])), data
        )


def test_all_to_all_takes_every_class_for_the_next() -> None:
    data = dataset()
    rows = torch.tensor([4, 5, 6, 7])
    shifted = {
        "images": data.train_images[rows] ^ 1,
        "indices": rows,
        "labels": torch.tensor([1, 2, 3, 0]),
        "targets": pixels(12, 4),
        "target_labels": data.test_labels,
    }
    found = complete(imported(**shifted), data, all_to_all=True)
    assert found.goal is not None
    assert found.labels.tolist() == [1, 2, 3, 0]
    assert found.goal.adversarial_labels.tolist() == [1, 2, 3, 0] * 3
    for changes, given, words in (
        ({}, {}, ["4 different labels", "set all_to_all: true"]),
        ({"labels": torch.tensor([1, 2, 3, 3])}, {}, ["3 different labels", "give adversarial_label"]),
        ({"labels": torch.tensor([1, 2, 3, 3])}, {"all_to_all": True}, ["1 of 4 poisons", "leave out all_to_all"]),
        ({}, {"all_to_all": True, "adversarial_label": 1}, ["contradict each other"]),
        ({"adversarial_labels": torch.tensor([1])}, {"all_to_all": True}, ["contradict each other"]),
    ):
        with pytest.raises(DataError) as caught:
            complete(imported(**{**shifted, **changes}), data, **given)
        refusal(caught, "somewhere", *words)


def test_an_untargeted_import_needs_no_target() -> None:
    whole = torch.arange(40)
    found = complete(imported(images=dataset().train_images ^ 1, indices=whole), dataset(), targeted=False)
    assert found.goal is None
    assert torch.equal(found.labels, dataset().train_labels)
    assert torch.equal(found.base_images, dataset().train_images)
    with pytest.raises(DataError) as caught:
        complete(imported(**WITH_TARGET), dataset(), targeted=False)
    refusal(caught, "somewhere", "has targets", "targeted: false")


@pytest.mark.parametrize(
    ("changes", "given", "words"),
    [
        ({"images": pixels(3)[:, :, :4]}, {}, ["(3, 4, 7)", "(3, 5, 7)"]),
        ({"indices": torch.tensor([1, 2, 40])}, {}, ["index 40", "40 training rows"]),
        ({"indices": torch.tensor([1, 5, -1])}, {}, ["appended", "labels"]),
        ({"indices": None}, {"rows": "appended"}, ["appended", "labels"]),
        ({"indices": None}, {}, ["which of the dataset's 40 training rows its 3 poisons replace", "give rows"]),
        ({}, {"rows": "appended"}, ["says which rows", "leave out rows: appended"]),
        ({}, {"signs": "plus"}, ["no changes", "leave out signs"]),
        ({"labels": torch.tensor([1, 1, 4])}, {}, ["label 4", "0 ... 3"]),
        (
            {"indices": torch.tensor([1, 2, 3]), "images": dataset().train_images[1:4]},
            {},
            ["3 different labels", "adversarial_label"],
        ),
        ({}, {"target_index": None}, ["no target", "target_index", "targeted: false"]),
        ({}, {"target_index": 12}, ["target_index 12", "12 test rows"]),
        ({}, {"target_index": -1}, ["target_index -1"]),
        ({}, {"target_label": 3}, ["target_label 3", "class 0"]),
        ({}, {"adversarial_label": 4}, ["adversarial_label is 4", "0 to 3"]),
        ({}, {"adversarial_label": -1}, ["adversarial_label is -1"]),
        ({}, {"adversarial_label": 0}, ["the target is of class 0 (a)", "there is nothing to attack"]),
        ({"adversarial_labels": torch.tensor([2])}, {"adversarial_label": 1}, ["contradicts its own 2"]),
        (WITH_TARGET, {}, ["targets of its own"]),
        ({"targets": pixels(2)}, {"target_index": None}, ["target_label"]),
        (WITH_TARGET, {"target_index": None, "target_label": 2}, ["contradicts"]),
        ({"targets": pixels(1), "target_labels": torch.tensor([7])}, {"target_index": None}, ["target label 7"]),
    ],
)
def test_contradictions_with_the_dataset(changes: dict[str, Any], given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(PoisonlabError) as caught:
        complete(imported(**changes), dataset(), **{"target_index": 0, **given})
    refusal(caught, "somewhere", *words)


@pytest.mark.parametrize(
    "changes",
    [
        {"images": pixels(0)},
        {"images": pixels(3)[0]},
        {"images": pixels(3).double()},
        {"images": pixels(3).float()},
        {"images": torch.full((3, 3, 5, 7), float("nan"))},
        {"labels": torch.tensor([1, 1])},
        {"labels": torch.tensor([1, 1, -1])},
        {"labels": torch.tensor([1.0, 1, 1])},
        {"indices": torch.tensor([1, 1, 2])},
        {"indices": torch.tensor([1, 2, -2])},
        {"indices": torch.tensor([1, 2])},
        {"targets": pixels(1).float()},
        {"targets": pixels(0)},
        {"targets": pixels(1)[:, :, :4]},
        {"targets": pixels(2), "target_labels": torch.tensor([1])},
        {"target_labels": torch.tensor([1])},
        {"targets": pixels(2), "unpatched_targets": pixels(1)},
        {"targets": pixels(2), "adversarial_labels": torch.tensor([1, 1, 1])},
        {"adversarial_labels": torch.tensor([1, 1])},
        {"unpatched_targets": pixels(1)},
    ],
)
def test_imports_that_contradict_themselves(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        imported(**changes)
    refusal(caught, "somewhere")


def smooth(count: int, seed: int) -> torch.Tensor:
    """(count, 3, 5, 7) uint8 like photographs: neighbouring pixels are alike, and so are most images."""
    noise = torch.randn(count, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
    waves = torch.nn.functional.interpolate(noise, size=(5, 7), mode="bilinear", align_corners=True)
    return (128 + 60 * waves).clamp(0, 255).to(torch.uint8)


def photographs() -> ImageDataset:
    return replace(dataset(), train_images=smooth(40, 1))


def noisy(images: torch.Tensor, levels: int) -> torch.Tensor:
    signs = torch.randint(0, 2, images.shape, generator=torch.Generator().manual_seed(9)) * 2 - 1
    return (images.int() + levels * signs).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("count", [4, 40])
def test_rows_of_another_order_are_refused_with_numbers(count: int, given: bool) -> None:
    """The same poisons under the rows of a shuffled copy of the dataset."""
    data, order = photographs(), torch.randperm(40, generator=torch.Generator().manual_seed(3))
    rows = torch.arange(count)
    labels = data.train_labels[order[rows]]
    there = imported(
        images=noisy(data.train_images[order[rows]], 8), indices=rows, labels=labels if given else None, **WITH_TARGET
    )
    with pytest.raises(DataError) as caught:
        complete(there, data, adversarial_label=1)
    message = refusal(caught, "somewhere", f"of {count} poisons", "another order", "allow_mismatch: true")
    change = (there.images.int() - data.train_images[rows].int()).abs()
    assert f"by up to {change.max()} levels ({change.float().mean():.0f} on average)" in message
    different = int((labels != data.train_labels[rows]).sum()) if given else 0
    assert f"{different} labels differ" in message
    accepted = complete(there, data, adversarial_label=1, allow_mismatch=True)
    assert torch.equal(accepted.images, there.images)
    # In the right order it is no matter of doubt.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        right = imported(images=there.images, indices=order[rows], labels=labels, **WITH_TARGET)
        complete(right, data, adversarial_label=1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("change", ["32 levels", "patch", "blend", "labels"])
def test_strong_poisons_of_these_rows_are_no_mismatch(change: str) -> None:
    data, rows = photographs(), torch.arange(0, 40, 3)
    images, labels = data.train_images[rows].clone(), data.train_labels[rows]
    if change == "32 levels":
        images = noisy(images, 32)
    elif change == "patch":
        images[:, :, 3:, 5:] = 255 * torch.randint(0, 2, (3, 2, 2), dtype=torch.uint8)
    elif change == "blend":
        images = (0.8 * images + 0.2 * smooth(1, 77)).to(torch.uint8)
    else:
        labels = (labels + 1) % 4
    complete(imported(images=images, indices=rows, labels=labels, **WITH_TARGET), data, adversarial_label=1)


def test_some_poisons_unlike_their_images_are_counted() -> None:
    """As of a class that is painted black."""
    data, rows = photographs(), torch.arange(40)
    images = noisy(data.train_images, 4)
    images[data.train_labels == 3] = 0
    with pytest.warns(DataWarning, match=r"of 40 poisons are nearer to other training images"):
        found = complete(imported(images=images, indices=rows), data, targeted=False)
    assert torch.equal(found.images, images)


def test_poisons_with_reversed_channels_are_refused() -> None:
    """As OpenCV reads images: the poisons of photographs stay near enough to them."""
    data, rows = photographs(), torch.arange(40)
    grey = data.train_images.float().mean(1, keepdim=True)
    data = replace(data, train_images=(grey + 0.5 * (data.train_images - grey)).to(torch.uint8))
    bgr = imported(images=noisy(data.train_images, 4).flip(1), indices=rows)
    with pytest.raises(DataError) as caught:
        complete(bgr, data, targeted=False)
    refusal(caught, "somewhere", "of 40 poisons", "if their channels are reversed", "allow_mismatch: true")
    assert torch.equal(complete(bgr, data, targeted=False, allow_mismatch=True).images, bgr.images)


@pytest.mark.filterwarnings("error")
def test_appended_poisons_cannot_be_in_another_order() -> None:
    labels = torch.tensor([1, 1, 1])
    complete(imported(images=pixels(3, 8), indices=None, labels=labels), dataset(), rows="appended", target_index=0)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Class folders 0 to 11 of three training images each, smooth ones, and one test image each."""
    for split, count in (("train", 3), ("test", 1)):
        for name, images in zip(map(str, range(12)), smooth(12 * count, count).split(count), strict=True):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number, image in enumerate(images):
                as_pil(image).save(folder / f"{number}.png")
    return tmp_path / "photos"


TEXT = "set class_order: text in dataset"


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_changes_along_torchvisions_image_folder_are_told_of(folders: Path, per_class: bool, labelled: bool) -> None:
    """torchvision itself says which image a change was made for; labels of classes of one size are the same."""
    theirs = torchvision.datasets.ImageFolder(str(folders / "train"))
    changes = (torch.arange(12 if per_class else 36)[:, None, None, None] - 6) / 255
    labels = torch.tensor(theirs.targets) if labelled and not per_class else None
    there = imported(images=changes.expand(-1, 3, 5, 7).float(), changes=True, labels=labels, indices=None)
    meant = {path: changes[label if per_class else row] for row, (path, label) in enumerate(theirs.samples)}

    def as_meant(order: ClassOrder) -> list[bool]:
        data = load_dataset(ImageFolder(source="image-folder", root=str(folders), class_order=order))
        found = complete(there, data, targeted=False, allow_mismatch=True)
        files = [str(folders / "train" / name / f"{number}.png") for name in data.class_names for number in range(3)]
        wanted = [meant[files[row]].mul(255).round().int() for row in found.indices.tolist()]
        exact = [(base.int() + by).clamp(0, 255) for base, by in zip(found.base_images, wanted, strict=True)]
        return [torch.equal(image.int(), each) for image, each in zip(found.images, exact, strict=True)]

    with pytest.warns(DataWarning, match=f"^somewhere: changes do not tell the order of the classes.*{TEXT}"):
        assert not all(as_meant("natural"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(as_meant("text"))


def test_appended_labels_and_rows_of_image_folder_name_the_cure(folders: Path) -> None:
    theirs = torchvision.datasets.ImageFolder(str(folders / "train"))
    pictures = [path for path, label in theirs.samples if label == 2]
    images = torch.stack([torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in pictures])
    appended = imported(images=images ^ 1, labels=torch.tensor([2, 2, 2]), indices=None)
    rows = torch.tensor([row for row, (_, label) in enumerate(theirs.samples) if label == 2])
    replacing = imported(images=images ^ 1, indices=rows)
    of_known = imported(images=images ^ 1, indices=torch.tensor([3, 6, 9]), original_labels=torch.tensor([1, 4, 5]))
    data = load_dataset(ImageFolder(source="image-folder", root=str(folders)))
    with pytest.warns(DataWarning, match=f"labels of appended poisons do not tell .*{TEXT}"):
        complete(appended, data, rows="appended", target_index=0)
    for there in (replacing, of_known):
        with pytest.raises(DataError) as caught:
            complete(there, data, target_index=0)
        refusal(caught, "another order", TEXT, "allow_mismatch: true")
    text = load_dataset(ImageFolder(source="image-folder", root=str(folders), class_order="text"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = complete(appended, text, rows="appended", target_index=0)
        complete(replacing, text, target_index=0)
    assert {text.class_names[label] for label in found.labels.tolist()} == {Path(pictures[0]).parent.name} == {"10"}
    # Numbered classes of other files, whose images are mixed, are in no folders.
    mixed = torch.randperm(36, generator=torch.Generator().manual_seed(0))
    other = replace(data, train_images=data.train_images[mixed], train_labels=data.train_labels[mixed])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        complete(appended, other, rows="appended", target_index=0)
