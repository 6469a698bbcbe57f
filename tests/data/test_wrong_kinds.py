"""Data of another kind or layout are called what they are, and the message says how to read them."""

from __future__ import annotations

import gzip
import io
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from poisonlab.config.data.image_folder import ImageFolder
from poisonlab.config.data.npz import Npz
from poisonlab.config.data.parquet import Parquet
from poisonlab.data.source_at import source_at
from poisonlab.data.sources import load_dataset
from poisonlab.errors import DataError
from poisonlab.pipelines.reading import read_images

IDX = bytes([0, 0, 8, 3]) + bytes(12)


def saved(save: object) -> bytes:
    file = io.BytesIO()
    save(file)  # type: ignore[operator]
    return file.getvalue()


def archive(file: io.BytesIO) -> None:
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))


def packed(file: io.BytesIO) -> None:
    with zipfile.ZipFile(file, "w") as found:
        found.writestr("train/a.png", b"")


KINDS = {
    "MATLAB": (
        saved(lambda file: scipy.io.savemat(file, {"X": np.zeros(2)})),
        "a MATLAB file (.mat): read SVHN with source: svhn; load another with",
    ),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
    "idx": (IDX, "an idx file, as MNIST's"),
    "idx.gz": (gzip.compress(IDX), "an idx file packed with gzip"),
    "gz": (gzip.compress(b"other"), "a file packed with gzip: unpack it"),
    "cut gz": (gzip.compress(IDX)[:12], "a file packed with gzip: unpack it"),
    "npy": (saved(lambda file: np.save(file, np.zeros(3))), "a single NumPy array (.npy)"),
    "tar": (saved(archive), "a tar archive: read one of images and labels with source: webdataset, or unpack it"),
    "web page": (b"\n<!doctype html><html></html>", "a web page"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
    "pickle": (pickle.dumps({"data": [1]}), "a pickle, which could run any code"),
    "PNG": (saved(lambda file: Image.new("L", (2, 2)).save(file, "PNG")), "a PNG image"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_another_kind(kind: str, tmp_path: Path) -> None:
    content, called = KINDS[kind]
    path = tmp_path / "data"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_dataset(Npz(source="npz", path=str(path)))
    assert f"{path} is no .npz archive but {called}" in str(caught.value)
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_dataset(Parquet(source="parquet", train=str(path), test=str(tmp_path / "other")))
    assert f"{path} is no parquet file but {called}" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text", bytes(700), b"\0\0\1\1"])
def test_what_is_of_no_known_kind_may_be_damaged(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged or not an .npz archive"):
        load_dataset(Npz(source="npz", path=str(path)))


def test_a_zip_of_images_and_arrays_of_other_names(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(saved(packed))
    with pytest.raises(DataError, match=r"has no array x_train \(but 'train/a.png'\)"):
        load_dataset(Npz(source="npz", path=str(tmp_path / "a.zip")))
    np.savez(tmp_path / "b.npz", images=np.zeros(3), labels=np.zeros(3))
    with pytest.raises(DataError, match=r"has no array x_train \(but 'images', 'labels'\): it needs .*\(arrays: \["):
        load_dataset(Npz(source="npz", path=str(tmp_path / "b.npz")))


def image(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (level, level, level)).save(path)


def folder(root: Path, below: str = "") -> ImageFolder:
    for place, name in enumerate(("cats", "dogs")):
        for split in ("train", "test"):
            for number in range(2):
                image(root / split / name / below / f"{number}.png", 40 * place + number)
    return ImageFolder(source="image-folder", root=str(root))


def test_what_macos_adds_to_a_zip_is_no_class(tmp_path: Path) -> None:
    settings = folder(tmp_path)
    plain = load_dataset(settings)
    image(tmp_path / "train" / "__MACOSX" / "._0.png", 0)
    (tmp_path / "train" / "cats" / "._0.png").write_bytes(b"resource fork")
    found = load_dataset(settings)
    assert found.class_names == ("cats", "dogs")
    assert torch.equal(found.train_images, plain.train_images)


def test_images_one_folder_too_deep_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train/cats has no images .*: move those of .*train/cats/images up into it"):
        load_dataset(folder(tmp_path, below="images"))


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_test_split_of_another_name(name: str, tmp_path: Path) -> None:
    settings = folder(tmp_path)
    plain = load_dataset(settings)
    (tmp_path / "test").rename(tmp_path / name)
    # As ImageNet is laid out: test images without classes, and validation images with them.
    image(tmp_path / "test" / "0.png", 9)
    found = load_dataset(settings)
    assert torch.equal(found.test_images, plain.test_images)
    assert found.test_labels.tolist() == plain.test_labels.tolist() == [0, 0, 1, 1]
    told = {Path(file).relative_to(tmp_path).parts[0] for file in settings.folder_files}
    assert told == {"train", name}


def test_classes_of_one_split_only_are_named_with_their_folder(tmp_path: Path) -> None:
    settings = folder(tmp_path)
    (tmp_path / "test").rename(tmp_path / "val")
    image(tmp_path / "val" / "elks" / "0.png", 9)
    with pytest.raises(DataError, match=r"val/elks has no counterpart in .*train: give both"):
        load_dataset(settings)


def test_names_in_two_forms_of_unicode_are_named(tmp_path: Path) -> None:
    settings = folder(tmp_path)
    for split, form in (("train", "NFC"), ("test", "NFD")):
        image(tmp_path / split / normalize(form, "Hünd") / "0.png", 9)
    with pytest.raises(DataError, match="differ only in the Unicode form of their names"):
        load_dataset(settings)


def test_class_folders_without_splits_are_told_what_is_missing(tmp_path: Path) -> None:
    settings = folder(tmp_path)
    shutil.rmtree(tmp_path / "test")
    for each in (tmp_path / "train").iterdir():
        each.rename(tmp_path / each.name)
    (tmp_path / "train").rmdir()
    with pytest.raises(DataError, match="has class folders and no folders train and test: make both"):
        load_dataset(settings)


@pytest.mark.parametrize(
    ("train", "test", "cure"),
    [
        ("Train", "Test", "rename Test to test and Train to train"),
        ("training", "TESTING", "rename TESTING to test and training to train"),
        ("Training", "val", "rename Training to train"),
        ("TRAIN", "Validation", "rename TRAIN to train and Validation to validation"),
    ],
)
def test_splits_of_other_names_are_to_be_renamed(train: str, test: str, cure: str, tmp_path: Path) -> None:
    settings = folder(tmp_path)
    (tmp_path / "train").rename(tmp_path / train)
    (tmp_path / "test").rename(tmp_path / test)
    for read in (lambda: load_dataset(settings), lambda: source_at(tmp_path), lambda: read_images(settings)):
        with pytest.raises(DataError, match=f": {cure}$"):
            read()
    for name in cure.removeprefix("rename ").split(" and "):
        before, after = name.split(" to ")
        (tmp_path / before).rename(tmp_path / after)
    found = source_at(tmp_path)
    assert isinstance(found, ImageFolder)
    assert found.splits
    assert len(load_dataset(settings).test_labels) == len(read_images(settings)[0].train_labels) == 4


def test_a_test_split_of_another_name_is_to_be_renamed_unless_there_is_one(tmp_path: Path) -> None:
    settings = folder(tmp_path)
    (tmp_path / "test").rename(tmp_path / "Test")
    with pytest.raises(DataError, match=r"test is missing, but there are .*: rename Test to test$"):
        load_dataset(settings)
    shutil.copytree(tmp_path / "Test", tmp_path / "val")
    assert len(load_dataset(settings).test_labels) == 4


def test_tinyimagenet_as_its_zip_lays_it_out(tmp_path: Path) -> None:
    for name in ("n01443537", "n01629819"):
        image(tmp_path / "train" / name / "images" / f"{name}_0.JPEG", 3)
    image(tmp_path / "val" / "images" / "val_0.JPEG", 4)
    image(tmp_path / "test" / "images" / "test_0.JPEG", 5)
    (tmp_path / "wnids.txt").write_text("n01443537\nn01629819\n", encoding="utf-8")
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn01443537\t0\t0\t9\t9\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"is TinyImageNet as its zip lays it out: read it with source: tiny-imagenet"):
        load_dataset(ImageFolder(source="image-folder", root=str(tmp_path)))


def test_a_folder_in_place_of_an_npz_is_not_called_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path} is a folder: name the .npz file"):
        load_dataset(Npz(source="npz", path=str(tmp_path)))
