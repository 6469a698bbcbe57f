"""Data that could be taken for other data: refused with a cure, or read as their owner means them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from poisonlab.config.class_folders import splits_alone
from poisonlab.config.data.image_folder import ImageFolder
from poisonlab.config.data.npz import Npz
from poisonlab.config.data.parquet import Parquet
from poisonlab.config.data.shards import shard_files
from poisonlab.data.source_at import source_at
from poisonlab.data.sources import load_dataset
from poisonlab.errors import DataError, DataWarning


def put_image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(path)


def classes(folder: Path, names: str = "ab", count: int = 2) -> Path:
    for name in names:
        for number in range(count):
            put_image(folder / name / f"{number}.png", number)
    return folder


def parquet(path: Path, count: int = 6, **columns: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    put_image(path.parent / ".one.png")
    image = (path.parent / ".one.png").read_bytes()
    frame = pd.DataFrame({"image": [{"bytes": image}] * count, **columns})
    frame.sample(frac=1, random_state=0).to_parquet(path)
    return path


def complaint(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        source_at(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("names", "alone"),
    [
        (["train", "test"], True),
        (["Training", "Testing", "val"], True),
        (["train"], False),  # a class of vehicles, perhaps
        (["train", "bus"], False),
        (["a", "b"], False),
    ],
)
def test_folders_called_after_splits_are_no_classes(names: list[str], alone: bool, tmp_path: Path) -> None:
    assert splits_alone(names) is alone
    for name in names:
        put_image(tmp_path / name / "0.png")
    if alone:
        text = complaint(tmp_path)
        assert "has no classes: its folders" in text
        assert f"Sort the images into {tmp_path}/train/<class>/" in text
    elif len(names) > 1:
        assert source_at(tmp_path).source == "image-folder"


@pytest.mark.parametrize("splits", [["train"], ["test", "train"], ["Training", "val"]])
def test_splits_inside_the_class_folders_are_told_what_to_move(splits: list[str], tmp_path: Path) -> None:
    for split in splits:
        for name in ("cat", "dog"):
            put_image(tmp_path / name / split / "0.png")
    text = complaint(tmp_path)
    assert f"{tmp_path / 'cat'} is a class, and has the splits {', '.join(splits)} inside it" in text
    assert f"move its images to {tmp_path}/{splits[0]}/cat/ and so on" in text


@pytest.mark.parametrize("below", ["", "a", "b"])
def test_splits_are_no_classes_of_a_study_either(below: str, tmp_path: Path) -> None:
    for split in ("train", "test"):
        put_image(tmp_path / split / below / "0.png")
    with pytest.raises(DataError, match=r"no classes: its folders test, train are named .*; leave out splits: false"):
        load_dataset(ImageFolder(source="image-folder", root=str(tmp_path), splits=False))


@pytest.mark.parametrize("test", ["test", "val"])
def test_a_split_in_place_of_the_folder_of_both_is_told_of(
    test: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", test):
        classes(tmp_path / split)
    monkeypatch.chdir(tmp_path)
    for root in (str(tmp_path / "train"), "train", test):
        with pytest.raises(DataError, match=f"^{root} is one of two splits: set root to .* above it, {tmp_path}$"):
            load_dataset(ImageFolder(source="image-folder", root=root))
    assert load_dataset(ImageFolder(source="image-folder", root=str(tmp_path))).num_classes == 2


@pytest.mark.parametrize("name", ["meta.parquet", "photos.tar"])
@pytest.mark.parametrize("split", ["", "train"])
def test_class_folders_beside_another_format_are_not_passed_over(name: str, split: str, tmp_path: Path) -> None:
    classes(tmp_path / split)
    (tmp_path / name).write_bytes(b"")
    text = complaint(tmp_path)
    assert text.startswith(f"{tmp_path} has class folders with images and {name}: name {tmp_path / name} to read it")
    (tmp_path / name).unlink()
    assert source_at(tmp_path).source == "image-folder"


@pytest.mark.parametrize("name", ["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"])
def test_one_split_alone_is_both(name: str, tmp_path: Path) -> None:
    path = parquet(tmp_path / name, label=[0, 1] * 3)
    found = source_at(tmp_path)
    assert isinstance(found, Parquet)
    assert found.split("train") == found.split("test") == (str(path),)


def test_files_one_folder_below_are_named(tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "train.parquet", label=[0, 1] * 3)
    assert f"but {tmp_path / 'data'} has Parquet or tar files: name that folder" in complaint(tmp_path)


@pytest.mark.parametrize(
    ("names", "train", "test"),
    [
        (["mine_train.x", "mine_test.x"], ["mine_train.x"], ["mine_test.x"]),
        (["mine-training.x", "mine-val.x"], ["mine-training.x"], ["mine-val.x"]),
        (["a-train-0.x", "a-train-1.x", "a-test-0.x", "a-val-0.x"], ["a-train-0.x", "a-train-1.x"], ["a-test-0.x"]),
        (["constrained.x", "contest.x"], ["constrained.x", "contest.x"], ["constrained.x", "contest.x"]),
        (["train.x", "a_test.x"], ["train.x"], ["a_test.x"]),
        (["part.x", "a_test.x"], ["part.x"], ["a_test.x"]),
        (["test_set_train.x", "train_more.x"], ["train_more.x"], ["test_set_train.x"]),
    ],
)
def test_a_split_is_a_word_of_the_name(names: list[str], train: list[str], test: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    for split, expected in (("train", train), ("test", test)):
        found = shard_files(str(tmp_path), split, ".x")  # type: ignore[arg-type]
        assert [Path(file).name for file in found] == expected


def test_a_star_alone_is_a_pattern(tmp_path: Path) -> None:
    for folder in ("set [v1]", "set v"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train?0.x").touch()
        (tmp_path / folder / "train-0.x").touch()
    assert shard_files(f"{tmp_path}/set [v1]/*n?0.x", "train", ".x") == (f"{tmp_path}/set [v1]/train?0.x",)


def test_a_file_that_two_paths_name_is_read_once(tmp_path: Path) -> None:
    for name in ("train-0.x", "train-1.x"):
        (tmp_path / name).touch()
    given = [f"{tmp_path}/train-0.x", f"{tmp_path}/train-*.x", str(tmp_path)]
    assert [Path(file).name for file in shard_files(given, "train", ".x")] == ["train-0.x", "train-1.x"]


def test_the_numbers_of_rows_are_no_labels(tmp_path: Path) -> None:
    kinds: list[object] = ["cat", "dog", "elk"] * 2
    shuffled = parquet(tmp_path / "shuffled.parquet", kind=kinds)  # which pandas gives __index_level_0__
    settings = Parquet(source="parquet", train=str(shuffled), test=str(shuffled))
    with pytest.warns(DataWarning), pytest.raises(DataError) as caught:
        load_dataset(settings)
    assert "has no label column among image, kind" in str(caught.value)
    assert "after numbering the classes of kind 0, 1, 2, ..." in str(caught.value)
    counted = parquet(tmp_path / "counted.parquet", id=list(range(6)))
    with pytest.warns(DataWarning), pytest.raises(DataError, match="column id has another number in every row"):
        load_dataset(Parquet(source="parquet", train=str(counted), test=str(counted)))
    named = Parquet(source="parquet", train=str(counted), test=str(counted), label_column="id")
    with pytest.warns(DataWarning):
        assert load_dataset(named).num_classes == 6


@pytest.mark.parametrize("categories", [False, True])
@pytest.mark.filterwarnings("ignore:.* of both splits")
def test_whole_numbers_beside_names_of_classes_are_no_labels_unless_told(tmp_path: Path, categories: bool) -> None:
    """The number of a fold would be the class."""
    kinds = ["cat", "dog", "elk"] * 2
    file = parquet(tmp_path / "a.parquet", fold=[0, 1] * 3, kind=pd.Categorical(kinds) if categories else kinds)
    settings = Parquet(source="parquet", train=str(file), test=str(file))
    with pytest.raises(DataError, match=r"column fold is the only one of whole numbers, but kind may be the labels"):
        load_dataset(settings)
    assert load_dataset(settings.model_copy(update={"label_column": "fold"})).num_classes == 2
    # Names of files are no classes, nor is a text that all rows share.
    for texts in (list("abcdef"), ["train"] * 6):
        parquet(file, fold=[0, 1] * 3, text=texts)
        assert load_dataset(settings).num_classes == 2


@pytest.mark.filterwarnings("ignore:.* of both splits")
def test_links_that_lead_nowhere_are_not_passed_over(tmp_path: Path) -> None:
    root = classes(tmp_path)
    (root / "a" / "gone.png").symlink_to("../.git/annex/objects/gone.png")
    with pytest.raises(DataError, match=r"gone\.png is a link that leads nowhere: fetch its file"):
        load_dataset(ImageFolder(source="image-folder", root=str(root), splits=False))


def test_an_array_of_both_splits_is_told_of(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=[0, 1, 0, 1])
    names = ("x_train", "y_train", "x_train", "y_train")
    with pytest.warns(DataWarning, match="x_train is an array of both splits: accuracy is measured on images of the"):
        load_dataset(Npz(source="npz", path=str(tmp_path / "a.npz"), arrays=names))


def test_a_folder_of_both_splits_is_told_of(tmp_path: Path) -> None:
    classes(tmp_path)
    with pytest.warns(DataWarning, match=f"{tmp_path} is a folder of both splits: accuracy is measured on images"):
        load_dataset(ImageFolder(source="image-folder", root=str(tmp_path), splits=False))


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=[0, 1, 2], x_test=images, y_test=[0, 1, 2])
    settings = Npz(source="npz", path=str(tmp_path / "a.npz"), class_names=("a", "a", "b"))
    with pytest.raises(DataError, match="'a' is the name of two classes"):
        load_dataset(settings)


@pytest.mark.filterwarnings("ignore:.* of both splits")
@pytest.mark.parametrize(("largest", "refused"), [(255, False), (100, False), (65535, True), (1000, True)])
def test_a_ppm_of_more_than_8_bits_is_refused(largest: int, refused: bool, tmp_path: Path) -> None:
    kind = ">u2" if largest > 255 else "u1"
    pixels = (np.arange(8 * 8 * 3).reshape(8, 8, 3) % 2 * largest).astype(kind)
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.ppm").write_bytes(f"P6 8 8 {largest}\n".encode() + pixels.tobytes())
    settings = ImageFolder(source="image-folder", root=str(tmp_path), splits=False)
    if refused:
        with pytest.raises(DataError, match="more than 8 bits per channel"):
            load_dataset(settings)
    else:
        expected = torch.from_numpy(pixels // largest * 255).permute(2, 0, 1).to(torch.uint8)
        assert torch.equal(load_dataset(settings).train_images, expected.expand(2, -1, -1, -1))
