"""Sources that read files: exact pixels from tiny files, and one clear line for every kind of bad input."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from poisonlab.config.data.cifar import Cifar
from poisonlab.config.data.digits_on_photos import DigitsOnPhotos
from poisonlab.config.data.image_folder import ImageFolder
from poisonlab.config.data.npz import Npz
from poisonlab.config.data.parquet import Parquet
from poisonlab.config.datasets import DatasetSettings
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.decoding import decode
from poisonlab.data.source_at import source_at
from poisonlab.data.sources import load_dataset
from poisonlab.errors import DataError, DataWarning

Pixels = NDArray[np.uint8]


def random_pixels(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def encoded(pixels: Pixels, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def png_claiming(width: int, height: int, bits: int = 8, colour: int = 2, content: bytes = b"") -> bytes:
    """A PNG whose header may claim more than its content is."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def refused(settings: DatasetSettings, place: object, *words: str) -> None:
    """Loading fails with one line that names ``place`` and says ``words`` (what is wrong, the cure)."""
    with pytest.raises(DataError) as caught:
        load_dataset(settings)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(place), ":", *words):
        assert word in message


# --- lookup -----------------------------------------------------------------------------------------------


def test_files_of_a_source_are_those_that_stand_alone() -> None:
    assert Parquet(source="parquet", train="a", test="b").files == ("a", "b")
    assert Npz(source="npz", path="c").files == ("c",)
    assert ImageFolder(source="image-folder", root="d").files == ()
    assert Cifar(source="cifar10").files == ()
    assert DigitsOnPhotos().files == ()


def test_load_dataset_loads_the_default_source() -> None:
    assert load_dataset(DigitsOnPhotos(train_size=10, test_size=10)).image_shape == (3, 32, 32)


# --- npz --------------------------------------------------------------------------------------------------


def write_npz(path: Path, **changes: Any) -> Npz:
    """A good archive with ``changes``; an array set to None is left out."""
    arrays: dict[str, Any] = {
        "x_train": random_pixels(6, 5, 4, 3),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": random_pixels(3, 5, 4, 3, seed=1),
        "y_test": np.array([2, 1, 0]),
        **changes,
    }
    np.savez_compressed(path, **{name: value for name, value in arrays.items() if value is not None})
    return Npz(source="npz", path=str(path))


def test_npz_channels_last(tmp_path: Path) -> None:
    dataset = load_dataset(write_npz(tmp_path / "a.npz"))
    assert np.array_equal(dataset.train_images.numpy(), random_pixels(6, 5, 4, 3).transpose(0, 3, 1, 2))
    assert np.array_equal(dataset.test_images.numpy(), random_pixels(3, 5, 4, 3, seed=1).transpose(0, 3, 1, 2))
    assert dataset.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.train_images.is_contiguous()


def test_npz_channels_first_and_column_labels(tmp_path: Path) -> None:
    settings = write_npz(
        tmp_path / "a.npz",
        x_train=random_pixels(6, 3, 5, 4),
        x_test=random_pixels(3, 3, 5, 4),
        y_train=np.array([[0], [1], [2], [0], [1], [2]], dtype=np.uint8),
    ).model_copy(update={"class_names": ("x", "y", "z")})
    dataset = load_dataset(settings)
    assert np.array_equal(dataset.train_images.numpy(), random_pixels(6, 3, 5, 4))
    assert dataset.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert dataset.class_names == ("x", "y", "z")


def test_npz_greyscale(tmp_path: Path) -> None:
    settings = write_npz(tmp_path / "a.npz", x_train=random_pixels(6, 5, 4), x_test=random_pixels(3, 5, 4))
    dataset = load_dataset(settings)
    assert np.array_equal(dataset.train_images.numpy(), random_pixels(6, 5, 4)[:, None])
    assert len(dataset.mean) == 1


def test_npz_black_and_white(tmp_path: Path) -> None:
    drawn = random_pixels(6, 5, 4) // 128 * 255
    settings = write_npz(tmp_path / "a.npz", x_train=drawn, x_test=random_pixels(3, 5, 4))
    assert np.array_equal(load_dataset(settings).train_images.numpy(), drawn[:, None])


def wrapped(floats: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Floats cast to bytes, as most processors do it: -1 becomes 255."""
    return floats.astype(np.int8).astype(np.uint8)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y_test": None}, ("no array y_test", "it needs")),
        ({"x_train": np.zeros((6, 5, 4, 3))}, ("x_train is float64", "multiply by 255")),
        ({"x_train": np.zeros((6, 5, 4, 3), np.int32)}, ("int32, not uint8", "save it")),
        ({"x_train": (random_pixels(6, 5, 4, 3) / 255).astype("uint8")}, ("x_train holds no value above 1", "by 255")),
        ({"x_test": (random_pixels(3, 5, 4, 3) / 255).round().astype("uint8")}, ("x_test holds no value above 1",)),
        (
            {"x_train": wrapped((random_pixels(6, 5, 4, 3) / 255 - 0.5) / 0.2)},
            ("x_train holds only 0 to 3 and 253 to",),
        ),
        ({"x_train": wrapped(random_pixels(6, 5, 4, 3) / 127.5 - 1)}, ("as if normalised pixels had been cast",)),
        ({"x_train": random_pixels(6, 60)}, ("(6, 60)", "save it as")),
        ({"x_train": random_pixels(6, 5, 4, 2)}, ("1 or 3 channels", "save it as")),
        ({"x_train": random_pixels(6, 3, 8, 3)}, ("first or last", "save it as")),
        ({"x_test": random_pixels(3, 6, 4, 3)}, ("(3, 5, 4)", "(3, 6, 4)", "both splits need the same")),
        ({"y_train": np.array([0, 1])}, ("y_train has shape (2,)", "one label per image")),
        ({"y_train": np.zeros(6)}, ("y_train is float64", "save the class numbers")),
        ({"y_train": np.array([0, 1, 2, 0, 1, -1])}, ("[-1, 2]", "renumber")),
        ({"y_test": np.array([0, 1, 2**40])}, (str(2**40), "renumber")),
        ({"y_train": np.array([None] * 6)}, ("Python objects", "save it")),
        ({"x_test": random_pixels(0, 5, 4, 3), "y_test": np.zeros(0, int)}, ("test split is empty", "add")),
        ({"x_train": np.full((6, 5, 4, 3), 7, np.uint8)}, ("std must be positive", "constant?")),
        ({"x_train": random_pixels(6, 0, 4, 3)}, ("train images have no pixels", "(3, 0, 4)")),
        ({"y_train": np.zeros(6, int), "y_test": np.zeros(3, int)}, ("only one class", "at least two")),
        ({"y_train": np.array([0, 1, 2, 0, 1, 2**64 - 1], np.uint64)}, ("renumber",)),
    ],
)
def test_npz_refuses(tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    settings = write_npz(tmp_path / "a.npz", **changes)
    refused(settings, tmp_path / "a.npz", *words)


@pytest.mark.parametrize(
    ("kind", "scale"), [("float64", 1 / 255), ("float32", 1), ("int64", 1), ("uint16", 1), ("uint16", 257)]
)
def test_npz_of_another_type_names_the_cure_that_restores_the_pixels(tmp_path: Path, kind: str, scale: float) -> None:
    pixels = random_pixels(6, 5, 4, 3)
    saved = (pixels.astype(float) * scale).astype(kind)
    with pytest.raises(DataError) as caught:
        load_dataset(write_npz(tmp_path / "a.npz", x_train=saved))
    message = str(caught.value)
    assert f"x_train is {kind}, not uint8" in message
    factor = 255 if "multiply by 255, " in message else 1 / 257 if "divide by 257, " in message else 1
    cured = (saved * factor).round() if "round and" in message else saved
    assert np.array_equal(cured.astype("uint8"), pixels)


@pytest.mark.parametrize(
    ("values", "kind"),
    [([-2.0, 3.0], "float64"), ([0.0, 300.0], "float64"), ([float("nan"), 1.0], "float64"), ([0, 4095], "uint16")],
)
def test_npz_of_no_known_range_is_told_its_range(tmp_path: Path, values: list[float], kind: str) -> None:
    pixels = np.resize(np.array(values, kind), (6, 5, 4, 3))
    refused(write_npz(tmp_path / "a.npz", x_train=pixels), tmp_path, f"in [{values[0]:g}, ", "bring them to 0 to 255")


def test_npz_refuses_labels_beyond_the_class_names(tmp_path: Path) -> None:
    settings = write_npz(tmp_path / "a.npz").model_copy(update={"class_names": ("x", "y")})
    refused(settings, tmp_path / "a.npz", "[0, 2]", "2 classes", "correct the class names")


def test_npz_refuses_statistics_of_another_channel_count(tmp_path: Path) -> None:
    settings = write_npz(tmp_path / "a.npz").model_copy(update={"mean": (0.5,)})
    refused(settings, tmp_path / "a.npz", "need 3 values")


def drop_tail(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_middle(content: bytes) -> bytes:
    middle = len(content) // 3
    return content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 40]) + content[middle + 40 :]


def replace_with_text(content: bytes) -> bytes:
    return b"no such thing"


def empty(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [drop_tail, flip_middle, replace_with_text, empty])
def test_npz_refuses_a_damaged_file(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a.npz"
    settings = write_npz(path)
    path.write_bytes(damage(path.read_bytes()))
    refused(settings, path, "damaged", "copy it again")


def test_npz_refuses_a_missing_file(tmp_path: Path) -> None:
    refused(Npz(source="npz", path=str(tmp_path / "a.npz")), tmp_path / "a.npz", "missing", "correct the path")


# --- limits and statistics --------------------------------------------------------------------------------


def limited(tmp_path: Path, counts: tuple[int, ...], **changes: Any) -> Npz:
    """Classes of ``counts`` images in mixed order; the first pixel of an image is its position."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    images = random_pixels(len(labels), 4, 4)
    images[:, 0, 0] = np.arange(len(labels))
    settings = write_npz(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    return settings.model_copy(update=changes)


def positions(dataset: ImageDataset) -> list[int]:
    return dataset.train_images[:, 0, 0, 0].tolist()


def test_limits_draw_balanced_subsets_in_order(tmp_path: Path) -> None:
    whole = load_dataset(limited(tmp_path, (20, 30, 25)))
    dataset = load_dataset(limited(tmp_path, (20, 30, 25), train_limit=31, test_limit=6))
    assert sorted(torch.bincount(dataset.train_labels).tolist()) == [10, 10, 11]
    assert torch.bincount(dataset.test_labels).tolist() == [2, 2, 2]
    kept = positions(dataset)
    assert kept == sorted(set(kept))
    assert torch.equal(dataset.train_images, whole.train_images[kept])
    assert torch.equal(dataset.train_labels, whole.train_labels[kept])
    assert dataset.mean == pytest.approx([dataset.train_images.double().mean().item() / 255], abs=1e-6)


def test_subset_seed_decides_the_draw(tmp_path: Path) -> None:
    draws = [
        positions(load_dataset(limited(tmp_path, (20, 20), train_limit=10, subset_seed=seed))) for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_extra_images_come_from_classes_that_have_them(tmp_path: Path) -> None:
    for seed in range(5):
        dataset = load_dataset(limited(tmp_path, (5, 6, 5), train_limit=16, subset_seed=seed))
        assert torch.bincount(dataset.train_labels).tolist() == [5, 6, 5]


def test_limit_beyond_the_split(tmp_path: Path) -> None:
    refused(
        limited(tmp_path, (5, 5), train_limit=11),
        tmp_path / "a.npz",
        "train_limit is 11",
        "10 images",
        "lower",
    )
    refused(limited(tmp_path, (5, 5), test_limit=11), tmp_path / "a.npz", "test_limit is 11", "10 images", "lower")


def test_limit_beyond_balance_names_the_largest_that_works(tmp_path: Path) -> None:
    settings = limited(tmp_path, (3, 20, 3), train_limit=12)
    refused(settings, tmp_path / "a.npz", "class '0' has only 3 images", "at most 10")
    dataset = load_dataset(settings.model_copy(update={"train_limit": 10}))
    assert torch.bincount(dataset.train_labels).tolist() == [3, 4, 3]


def test_given_statistics_are_kept_and_the_other_measured(tmp_path: Path) -> None:
    measured = load_dataset(limited(tmp_path, (5, 5)))
    dataset = load_dataset(limited(tmp_path, (5, 5), mean=(0.25,)))
    assert dataset.mean == (0.25,)
    assert dataset.std == measured.std


# --- parquet ----------------------------------------------------------------------------------------------


def write_parquet(
    path: Path,
    images: list[Any],
    labels: list[Any],
    image_column: str = "img",
    label_column: str = "label",
    names: list[str] | None = None,
) -> None:
    cells = [{"bytes": image, "path": None} for image in images]
    table = pa.table(
        {
            image_column: pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            label_column: labels,
        }
    )
    if names is not None:
        record = {"info": {"features": {label_column: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(record)})
    pq.write_table(table, path, row_group_size=2)


def parquet_pair(folder: Path, **changes: Any) -> Parquet:
    """Two good files; ``changes`` apply to the training file."""
    good: dict[str, Any] = {
        "images": [encoded(pixels) for pixels in random_pixels(5, 4, 6, 3)],
        "labels": [0, 1, 2, 1, 0],
    }
    write_parquet(folder / "train.parquet", **{**good, **changes})
    shared = {key: changes[key] for key in ("image_column", "label_column", "names") if key in changes}
    write_parquet(folder / "test.parquet", good["images"][:3], [2, 1, 0], **shared)
    return Parquet(source="parquet", train=str(folder / "train.parquet"), test=str(folder / "test.parquet"))


@pytest.mark.parametrize("columns", [("img", "label"), ("image", "fine_label"), ("picture", "labels")])
def test_parquet_pixels(tmp_path: Path, columns: tuple[str, str]) -> None:
    dataset = load_dataset(parquet_pair(tmp_path, image_column=columns[0], label_column=columns[1]))
    assert np.array_equal(dataset.train_images.numpy(), random_pixels(5, 4, 6, 3).transpose(0, 3, 1, 2))
    assert dataset.train_labels.tolist() == [0, 1, 2, 1, 0]
    assert dataset.test_labels.tolist() == [2, 1, 0]
    assert dataset.class_names == ("0", "1", "2")


def test_parquet_jpeg_and_greyscale_become_rgb(tmp_path: Path) -> None:
    grey = random_pixels(4, 6)
    jpeg = encoded(random_pixels(4, 6, 3), "JPEG")
    dataset = load_dataset(parquet_pair(tmp_path, images=[encoded(grey), jpeg, jpeg], labels=[0, 1, 2]))
    assert np.array_equal(dataset.train_images[0].numpy(), np.stack([grey] * 3))
    expected = np.asarray(Image.open(io.BytesIO(jpeg))).transpose(2, 0, 1)
    assert np.array_equal(dataset.train_images[1].numpy(), expected)


def test_parquet_class_names(tmp_path: Path) -> None:
    recorded = parquet_pair(tmp_path, names=["cat", "dog", "elk"])
    assert load_dataset(recorded).class_names == ("cat", "dog", "elk")
    refused(
        recorded.model_copy(update={"class_names": ("a", "b", "c")}),
        tmp_path / "train.parquet",
        "remove class_names",
    )
    bare = parquet_pair(tmp_path).model_copy(update={"class_names": ("a", "b", "c")})
    assert load_dataset(bare).class_names == ("a", "b", "c")


def test_parquet_refuses_files_of_different_datasets(tmp_path: Path) -> None:
    settings = parquet_pair(tmp_path, names=["cat", "dog", "elk"])
    images = [encoded(pixels) for pixels in random_pixels(3, 4, 6, 3)]
    write_parquet(tmp_path / "test.parquet", images, [0, 1, 2], names=["car", "bus", "van"])
    refused(settings, tmp_path / "test.parquet", "different classes", "same dataset")


GOOD = encoded(random_pixels(4, 6, 3))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (GOOD[:60], ("row 3", "not a readable image", "replace or remove")),
        (flip_middle(GOOD), ("row 3", "not a readable image", "replace or remove")),
        (b"", ("row 3", "not a readable image", "replace or remove")),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ("row 3", "not a readable image")),
        (None, ("row 3", "no image bytes", "embed")),
        (png_claiming(60000, 60000), ("row 3", "more than", "make it smaller")),
        (png_claiming(10000, 10000), ("row 3", "more than", "make it smaller")),
        (encoded(random_pixels(4, 5, 3)), ("row 3 is 5x4", "row 0 is 6x4", "resize")),
        (encoded(np.zeros((4, 6), np.uint16)), ("row 3", "more than 8 bits", "convert")),
    ],
    ids=["truncated", "corrupt", "empty", "postscript", "null", "bomb", "large", "shape", "16-bit"],
)
@pytest.mark.filterwarnings("error")
def test_parquet_names_the_row_of_a_bad_image(tmp_path: Path, image: bytes | None, words: tuple[str, ...]) -> None:
    images = [encoded(pixels) for pixels in random_pixels(5, 4, 6, 3)]
    settings = parquet_pair(tmp_path, images=[*images[:3], image, images[4]])
    refused(settings, tmp_path / "train.parquet", *words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": [0, 1, None, 1, 0]}, ("row 2 has no label", "add the label")),
        ({"labels": ["a", "b", "c", "a", "b"]}, ("label is string, not integer", "number the classes")),
        ({"labels": [0, 1, 2, 1, -1]}, ("[-1, 2]", "renumber")),
        ({"names": ["cat", "dog"]}, ("[0, 2]", "2 classes", "correct the class names")),
        ({"images": [], "labels": pa.array([], pa.int64())}, ("no rows", "write it again")),
    ],
)
def test_parquet_refuses(tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(parquet_pair(tmp_path, **changes), tmp_path / "train.parquet", *words)


def test_parquet_refuses_no_image_column_and_several(tmp_path: Path) -> None:
    settings = parquet_pair(tmp_path)
    pq.write_table(pa.table({"img": ["text"], "label": [0]}), settings.train)
    refused(settings, settings.train, "no image columns", "img, label", "set image_column in the config")
    pq.write_table(pa.table({"a": [{"bytes": GOOD}], "b": [{"bytes": GOOD}], "label": [0]}), settings.train)
    refused(settings, settings.train, "2 image columns", "set image_column")


def test_parquet_finds_the_columns_that_can_only_be_meant(tmp_path: Path) -> None:
    settings = parquet_pair(tmp_path)
    pixels = [encoded(image) for image in random_pixels(5, 4, 6, 3)]
    # Bytes without a struct, and a label among other numbers, which the record of the classes tells apart.
    record = {"info": {"features": {"kind": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}}}
    table = pa.table({"id": range(5), "photo": pixels, "kind": [0, 1, 2, 1, 0]})
    for path in settings.files:
        pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(record)}), path)
    dataset = load_dataset(settings)
    assert np.array_equal(dataset.train_images.numpy(), random_pixels(5, 4, 6, 3).transpose(0, 3, 1, 2))
    assert dataset.train_labels.tolist() == [0, 1, 2, 1, 0]
    assert dataset.class_names == ("a", "b", "c")
    pq.write_table(table.replace_schema_metadata({}), settings.train)
    refused(settings, settings.train, "no label column among id, photo, kind", "set label_column")
    for path in settings.files:
        pq.write_table(table.drop_columns(["id"]).replace_schema_metadata({}), path)
    assert load_dataset(settings).train_labels.tolist() == [0, 1, 2, 1, 0]


@pytest.mark.parametrize("damage", [drop_tail, replace_with_text, empty])
def test_parquet_refuses_a_damaged_file(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    settings = parquet_pair(tmp_path)
    path = Path(settings.train)
    path.write_bytes(damage(path.read_bytes()))
    refused(settings, path, "damaged", "download it again")


def test_parquet_refuses_damaged_pages(tmp_path: Path) -> None:
    settings = parquet_pair(tmp_path)
    path = Path(settings.train)
    path.write_bytes(flip_middle(path.read_bytes()))
    refused(settings, path)


def test_parquet_refuses_damaged_metadata(tmp_path: Path) -> None:
    settings = parquet_pair(tmp_path)
    table = pq.read_table(settings.train).replace_schema_metadata({"huggingface": "{"})
    pq.write_table(table, settings.train)
    refused(settings, settings.train, "damaged huggingface metadata", "again")


def test_parquet_refuses_a_missing_file(tmp_path: Path) -> None:
    settings = parquet_pair(tmp_path)
    Path(settings.test).unlink()
    refused(settings, settings.test, "missing", "correct the path")


# --- image-folder -----------------------------------------------------------------------------------------


def image_folder(root: Path, **changes: Any) -> ImageFolder:
    """Two classes, two images each per split, written in an order that sorting must undo."""
    for part, split in enumerate(("train", "test")):
        for label, name in enumerate(("bee", "ant")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for position in (1, 0):
                pixels = random_pixels(10, 12, 3, seed=100 * part + 10 * label + position)
                (folder / f"{position}.png").write_bytes(encoded(pixels))
    return ImageFolder(source="image-folder", root=str(root), **changes)


def test_image_folder_pixels_and_order(tmp_path: Path) -> None:
    settings = image_folder(tmp_path)
    (tmp_path / "train" / "ant" / ".hidden.png").write_text("passed over")
    (tmp_path / "train" / ".cache").mkdir()
    dataset = load_dataset(settings)
    assert dataset.class_names == ("ant", "bee")
    assert dataset.train_labels.tolist() == [0, 0, 1, 1]
    for split, part in ((dataset.train_images, 0), (dataset.test_images, 100)):
        expected = [random_pixels(10, 12, 3, seed=part + place).transpose(2, 0, 1) for place in (10, 11, 0, 1)]
        assert np.array_equal(split.numpy(), np.stack(expected))


def test_image_folder_resizes_with_antialiasing(tmp_path: Path) -> None:
    settings = image_folder(tmp_path, size=8)
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[::2] = 255
    (tmp_path / "train" / "ant" / "0.png").write_bytes(encoded(stripes))
    (tmp_path / "train" / "ant" / "1.png").unlink()
    (tmp_path / "train" / "ant" / "1.JPG").write_bytes(encoded(random_pixels(9, 40, 3), "JPEG"))
    dataset = load_dataset(settings)
    assert dataset.train_images.shape == (4, 3, 8, 8)
    # Without antialiasing, every sample would fall on one stripe or midway between the same two.
    inner = dataset.train_images[0, :, 1:-1].int()
    assert int((inner - 128).abs().max()) <= 4


def test_image_folder_refuses_different_shapes(tmp_path: Path) -> None:
    settings = image_folder(tmp_path)
    odd = tmp_path / "test" / "bee" / "1.png"
    odd.write_bytes(encoded(random_pixels(10, 13, 3)))
    refused(settings, odd, "13x10", "12x10", "set size")


@pytest.mark.parametrize("content", [GOOD[:60], flip_middle(GOOD), b"text", b"", png_claiming(60000, 60000)])
def test_image_folder_names_the_bad_image(tmp_path: Path, content: bytes) -> None:
    settings = image_folder(tmp_path)
    bad = tmp_path / "train" / "bee" / "0.png"
    bad.write_bytes(content)
    refused(settings, bad, "replace")


# Colour types of PNG (section 11.2.1): grey, RGB, grey with alpha, RGBA.
@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits_is_refused_and_of_8_bits_read(colour: int, channels: int) -> None:
    line = b"\0" + bytes(range(2 * channels))
    assert decode(png_claiming(2, 1, 8, colour, line), "x").shape == (3, 1, 2)
    deep = b"\0" + bytes(range(4 * channels))
    with pytest.raises(DataError, match=r"^x has more than 8 bits per channel: scale its values to 0 to 255"):
        decode(png_claiming(2, 1, 16, colour, deep), "x")


def tiff(bits: int) -> bytes:
    """One RGB pixel, as TIFF 6.0 lays it out: width, height, bits, photometric, strip, samples, rows and bytes."""
    entries = [(256, 1), (257, 1), (258, 0), (262, 2), (273, 0), (277, 3), (278, 1), (279, 3 * bits // 8)]
    behind = 8 + 2 + 12 * len(entries) + 4
    values = {**dict(entries), 258: behind, 273: behind + 6}
    body = b"".join(
        struct.pack("<HHII", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, values[tag]) for tag in values
    )
    return (
        b"II*\0"
        + struct.pack("<IH", 8, len(entries))
        + body
        + struct.pack("<IHHH", 0, *[bits] * 3)
        + bytes(3 * bits // 8)
    )


def test_tiff_of_16_bits_is_refused_and_of_8_bits_read() -> None:
    assert decode(tiff(8), "x").shape == (3, 1, 1)
    with pytest.raises(DataError, match="more than 8 bits per channel"):
        decode(tiff(16), "x")


def test_image_folder_refuses_missing_or_empty_folders(tmp_path: Path) -> None:
    refused(ImageFolder(source="image-folder", root=str(tmp_path)), tmp_path / "train", "missing", "correct root")
    (tmp_path / "train").mkdir()
    refused(ImageFolder(source="image-folder", root=str(tmp_path)), tmp_path / "train", "no class folders", "put")
    (tmp_path / "train").rmdir()
    settings = image_folder(tmp_path)
    for file in (tmp_path / "test" / "ant").iterdir():
        file.unlink()
    refused(settings, tmp_path / "test" / "ant", "no images", "add some, or remove the class from every split")
    shutil.rmtree(tmp_path / "test")
    refused(settings, tmp_path / "test", "is missing: make it, and move a part of each class")


@pytest.mark.parametrize("split", ["train", "test"])
def test_image_folder_refuses_other_classes(tmp_path: Path, split: str) -> None:
    settings = image_folder(tmp_path)
    (tmp_path / split / "cow").mkdir()
    refused(settings, tmp_path / split / "cow", "no counterpart", "same class folders")


def test_image_folder_refuses_a_limit_beyond_the_split(tmp_path: Path) -> None:
    refused(image_folder(tmp_path, train_limit=5), tmp_path, "train_limit is 5", "lower")


ORIENTED = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image),
}


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_images_are_read_upright(tmp_path: Path, orientation: int, form: str) -> None:
    """The orientation says how the stored rows and columns lie in what was photographed (EXIF 2.3, section 4.6.4)."""
    settings = image_folder(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored, buffer = random_pixels(8, 8, 3, seed=5).repeat(2, 0).repeat(2, 1), io.BytesIO()
    Image.fromarray(stored).save(buffer, form, exif=exif)
    plain = np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(encoded(random_pixels(16, 16, 3)))
    (tmp_path / "train" / "ant" / "0.png").write_bytes(buffer.getvalue())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        images = load_dataset(settings).train_images
    expected = ORIENTED[orientation](plain)
    assert np.array_equal(images[0].numpy(), expected.transpose(2, 0, 1))
    told = [str(warning.message) for warning in caught if warning.category is DataWarning]
    if orientation == 1:
        assert told == []
    else:
        assert len(told) == 1
        assert told[0].startswith("1 of 4 images")
        assert str(tmp_path / "train" / "ant" / "0.png") in told[0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff", b""])
def test_damaged_metadata_take_no_pixel_away(exif: bytes) -> None:
    pixels, buffer = random_pixels(4, 6, 3), io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    assert np.array_equal(decode(buffer.getvalue(), "x"), pixels.transpose(2, 0, 1))


@pytest.mark.filterwarnings("error")
def test_transparency_is_dropped_and_the_first_frame_is_read() -> None:
    """Also without the warning that Pillow gives of transparent palettes."""
    shown = Image.fromarray(random_pixels(4, 6, 3)).quantize(8)
    expected = np.asarray(shown.convert("RGB"))
    faded = Image.fromarray(np.concatenate([expected, random_pixels(4, 6, 1)], axis=2))
    frames = {"save_all": True, "append_images": [Image.new("P", (6, 4))]}
    for image, form, options in (
        (shown, "PNG", {"transparency": bytes(range(8))}),
        (faded, "PNG", {}),
        (shown, "GIF", frames),
        (faded.convert("RGB"), "TIFF", frames),
    ):
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        assert np.array_equal(decode(buffer.getvalue(), "x"), expected.transpose(2, 0, 1)), form


def test_image_folder_reads_jfif_and_counts_what_it_passes_over(tmp_path: Path) -> None:
    settings = image_folder(tmp_path)
    jpeg = encoded(random_pixels(10, 12, 3), "JPEG")
    (tmp_path / "train" / "ant" / "2.JFIF").write_bytes(jpeg)
    for name in ("train/ant/a.heic", "train/bee/b.HEIC", "test/bee/c.heic", "train/bee/notes.txt", "test/ant/none"):
        (tmp_path / name).write_bytes(b"")
    # A class folder can be a link.
    (tmp_path / "train" / "bee").rename(tmp_path / "bees")
    (tmp_path / "train" / "bee").symlink_to(tmp_path / "bees")
    with pytest.warns(DataWarning, match="convert others") as caught:
        dataset = load_dataset(settings)
    assert [str(warning.message).split(", because")[0] for warning in caught] == [
        f"{tmp_path / 'train'}: files passed over: 3 (1 .heic in ant, 1 .heic in bee, 1 .txt in bee)",
        f"{tmp_path / 'test'}: files passed over: 2 (1 without suffix in ant, 1 .heic in bee)",
    ]
    assert sorted(dataset.train_labels.tolist()) == [0, 0, 0, 1, 1]
    assert any(np.array_equal(image, decode(jpeg, "x")) for image in dataset.train_images.numpy())
    for file in (tmp_path / "test" / "ant").glob("*.png"):
        file.unlink()
    (tmp_path / "test" / "ant" / "d.heic").write_bytes(b"")
    refused(settings, tmp_path / "test" / "ant", "no images", "but , .heic")


def test_images_elsewhere_than_right_in_a_class_folder_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = image_folder(tmp_path)
    plain = load_dataset(settings)
    elsewhere = ("train/ant/more/0.png", "train/ant/more/1.JPG", "train/bee/a/b/0.png", "test/0.png", "valid/ant/0.png")
    for name in elsewhere:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(GOOD)
    with pytest.warns(DataWarning) as caught:
        assert torch.equal(load_dataset(settings).train_images, plain.train_images)
    assert [str(warning.message).split(", because")[0] for warning in caught] == [
        f"{tmp_path / 'train'}: files passed over: 3 (1 .jpg in ant/more, 1 .png in ant/more, 1 .png in bee/a/b)",
        f"{tmp_path / 'test'}: files passed over: 1 (1 .png in .)",
    ]
    monkeypatch.chdir(tmp_path / "train")
    with pytest.warns(DataWarning, match=r"^\.: files passed over: 3 \(1 \.jpg in ant/more, .* in bee/a/b\), because"):
        load_dataset(ImageFolder(source="image-folder", root=".", splits=False))


# --- classes without training images ----------------------------------------------------------------------


def test_a_class_without_training_images_is_refused_in_every_source(tmp_path: Path) -> None:
    words = ("1 of 3 classes have no training image", "add some")
    gap = write_npz(tmp_path / "a.npz", y_train=np.array([0, 2, 2, 0, 2, 0]))
    refused(gap, tmp_path / "a.npz", *words, "('1')")
    named = write_npz(tmp_path / "b.npz", y_train=np.array([0, 1, 1, 0, 1, 0]), y_test=np.array([0, 1, 0]))
    refused(named.model_copy(update={"class_names": ("x", "y", "z")}), tmp_path / "b.npz", *words, "('z')")
    table = parquet_pair(tmp_path, labels=[0, 1, 1, 1, 0], names=["cat", "dog", "elk"])
    refused(table, tmp_path / "train.parquet", *words, "('elk')")
    (tmp_path / "folder").mkdir()
    folder = image_folder(tmp_path / "folder")
    for file in (tmp_path / "folder" / "train" / "ant").iterdir():
        file.unlink()
    refused(folder, tmp_path / "folder" / "train" / "ant", "no images", "add some")
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(DataError, match="1 of 3 classes have no training image"):
        ImageDataset(images, torch.tensor([0, 1, 1, 0]), images, torch.arange(4) % 3, tuple("abc"), (0.1,), (0.1,))


def test_a_limit_below_the_number_of_classes_is_refused(tmp_path: Path) -> None:
    settings = write_npz(tmp_path / "a.npz").model_copy(update={"train_limit": 2})
    refused(settings, tmp_path / "a.npz", "train_limit 2", "raise it to at least 3")


# --- shards -----------------------------------------------------------------------------------------------


def sharded(folder: Path, count: int = 3, of: int = 3) -> list[str]:
    """Files of two images each, called as Hugging Face calls shards; labels 0 1, 2 0, 1 2, ..."""
    paths = []
    for place in range(count):
        path = folder / f"train-{place:05d}-of-{of:05d}.parquet"
        images = [encoded(pixels) for pixels in random_pixels(2, 4, 6, 3, seed=10 + place)]
        write_parquet(path, images, [2 * place % 3, (2 * place + 1) % 3])
        paths.append(str(path))
    write_parquet(folder / "test.parquet", images, [0, 1])
    return paths


@pytest.mark.parametrize("given", ["list", "pattern", "patterns", "folder"])
def test_shards_are_read_one_after_another(tmp_path: Path, given: str) -> None:
    paths = sharded(tmp_path)
    train: Any = {
        "list": paths,
        "pattern": str(tmp_path / "train-*.parquet"),
        "patterns": [str(tmp_path / "train-00000*"), *paths[1:]],
        "folder": str(tmp_path),
    }[given]
    settings = Parquet(source="parquet", train=train, test=str(tmp_path / "test.parquet"))
    assert settings.files == (*paths, str(tmp_path / "test.parquet"))
    dataset = load_dataset(settings)
    expected = np.concatenate([random_pixels(2, 4, 6, 3, seed=10 + place) for place in range(3)])
    assert np.array_equal(dataset.train_images.numpy(), expected.transpose(0, 3, 1, 2))
    assert dataset.train_labels.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("kept", [[0], [0, 2], [1, 2]])
def test_some_shards_are_not_the_whole_split(tmp_path: Path, kept: list[int]) -> None:
    paths = sharded(tmp_path)
    train: Any = [paths[place] for place in kept] if len(kept) > 1 else paths[kept[0]]
    settings = Parquet(source="parquet", train=train, test=str(tmp_path / "test.parquet"))
    missing = min({0, 1, 2} - set(kept))
    refused(settings, paths[kept[0]], "one of 3 shards", f"shard {missing}", "train-*-of-00003*.parquet")


def test_a_single_shard_is_a_whole_split(tmp_path: Path) -> None:
    [path] = sharded(tmp_path, count=1, of=1)
    settings = Parquet(source="parquet", train=path, test=str(tmp_path / "test.parquet"))
    assert load_dataset(settings).train_labels.tolist() == [0, 1]


def test_a_folder_is_both_splits_if_names_tell_them_apart(tmp_path: Path) -> None:
    paths = sharded(tmp_path)
    settings = Parquet(source="parquet", train=str(tmp_path), test=str(tmp_path))
    assert settings.files == (*paths, str(tmp_path / "test.parquet"))
    (tmp_path / "test.parquet").rename(tmp_path / "validation.parquet")
    assert settings.split("test") == (str(tmp_path / "validation.parquet"),)
    (tmp_path / "empty").mkdir()
    refused(settings.model_copy(update={"train": str(tmp_path / "empty")}), tmp_path / "empty", "without files")


def test_a_folder_of_training_shards_is_no_test_split(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "test.parquet").unlink()
    settings = Parquet(source="parquet", train=str(tmp_path), test=str(tmp_path))
    refused(settings, tmp_path, "a folder without files of this split")


def test_a_file_of_both_splits_is_told_of(tmp_path: Path) -> None:
    sharded(tmp_path)
    path = str(tmp_path / "test.parquet")
    with pytest.warns(DataWarning, match="is a file of both splits"):
        load_dataset(Parquet(source="parquet", train=path, test=path))


def test_columns_can_be_named(tmp_path: Path) -> None:
    settings = parquet_pair(tmp_path, label_column="fine_label")
    for path in settings.files:
        table = pq.read_table(path)
        coarse = pa.array([label // 2 for label in table.column("fine_label").to_pylist()])
        table = table.append_column("coarse_label", coarse).append_column("second", table.column("img"))
        pq.write_table(table, path)
    named = settings.model_copy(update={"label_column": "fine_label", "image_column": "img"})
    assert load_dataset(named).train_labels.tolist() == [0, 1, 2, 1, 0]
    coarse_settings = settings.model_copy(update={"label_column": "coarse_label", "image_column": "second"})
    assert load_dataset(coarse_settings).train_labels.tolist() == [0, 0, 1, 0, 0]
    refused(settings.model_copy(update={"label_column": "none"}), settings.train, "no label column", "label_column")
    refused(settings.model_copy(update={"image_column": "none"}), settings.train, "'none'", "image_column")
    assert "label_column" not in settings.told()


# --- cifar ------------------------------------------------------------------------------------------------


def fake_cifar(root: Path, monkeypatch: pytest.MonkeyPatch, reader: Any, label_key: str) -> Path:
    """A folder in torchvision's layout with 4 training and 2 test images, checksums patched to fit."""
    folder = root / str(reader.base_folder)
    folder.mkdir(parents=True)

    def write(name: str, content: dict[str, Any]) -> str:
        packed = pickle.dumps(content)
        (folder / name).write_bytes(packed)
        return hashlib.md5(packed).hexdigest()

    train, test = random_pixels(4, 3072), random_pixels(2, 3072, seed=1)
    lists = {
        "train_list": [["train", write("train", {"data": train, label_key: [1, 0, 1, 0]})]],
        "test_list": [["test", write("test", {"data": test, label_key: [0, 1]})]],
    }
    for name, value in lists.items():
        monkeypatch.setattr(reader, name, value)
    checksum = write(reader.meta["filename"], {reader.meta["key"]: ["plane", "ship"]})
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": checksum})
    return folder


@pytest.mark.parametrize(
    ("source", "reader", "label_key"), [("cifar10", CIFAR10, "labels"), ("cifar100", CIFAR100, "fine_labels")]
)
def test_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Any, reader: Any, label_key: str) -> None:
    folder = fake_cifar(tmp_path, monkeypatch, reader, label_key)
    settings = Cifar(source=source, root=str(tmp_path))
    dataset = load_dataset(settings)
    assert np.array_equal(dataset.train_images.numpy(), random_pixels(4, 3072).reshape(4, 3, 32, 32))
    assert np.array_equal(dataset.test_images.numpy(), random_pixels(2, 3072, seed=1).reshape(2, 3, 32, 32))
    assert dataset.train_labels.tolist() == [1, 0, 1, 0]
    assert dataset.class_names == ("plane", "ship")
    refused(settings.model_copy(update={"train_limit": 5}), folder, "train_limit is 5", "lower")


def test_cifar_missing(tmp_path: Path) -> None:
    settings = Cifar(source="cifar10", root=str(tmp_path))
    refused(settings, tmp_path / "cifar-10-batches-py", "missing", "set download: true")


def test_cifar_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fake_cifar(tmp_path, monkeypatch, CIFAR10, "labels")
    (folder / "train").write_bytes(drop_tail((folder / "train").read_bytes()))
    refused(Cifar(source="cifar10", root=str(tmp_path)), folder, "damaged", "set download: true")


def test_cifar_download_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CIFAR10, "url", (tmp_path / "nowhere.tar.gz").as_uri())
    settings = Cifar(source="cifar10", root=str(tmp_path / "data"), download=True)
    refused(settings, tmp_path / "data" / "cifar-10-batches-py", "cannot download cifar10", "check the network")


# --- hostile files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [">i8", "<i2", ">u4", "i1"])
def test_labels_of_any_byte_order_and_memory_order(tmp_path: Path, kind: str) -> None:
    images = np.asfortranarray(random_pixels(6, 5, 4, 3))
    settings = write_npz(tmp_path / "a.npz", x_train=images, y_train=np.array([0, 1, 2, 0, 1, 2], kind))
    dataset = load_dataset(settings)
    assert dataset.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert np.array_equal(dataset.train_images.numpy(), images.transpose(0, 3, 1, 2))


def test_npz_refuses_a_bomb_before_it_is_unfolded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poisonlab.data.compression._ALWAYS", 1 << 20)
    refused(write_npz(tmp_path / "a.npz", x_train=np.zeros((500, 32, 32, 3), np.uint8)), tmp_path, "x_train unfolds to")
    images = random_pixels(500, 32, 32, 3)
    labels = np.arange(500) % 3
    good = write_npz(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert len(load_dataset(good).train_labels) == 500


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 5, 4, 3), }" % 10**15,
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 5, 4, 3), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        b"__import__('os').system('touch canary')",
        b"{" * 5000,
        b"[" * 9000,
        b"\xff",
        b"",
    ],
)
def test_npz_refuses_odd_headers(tmp_path: Path, header: bytes) -> None:
    settings = write_npz(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["x_train.npy"] = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + b"\0" * 60
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    refused(settings, tmp_path / "a.npz")
    assert not Path("canary").exists()


def test_parquet_with_odd_columns(tmp_path: Path) -> None:
    settings = parquet_pair(tmp_path, image_column="a.b")
    assert len(load_dataset(settings).train_labels) == 5
    refused(parquet_pair(tmp_path, image_column="label"), tmp_path / "train.parquet")


def test_parquet_refuses_metadata_without_end(tmp_path: Path) -> None:
    settings = parquet_pair(tmp_path)
    table = pq.read_table(settings.train).replace_schema_metadata({"huggingface": "[" * 100_000})
    pq.write_table(table, settings.train)
    refused(settings, settings.train, "damaged huggingface metadata")


@pytest.mark.filterwarnings("error")
def test_image_folder_passes_over_what_is_no_file(tmp_path: Path) -> None:
    settings = image_folder(tmp_path)
    folder = tmp_path / "train" / "ant"
    os.mkfifo(folder / "pipe.png")
    (folder / "loop.png").symlink_to(tmp_path)
    (folder / "device.png").symlink_to("/dev/zero")
    (tmp_path / "train" / "itself").symlink_to(tmp_path / "train" / "itself")
    assert load_dataset(settings).train_labels.tolist() == [0, 0, 1, 1]


def test_names_that_are_no_utf_8_are_shown_as_they_can_be(tmp_path: Path) -> None:
    settings = image_folder(tmp_path)
    (tmp_path / "train" / "ant" / os.fsdecode(b"\xff\n.png")).write_bytes(b"no image")
    with pytest.raises(DataError, match="not a readable image") as caught:
        load_dataset(settings)
    assert str(caught.value).isprintable()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("chunk", ["iCCP", "zTXt", "iTXt"])
def test_bombs_beside_the_pixels(tmp_path: Path, chunk: str) -> None:
    """Text and colour profiles that unfold a thousandfold: passed over or refused, never unfolded whole."""
    bomb = zlib.compress(bytes(1 << 26), 9)
    head = {"iCCP": b"x\0\0", "zTXt": b"x\0\0", "iTXt": b"x\0\1\0\0\0"}[chunk]
    body = chunk.encode() + head + bomb
    content = GOOD[:33] + struct.pack(">I", len(head + bomb)) + body + struct.pack(">I", zlib.crc32(body)) + GOOD[33:]
    tracemalloc.start()
    with contextlib.suppress(DataError):
        decode(content, "x")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 24


# --- arrays of other names --------------------------------------------------------------------------------

PIXELS, LABELS = random_pixels(6, 5, 4, 3), np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    "names",
    [
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("trainx", "trainy", "testx", "testy"),
        ("train_data", "train_targets", "test_data", "test_targets"),
        ("images_train", "labels_train", "images_test", "labels_test"),
    ],
)
@pytest.mark.parametrize("layout", ["last", "first", "grey"])
def test_npz_of_other_names_and_layouts(tmp_path: Path, names: tuple[str, ...], layout: str) -> None:
    pixels = {"last": PIXELS, "first": PIXELS.transpose(0, 3, 1, 2), "grey": PIXELS[:, :, :, 0]}[layout]
    contents = (pixels, LABELS, pixels[::-1][:3], LABELS[::-1][:3])
    # A third split, as MedMNIST has, is passed over.
    np.savez(tmp_path / "a.npz", **dict(zip(names, contents, strict=True)), val_images=pixels, val_labels=LABELS)
    dataset = load_dataset(Npz(source="npz", path=str(tmp_path / "a.npz")))
    expected = PIXELS.transpose(0, 3, 1, 2)[:, : 1 if layout == "grey" else 3]
    assert np.array_equal(dataset.train_images.numpy(), expected)
    assert np.array_equal(dataset.test_images.numpy(), expected[::-1][:3])
    assert dataset.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert dataset.test_labels.tolist() == [2, 1, 0]


@pytest.mark.parametrize("split", ["val", "valid", "validation"])
def test_npz_without_a_test_split_has_the_one_for_validation(tmp_path: Path, split: str) -> None:
    path, contents = tmp_path / "a.npz", (PIXELS, LABELS, PIXELS[::-1][:3], LABELS[::-1][:3])
    np.savez(path, **dict(zip(("x_train", "y_train", f"x_{split}", f"y_{split}"), contents, strict=True)))
    for settings in (source_at(path), Npz(source="npz", path=str(path))):
        dataset = load_dataset(settings)
        assert np.array_equal(dataset.test_images.numpy(), PIXELS[::-1][:3].transpose(0, 3, 1, 2))
        assert dataset.test_labels.tolist() == [2, 1, 0]


def test_npz_arrays_are_named_where_they_could_be_several(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays = {"train_images": PIXELS, "train_data": PIXELS[::-1], "ytrain": LABELS, "a": PIXELS[:3], "b": LABELS[:3]}
    np.savez(path, **arrays)
    settings = Npz(source="npz", path=str(path))
    refused(settings, path, "several arrays that could be x_train", "arrays: [train images")
    named = settings.model_copy(update={"arrays": ("train_data", "ytrain", "a", "b")})
    assert np.array_equal(load_dataset(named).train_images.numpy(), PIXELS[::-1].transpose(0, 3, 1, 2))
    wrong = settings.model_copy(update={"arrays": ("train_data", "ytrain", "a", "c")})
    refused(wrong, path, "no array c", "correct arrays in the config")
