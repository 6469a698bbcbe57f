"""Poisons in the forms that other programs save, written here as these programs do, give the set they stand for."""

from __future__ import annotations

import pickle
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_poisons import as_pil, dataset, pil_pairs, pixels, refusal
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import DataError, DataWarning, PoisonlabError
from poisonlab.interchange.imported import complete, read_poisons
from poisonlab.interchange.rows import last_per_class, read_photos, read_rows

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
DATA = dataset()
ROWS = torch.tensor([29, 5, 13])
LABELS = DATA.train_labels[ROWS]
BASES = DATA.train_images[ROWS]
CHANGE = torch.randint(-8, 9, BASES.shape, generator=torch.Generator().manual_seed(3))
POISONS = (BASES.int() + CHANGE).clamp(0, 255).to(torch.uint8)
NORMALISED = (POISONS / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
TARGET = (DATA.test_images[2], 2)


def completed(path: Path, *given: Any, data: ImageDataset = DATA, **options: Any) -> PoisonSet:
    return complete(read_poisons(path, *given), data, **{"targeted": False, **options})


def is_the_set(found: PoisonSet, rows: Tensor = ROWS, images: Tensor = POISONS, labels: Tensor = LABELS) -> None:
    order, wanted = found.indices.argsort(), rows.argsort()
    assert found.indices[order].tolist() == rows[wanted].tolist()
    assert torch.equal(found.images[order], images[wanted])
    assert torch.equal(found.labels[order], labels[wanted])
    assert torch.equal(found.base_images[order], DATA.train_images[rows[wanted]])


def refused(call: Any, *words: object) -> None:
    with pytest.raises(PoisonlabError) as caught:
        call()
    refusal(caught, *words)


def shuffled() -> ImageDataset:
    """The same images in another order, in which no row keeps its class."""
    order = torch.arange(40).flip(0)
    return ImageDataset(
        DATA.train_images[order], DATA.train_labels[order], DATA.test_images.flip(0), DATA.test_labels.flip(0),
        DATA.class_names, DATA.mean, DATA.std,
    )  # fmt: skip


def saved(path: Path, content: Any) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **{name: np.asarray(value) for name, value in content.items()})
    elif path.suffix == ".npy":
        np.save(path, np.asarray(content))
    elif path.suffix == ".pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    return path


# --- one file of images ---------------------------------------------------------------------------------------

STACKED: dict[str, tuple[str, Any, tuple[Any, ...]]] = {
    "stacked and named": ("p.pth", {"poisons": POISONS, "labels": LABELS, "indices": ROWS}, ()),
    "torchattacks, with rows": ("p.pt", {"adv_inputs": POISONS / 255, "labels": LABELS, "ids": ROWS.tolist()}, ()),
    "double floats": ("p.pth", {"poisons": POISONS.double() / 255, "indices": ROWS}, ()),
    "normalised": ("p.pth", {"poisons": NORMALISED, "indices": ROWS}, (MEAN, STD)),
    "numpy rows in a pth": ("p.pth", {"poisons": [(each, 1) for each in POISONS], "indices": ROWS.numpy()}, ()),
    "numpy all in a pth": ("p.pth", {"images": POISONS.numpy(), "y": LABELS.numpy(), "indices": ROWS.numpy()}, ()),
    "PIL images in a pth": ("p.pth", [pil_pairs(POISONS, [1, 1, 1]), ROWS.tolist()], ()),
    "npz": ("p.npz", {"poisons": POISONS, "labels": LABELS, "indices": ROWS}, ()),
    "npz, channels last": ("p.npz", {"x": POISONS.permute(0, 2, 3, 1), "idx": ROWS.int()}, ()),
    "pairs and positions": ("p.pth", [list(zip(NORMALISED, [1, 1, 1], strict=True)), ROWS.tolist()], (MEAN, STD)),
    "pairs of one image each": ("p.pth", ([(each[None], 1) for each in NORMALISED], list(ROWS)), (MEAN, STD)),
    "poison and idx": (
        "p.pth",
        {"poison": list(zip(NORMALISED, [1, 1, 1], strict=True)), "idx": ROWS.tolist(), "recon-loss": torch.ones(3)},
        (MEAN, STD),
    ),
    "one pickle of two": ("p.pickle", [pil_pairs(POISONS, [1, 1, 1]), ROWS.numpy()], ()),
    "rows as floats": ("p.npz", {"poisons": POISONS, "indices": ROWS.double()}, ()),
}  # fmt: skip


@pytest.mark.parametrize("form", STACKED)
def test_forms_with_rows(tmp_path: Path, form: str) -> None:
    name, content, undo = STACKED[form]
    path = saved(tmp_path / name, content)
    is_the_set(completed(path, *undo))
    refused(lambda: completed(path, *undo, data=shuffled()), path, "another order of the images", "allow_mismatch")


def test_images_and_labels_need_rows(tmp_path: Path) -> None:
    path = saved(tmp_path / "p.pt", {"adv_inputs": POISONS / 255, "labels": LABELS})
    refused(lambda: completed(path), path, "its 3 poisons replace", "give rows")
    is_the_set(completed(path, rows=ROWS))
    refused(lambda: completed(path, rows=ROWS[:2]), path, "names 2 training rows for 3 poisons")
    refused(lambda: completed(path, rows=torch.tensor([1, 1, 2])), path, "different training rows")
    assert completed(path, rows="appended").indices.tolist() == [-1] * 3
    # Two arrays in a list: repeated numbers can only be labels.
    is_the_set(completed(saved(tmp_path / "q.pth", [POISONS, LABELS]), rows=ROWS))


def test_what_could_be_two_forms_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "p.pth", [POISONS, torch.tensor([3, 1, 2])])
    refused(lambda: read_poisons(path), path, "images and labels or changes and rows", '"delta" and "indices"')
    saved(path, torch.full((40, 3, 5, 7), 0.02))
    refused(lambda: read_poisons(path), path, "could be images or changes", "holds: images, or holds: changes")
    saved(path, {"poisons": POISONS, "images": POISONS})
    refused(lambda: read_poisons(path), path, "poisons and images, which both could be the poisons")
    saved(path, {"poisons": torch.zeros(3, 3, 5, 3), "indices": ROWS})
    refused(lambda: read_poisons(path), path, "channels first or last")
    saved(path, {"poisons": POISONS[:, :2], "indices": ROWS})
    refused(lambda: read_poisons(path), path, "has not 1 or 3 channels")
    half = (0.5,) * 3
    for odd, undo in ((DATA.train_images / 127.5 - 1, (half, half)), (DATA.train_images / 255 - 1e-7, (None, None))):
        saved(path, odd)
        refused(lambda: read_poisons(path), path, "could be images or changes", "holds: images")
        assert torch.equal(read_poisons(path, *undo, "images").images, DATA.train_images)
    for odd in (torch.full((40, 3, 5, 7), 100), (DATA.train_images / 255 - 0.5) / 0.2):
        saved(path, odd)
        undo = () if not odd.is_floating_point() else (MEAN, STD)
        refused(lambda undo=undo: read_poisons(path, *undo), path, "could be images or changes", "holds: images")
    for odd in (3, {}, [], [1, 2], "text", POISONS[0], {"poisons": 3}, {"weights": POISONS}, [POISONS, LABELS / 2]):
        saved(path, odd)
        refused(lambda: read_poisons(path), path)


@pytest.mark.parametrize("kind", [torch.int16, torch.int32, torch.int64])
def test_images_of_whole_numbers_are_images_whatever_their_type(tmp_path: Path, kind: torch.dtype) -> None:
    images = DATA.train_images.clone()
    images[ROWS] = POISONS
    path = saved(tmp_path / "p.pth", images.to(kind))
    is_the_set(completed(path))
    is_the_set(completed(saved(path, {"poisons": POISONS.to(kind), "labels": LABELS, "indices": ROWS})))
    refused(lambda: read_poisons(path, MEAN, STD), path, "leave out mean")
    saved(path, {"poisons": POISONS.to(kind) + 1000, "indices": ROWS})
    refused(lambda: read_poisons(path), path, "integers in")


@pytest.mark.parametrize("key", ["targets", "poison_label", "adv_labels", "adversarial_class", "base_index"])
def test_a_key_that_tells_something_is_not_passed_over(tmp_path: Path, key: str) -> None:
    """Labels under another name would make a clean-label set of one that is not."""
    path = saved(tmp_path / "p.pth", {"poisons": POISONS, "indices": ROWS, key: LABELS})
    refused(lambda: read_poisons(path), path, repr(key), "leave it out, or rename it to labels")
    saved(path, {"poisons": POISONS, "indices": ROWS, "steps": 250, "normalised": True})
    with pytest.warns(DataWarning, match="passed over 'normalised', 'steps'"):
        is_the_set(completed(path))


def test_numpy_files_of_objects_and_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", poisons=np.array([{}], dtype=object))
    refused(lambda: read_poisons(tmp_path / "p.npz"), "holds Python objects", "may run code")
    np.savez(tmp_path / "p.npz", poisons=np.array(["a"]))
    refused(lambda: read_poisons(tmp_path / "p.npz"), "not of plain numbers")
    (tmp_path / "p.npz").write_bytes(b"PK\x03\x04cut")
    refused(lambda: read_poisons(tmp_path / "p.npz"), "is damaged")
    (tmp_path / "p.npy").write_bytes(b"\x89PNG")
    refused(lambda: read_poisons(tmp_path / "p.npy"), "is not the NumPy file of its suffix but a PNG image")
    (tmp_path / "p.pickle").write_bytes(b"cposix\nsystem\n(S'touch canary'\ntR.")
    refused(lambda: read_poisons(tmp_path / "p.pickle"), "posix.system", "nothing in it was run")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int64])
def test_tensors_beside_arrays_come_back(tmp_path: Path, kind: torch.dtype) -> None:
    """As the allow-list reads a file of torch.save, with views, shared memory and the state of a network."""
    whole = torch.arange(24).reshape(4, 6).to(kind)
    model = OrderedDict(torch.nn.Linear(3, 2).state_dict())
    model._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    content = {"a": whole, "b": whole[1:, ::2], "none": whole[:0], "n": np.arange(3), "model": model}
    from poisonlab.interchange.file_content import read_content

    found = read_content(saved(tmp_path / "p.pth", content))
    for name in ("a", "b", "none"):
        assert torch.equal(found[name], content[name])
        assert found[name].dtype == kind
    assert found["n"].tolist() == [0, 1, 2]
    assert torch.equal(found["model"]["weight"], model["weight"])


# --- subsets --------------------------------------------------------------------------------------------------


def others_of(labels: list[int], kept: int) -> list[int]:
    """As the releases split the training set: what comes after the first images of each class, in order."""
    seen: dict[int, int] = {}
    rows = []
    for row, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] > kept:
            rows.append(row)
    return rows


def test_positions_count_within_the_last_images_of_each_class(tmp_path: Path) -> None:
    others = others_of(DATA.train_labels.tolist(), 10 - 4)
    assert last_per_class(DATA.train_labels, 4).tolist() == others
    positions = [others.index(row) for row in (29, 37, 25)]
    bases = DATA.train_images[[29, 37, 25]]
    images = (bases.int() + CHANGE).clamp(0, 255).to(torch.uint8)
    path = saved(tmp_path / "p.pth", [list(zip(images, [1, 1, 1], strict=True)), positions])
    found = completed(path, rows=last_per_class(DATA.train_labels, 4))
    is_the_set(found, torch.tensor([29, 37, 25]), images)
    refused(lambda: completed(path), path, "another order of the images", "say with rows which rows they mean")
    refused(lambda: completed(path, rows=torch.arange(4)), path, "is none of the 4 rows")
    refused(lambda: last_per_class(DATA.train_labels, 11), "class 0 has 10 images")


@pytest.mark.parametrize("name", ["r.npy", "r.pth", "r.pickle"])
def test_rows_in_a_file(tmp_path: Path, name: str) -> None:
    content: Any = {"r.npy": ROWS.numpy(), "r.pth": ROWS, "r.pickle": ROWS.tolist()}[name]
    assert read_rows(saved(tmp_path / name, content)).tolist() == ROWS.tolist()
    (tmp_path / "r.txt").write_text("1", encoding="utf-8")
    refused(lambda: read_rows(tmp_path / "r.txt"), "no file of rows", ".npy")


# --- changes --------------------------------------------------------------------------------------------------

WHOLE = torch.randint(-8, 9, DATA.train_images.shape, generator=torch.Generator().manual_seed(5))
BY_CLASS = torch.randint(-8, 9, (4, 3, 5, 7), generator=torch.Generator().manual_seed(6))


def added(rows: Tensor, levels: Tensor) -> Tensor:
    """The images of some rows with changes added, level by level."""
    found = [
        min(max(old + change, 0), 255)
        for old, change in zip(DATA.train_images[rows].flatten().tolist(), levels.flatten().tolist(), strict=True)
    ]
    return torch.tensor(found, dtype=torch.uint8).reshape(len(rows), 3, 5, 7)


@pytest.mark.parametrize("form", ["tensor", "array", "channels last", "levels", "float levels", "named", "normalised"])
@pytest.mark.parametrize("per_class", [False, True])
def test_changes_of_the_whole_set(tmp_path: Path, form: str, per_class: bool) -> None:
    levels = BY_CLASS if per_class else WHOLE
    unit = levels / 255
    path, undo = tmp_path / "p.pth", ()
    content: Any = unit
    holds: Any = "changes" if form == "normalised" else None
    if form == "array":
        path, content = tmp_path / "p.npy", unit.numpy()
    elif form == "channels last":
        path, content = tmp_path / "p.npy", unit.permute(0, 2, 3, 1).numpy()
    elif form == "levels":
        content = levels.to(torch.int8)
    elif form == "float levels":
        content = levels.float()
    elif form == "named":
        content = {"perturbation": unit}
    elif form == "normalised":
        content, undo = unit / torch.tensor(STD).view(3, 1, 1), (MEAN, STD)
    found = complete(read_poisons(saved(path, content), *undo, holds=holds), DATA, targeted=False)
    rows = torch.arange(40)
    is_the_set(found, rows, added(rows, levels[DATA.train_labels] if per_class else levels), DATA.train_labels)


def test_the_negative_part_can_be_left_out(tmp_path: Path) -> None:
    path, rows = saved(tmp_path / "p.pth", WHOLE / 255), torch.arange(40)
    is_the_set(completed(path, signs="plus"), rows, added(rows, WHOLE.clamp(min=0)), DATA.train_labels)
    # Without negative values it could be images.
    saved(path, WHOLE.clamp(min=0) / 255)
    refused(lambda: completed(path), "holds: changes")
    is_the_set(completed(path, None, None, "changes"), rows, added(rows, WHOLE.clamp(min=0)), DATA.train_labels)


def test_changes_packed_with_their_rows_are_of_normalised_pixels(tmp_path: Path) -> None:
    """The "packed" export of the toolbox of Witches' Brew."""
    path = saved(tmp_path / "p.pth", [CHANGE / 255 / torch.tensor(STD).view(3, 1, 1), ROWS])
    is_the_set(completed(path, MEAN, STD), images=added(ROWS, CHANGE))
    refused(lambda: completed(path), path, "of normalised pixels: give mean and std")
    saved(path, [CHANGE / 255, ROWS])
    is_the_set(completed(path, (0.0,) * 3, (1.0,) * 3), images=added(ROWS, CHANGE))


def test_changes_in_other_units_are_told_of(tmp_path: Path) -> None:
    path = saved(tmp_path / "p.pth", WHOLE / 255 / 0.2)
    with pytest.warns(DataWarning, match=r"reach 40 levels of 255.*check mean and std"):
        completed(path)
    for whole in ((WHOLE * 20).to(torch.int16), (WHOLE * 20).float()):
        saved(path, {"perturbations": whole.clamp(-255, 255)})
        with pytest.warns(DataWarning, match="more than the bounds of known attacks"):
            completed(path)
    saved(path, {"perturbations": WHOLE.to(torch.int16).numpy().astype("uint8")})
    refused(lambda: completed(path), path, "in which -3 has become 253: save int16")
    saved(path, WHOLE / 2)
    refused(lambda: completed(path), path, "divide them by 255 if they are in levels; if they are of normalised pixels")
    saved(path, WHOLE / 255 * 60)
    refused(lambda: completed(path), path, "beyond the range of pixels", "give mean and std")
    saved(path, {"noise": torch.full((40, 3, 5, 7), float("nan"))})
    refused(lambda: completed(path), path, "beyond the range of pixels")
    saved(path, {"noise": torch.zeros(40, 3, 5, 7)})
    refused(lambda: completed(path), path, "leaves the dataset's training set unchanged")


def test_changes_with_labels_of_another_order_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "p.npz", {"delta": WHOLE / 255, "labels": DATA.train_labels})
    completed(path)
    other = shuffled()
    differ = int((other.train_labels != DATA.train_labels).sum())
    refused(lambda: completed(path, data=other), path, f"{differ} of 40 poisons are of another class", "allow_mismatch")
    completed(path, data=other, allow_mismatch=True)


def test_changes_of_classes_take_no_labels(tmp_path: Path) -> None:
    path = saved(tmp_path / "p.pth", {"delta": BY_CLASS / 255, "labels": torch.arange(len(BY_CLASS))})
    refused(lambda: completed(path), path, "in the order of the classes", "leave out the labels")


def test_changes_cannot_be_appended(tmp_path: Path) -> None:
    path = saved(tmp_path / "p.pth", {"delta": WHOLE[:3] / 255, "labels": LABELS})
    refused(lambda: completed(path, rows="appended"), path, "cannot be appended", "give rows")


# --- whole training sets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["toolbox", "array", "pngs"])
def test_images_of_a_whole_set_that_are_as_they_were_are_no_poisons(tmp_path: Path, form: str) -> None:
    images, labels = DATA.train_images.clone(), DATA.train_labels.clone()
    images[ROWS] = POISONS
    path = tmp_path
    if form == "toolbox":
        # numpy.zeros makes doubles, for levels and labels alike.
        np.save(tmp_path / "poisoned_training_data.npy", images.permute(0, 2, 3, 1).double().numpy())
        np.save(tmp_path / "poisoned_training_labels.npy", labels.double().numpy())
    elif form == "array":
        path = saved(tmp_path / "p.npy", images)
    else:
        for row, image in enumerate(images):
            as_pil(image).save(tmp_path / f"{row}.png")
    is_the_set(completed(path))
    refused(lambda: completed(path, data=shuffled()), "another order of the images")


# --- folders by class -----------------------------------------------------------------------------------------


def by_class(root: Path, images: Tensor, rows: Tensor, names: list[str]) -> None:
    for image, row, name in zip(images, rows.tolist(), names, strict=True):
        (root / name).mkdir(parents=True, exist_ok=True)
        as_pil(image).save(root / name / f"{row}.png")


@pytest.mark.parametrize("split", ["train", "."])
@pytest.mark.parametrize("names", [["b", "b", "b"], ["1", "1", "1"]])
def test_folders_of_classes(tmp_path: Path, split: str, names: list[str]) -> None:
    """The "limited" export of the toolbox of Witches' Brew: a target lies in the folder of the class it is to get."""
    by_class(tmp_path / split, POISONS, ROWS, names)
    (tmp_path / "test" / "b").mkdir(parents=True)
    is_the_set(completed(tmp_path))
    (tmp_path / "targets" / "a").mkdir(parents=True)
    by_class(tmp_path / "targets", DATA.test_images[[2, 6]], torch.tensor([2, 6]), names[:2])
    found = completed(tmp_path, targeted=True)
    assert found.goal is not None
    assert found.goal.target_labels.tolist() == [2, 2]
    assert found.goal.adversarial_labels.tolist() == [1, 1]
    assert torch.equal(found.goal.targets, DATA.test_images[[2, 6]])
    assert found.goal.untriggered is None
    refused(lambda: completed(tmp_path, targeted=True, data=shuffled()), "another order of the images")


def test_labels_are_those_of_the_folders(tmp_path: Path) -> None:
    by_class(tmp_path, POISONS, ROWS, ["c", "d", "0"])
    is_the_set(completed(tmp_path), labels=torch.tensor([2, 3, 0]))
    by_class(tmp_path, POISONS[:1], torch.tensor([7]), ["cow"])
    refused(lambda: completed(tmp_path), "'cow'", "'a', 'b', 'c', 'd'")


@pytest.mark.parametrize("count", [None, 1, 2])
def test_targets_without_labels_take_the_label_that_is_given(tmp_path: Path, count: int | None) -> None:
    wanted = DATA.test_images[[2, 6][: count or 1]]
    target = wanted[0] if count is None else wanted.float() / 255
    torch.save({"poisons": POISONS, "indices": ROWS, "target": target}, tmp_path / "a.pth")
    found = completed(tmp_path / "a.pth", targeted=True, target_label=2, adversarial_label=1)
    assert torch.equal(found.goal.targets, wanted)
    assert found.goal.target_labels.tolist() == [2] * len(wanted)
    refused(
        lambda: completed(tmp_path / "a.pth", targeted=True),
        "does not say the true class of its targets: give target_label",
    )
    torch.save({"poisons": POISONS, "indices": ROWS, "target": torch.zeros(3)}, tmp_path / "b.pth")
    refused(lambda: completed(tmp_path / "b.pth", targeted=True, target_label=2), "target are a tensor (1, 3)")


def test_targets_that_are_not_their_test_images_are_refused(tmp_path: Path) -> None:
    by_class(tmp_path / "train", POISONS, ROWS, ["b"] * 3)
    by_class(tmp_path / "targets", DATA.test_images[:1], torch.tensor([6]), ["b"])
    refused(lambda: completed(tmp_path, targeted=True), "targets are unlike the test images of their rows")
    by_class(tmp_path / "targets", DATA.test_images[:1], torch.tensor([12]), ["b"])
    refused(lambda: completed(tmp_path, targeted=True), "target 12 is beyond the dataset's 12 test rows")
    as_pil(POISONS[0]).save(tmp_path / "targets" / "b" / "x.png")
    refused(lambda: read_poisons(tmp_path), "x.png is not named after a row")


# --- BackdoorBench --------------------------------------------------------------------------------------------

TRIGGERED = DATA.test_images[[0, 2, 3]] | 128


def record(folder: Path, in_memory: bool = False, **changes: Any) -> Path:
    """As its attacks save one: numpy rows and labels, paths of another machine, a network's weights."""
    folder.mkdir(exist_ok=True)

    def state(name: str, images: Tensor, rows: list[int], label: int, true: Tensor, total: int) -> dict[str, Any]:
        entries: dict[Any, Any] = {}
        for image, row, old in zip(images, rows, true.tolist(), strict=True):
            place = folder / f"{name}_dataset" / str(old)
            place.mkdir(parents=True, exist_ok=True)
            if not in_memory:
                as_pil(image).save(place / f"{row}.png")
            path = f"/home/someone/record/{name}_dataset/{old}/{row}.png"
            told = {"path": path, "other_info": [np.int64(label), old]}
            entries[np.int64(row)] = (as_pil(image), label, old) if in_memory else told
        container = {"save_folder_path": None, "data_dict": entries, "save_file_format": ".png"}
        return {"bd_data_container": container, "getitem_all": True, "original_index_array": np.arange(total),
                "poison_indicator": np.zeros(total)}  # fmt: skip

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).state_dict()
    content = {
        "model_name": "preactresnet18", "num_classes": 4, "model": model, "img_size": (5, 7, 3), "clean_data": "x",
        "bd_train": state("bd_train", POISONS, ROWS.tolist(), 3, LABELS, 40),
        "bd_test": state("bd_test", TRIGGERED, [0, 2, 3], 3, torch.tensor([0, 2, 3]), 12),
    }  # fmt: skip
    torch.save({**content, **changes}, folder / "attack_result.pt")
    return folder


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_record_of_backdoorbench(tmp_path: Path, in_memory: bool) -> None:
    folder = record(tmp_path / "record", in_memory)
    for path in (folder, folder / "attack_result.pt"):
        with pytest.warns(DataWarning, match="1 of 3 targets are of their adversarial class"):
            found = completed(path, targeted=True)
        is_the_set(found, labels=torch.full((3,), 3))
        assert found.goal is not None
        assert torch.equal(found.goal.targets, TRIGGERED[:2])
        assert found.goal.target_labels.tolist() == [0, 2]
        assert found.goal.adversarial_labels.tolist() == [3, 3]
        assert found.goal.untriggered is not None
        assert torch.equal(found.goal.untriggered, DATA.test_images[[0, 2]])


def test_a_record_of_another_order_is_refused_by_its_classes(tmp_path: Path) -> None:
    folder = record(tmp_path / "record")
    refused(lambda: completed(folder, targeted=True, data=shuffled()), "are of another class than the images")
    swapped = ImageDataset(
        DATA.train_images, DATA.train_labels, DATA.test_images.roll(1, 0), DATA.test_labels.roll(1), DATA.class_names,
        DATA.mean, DATA.std,
    )  # fmt: skip
    refused(lambda: completed(folder, targeted=True, data=swapped), "targets are of another class than the test images")


def test_records_that_lack_something(tmp_path: Path) -> None:
    folder = record(tmp_path / "record")
    (folder / "bd_train_dataset" / "1" / "5.png").unlink()
    refused(lambda: read_poisons(folder), "row 5 has no image in bd_train_dataset")
    as_pil(POISONS[0]).save(folder / "bd_train_dataset" / "1" / "5.png")
    as_pil(POISONS[0]).save(folder / "bd_train_dataset" / "1" / "7.png")
    refused(lambda: read_poisons(folder), "bd_train has no label for row 7", "remove the image")
    for odd in ({"bd_train": None}, {"bd_train": {}}, {"bd_train": {"bd_data_container": {"data_dict": {"a": 1}}}}):
        refused(lambda odd=odd: read_poisons(record(tmp_path / "other", **odd)), "attack_result.pt")
    (folder / "attack_result.pt").unlink()
    refused(lambda: read_poisons(folder), "record of BackdoorBench without attack_result.pt")


def test_a_record_that_asks_for_code_is_refused(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            import os

            return os.system, (f"touch {tmp_path / 'canary'}",)

    folder = record(tmp_path / "record", model=Hostile())
    refused(lambda: read_poisons(folder), "system", "nothing in it was run")
    assert not (tmp_path / "canary").exists()


# --- targets --------------------------------------------------------------------------------------------------


def test_targets_may_be_training_images_or_photos(tmp_path: Path) -> None:
    path = saved(tmp_path / "p.pth", {"poisons": POISONS, "indices": ROWS})
    with pytest.warns(DataWarning, match="the target is training image 6: victims that train on it"):
        found = completed(path, targeted=True, target_index=6, target_split="train")
    assert found.goal is not None
    assert torch.equal(found.goal.targets, DATA.train_images[6:7])
    assert found.goal.target_labels.tolist() == [2]
    assert found.facts == {"target_training_row": 6}
    refused(lambda: completed(path, targeted=True, target_index=40, target_split="train"), "40 train rows")

    as_pil(pixels(1, 8)[0]).save(tmp_path / "a.png")
    flat = torch.tensor([200, 100, 50], dtype=torch.uint8).view(3, 1, 1)
    as_pil(flat.expand(3, 90, 50)).save(tmp_path / "large.png")
    photos = read_photos([tmp_path / "a.png", tmp_path / "large.png"], DATA)
    assert torch.equal(photos[0], pixels(1, 8)[0])
    assert torch.equal(photos[1], flat.expand(3, 5, 7))
    found = completed(path, targeted=True, photos=photos, target_label="c")
    assert found.goal is not None
    assert torch.equal(found.goal.targets, photos)
    assert found.goal.target_labels.tolist() == [2, 2]
    refused(lambda: completed(path, targeted=True, photos=photos), "give target_label")
    own = saved(tmp_path / "q.pth", {"poisons": POISONS, "indices": ROWS, "target": TARGET})
    refused(lambda: completed(own, targeted=True, photos=photos, target_label=2), "leave out target_files")


def test_photos_become_grey_for_grey_images(tmp_path: Path) -> None:
    grey = ImageDataset(
        DATA.train_images[:, :1], DATA.train_labels, DATA.test_images[:, :1], DATA.test_labels, DATA.class_names,
        DATA.mean[:1], DATA.std[:1],
    )  # fmt: skip
    photo = pixels(1, 8)[0]
    as_pil(photo).save(tmp_path / "a.png")
    found = read_photos([tmp_path / "a.png"], grey)[0, 0].float()
    luma = 0.299 * photo[0] + 0.587 * photo[1] + 0.114 * photo[2]
    assert float((found - luma).abs().max()) <= 1
    (tmp_path / "a.png").write_bytes(b"text")
    with warnings.catch_warnings(), pytest.raises(DataError, match="not a readable image"):
        read_photos([tmp_path / "a.png"], grey)
