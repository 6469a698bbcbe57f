"""Datasets as their authors publish them: idx, MATLAB, TinyImageNet and WebDataset, written here byte by byte."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image

from poisonlab.config.data.idx import Idx
from poisonlab.config.data.svhn import Svhn
from poisonlab.config.data.tiny_imagenet import TinyImageNet
from poisonlab.config.data.webdataset import WebDataset
from poisonlab.config.datasets import DatasetSettings
from poisonlab.data.sources import load_dataset
from poisonlab.errors import DataError

FASHION = Path("/usr/share/dataset-fashion-mnist")
Pixels = NDArray[np.uint8]


def pixels(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def png(image: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def refused(settings: DatasetSettings, *words: object) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(settings)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message, message


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


# --- idx --------------------------------------------------------------------------------------------------


def idx(values: Pixels, kind: int = 8) -> bytes:
    header = struct.pack(">HBB", 0, kind, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + b"".join(bytes([value]) for value in values.flatten().tolist())


def idx_folder(root: Path, packed: bool = False, dot: bool = False) -> Idx:
    for split, count in (("train", 6), ("t10k", 3)):
        for kind, values in (
            ("images-idx3", pixels(count, 5, 4, seed=count)),
            ("labels-idx1", (np.arange(count) % 3).astype(np.uint8)),
        ):
            name = f"{split}-{kind.replace('-', '.') if dot else kind}-ubyte"
            content = idx(values)
            (root / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    return Idx(source="idx", root=str(root))


@pytest.mark.parametrize(("packed", "dot"), [(False, False), (True, False), (False, True)])
def test_idx_pixels(tmp_path: Path, packed: bool, dot: bool) -> None:
    settings = idx_folder(tmp_path, packed, dot)
    assert sorted(map(Path, settings.files)) == sorted(tmp_path.iterdir())
    dataset = load_dataset(settings)
    assert np.array_equal(dataset.train_images.numpy(), pixels(6, 5, 4, seed=6)[:, None])
    assert np.array_equal(dataset.test_images.numpy(), pixels(3, 5, 4, seed=3)[:, None])
    assert dataset.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert dataset.class_names == ("0", "1", "2")


def test_idx_prefers_what_is_unpacked_and_knows_packed_files_by_their_content(tmp_path: Path) -> None:
    settings = idx_folder(tmp_path)
    plain = load_dataset(settings)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8bcut")
    assert load_dataset(settings).train_images.equal(plain.train_images)
    edit(tmp_path / "train-images-idx3-ubyte", gzip.compress)
    assert load_dataset(settings).train_images.equal(plain.train_images)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("train-images-idx3-ubyte", lambda data: data[:-1], "ends after 119 of 120 values"),
        ("train-images-idx3-ubyte", lambda data: data + b"x", "goes on after the last of 120 values"),
        ("train-images-idx3-ubyte", lambda data: data[:7], "is no idx file of 3 dimensions"),
        ("train-images-idx3-ubyte", lambda data: idx(pixels(6)), "is no idx file of 3 dimensions"),
        ("train-images-idx3-ubyte", lambda data: png(pixels(4, 4, 3)), "3 dimensions but a PNG image"),
        ("train-images-idx3-ubyte", lambda data: idx(pixels(6, 5, 4), 13), "type 13, not unsigned bytes"),
        ("train-labels-idx1-ubyte", lambda data: idx(pixels(5)), "5 labels for 6 images"),
        ("t10k-labels-idx1-ubyte", lambda data: gzip.compress(data)[:20], "is damaged"),
        ("t10k-images-idx3-ubyte", lambda data: data[:4] + b"\x7f\xff\xff\xff" * 3, "claims"),
        ("train-labels-idx1-ubyte", lambda data: idx(np.array([1, 2, 1, 2, 1, 2], np.uint8)), "('0')"),
    ],
)
def test_idx_refuses(tmp_path: Path, name: str, change: Callable[[bytes], bytes], words: str) -> None:
    settings = idx_folder(tmp_path)
    edit(tmp_path / name, change)
    refused(settings, tmp_path, words)


def test_idx_packed_to_a_tiny_fraction_is_not_unfolded(tmp_path: Path) -> None:
    settings = idx_folder(tmp_path)
    header = struct.pack(">HBB3I", 0, 8, 3, 1 << 14, 1 << 9, 1 << 9)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(gzip.compress(header + bytes(1 << 20)))
    refused(settings, "train-images-idx3-ubyte", "claims 4294967296 values")


def test_idx_refuses_a_missing_file(tmp_path: Path) -> None:
    settings = idx_folder(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    refused(settings, tmp_path / "t10k-labels-idx1-ubyte", "missing")


@pytest.mark.skipif(not FASHION.is_dir(), reason="the package dataset-fashion-mnist is not installed")
def test_fashion_mnist_as_debian_ships_it() -> None:
    dataset = load_dataset(Idx(source="idx", root=str(FASHION)))
    assert dataset.train_images.shape == (60_000, 1, 28, 28)
    assert dataset.test_labels.bincount().tolist() == [1000] * 10
    # The mean and deviation that its users normalise with.
    assert dataset.mean[0] == pytest.approx(0.2860, abs=1e-4)
    assert dataset.std[0] == pytest.approx(0.3530, abs=1e-4)


# --- SVHN -------------------------------------------------------------------------------------------------


def svhn_folder(root: Path, compressed: bool = True, **changes: Any) -> Svhn:
    """Labels 10, 1, 2, ..., 9, 10, as published; ``changes`` to the training file's variables."""
    for split, count in (("train", 11), ("test", 10)):
        content: dict[str, Any] = {
            "X": pixels(count, 5, 4, 3, seed=count).transpose(1, 2, 3, 0),
            "y": np.array([[10, *range(1, 10), 10][place] for place in range(count)], np.uint8)[:, None],
        }
        content |= changes if split == "train" else {}
        kept = {name: value for name, value in content.items() if value is not None}
        scipy.io.savemat(root / f"{split}_32x32.mat", kept, do_compression=compressed)
    return Svhn(source="svhn", root=str(root))


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kind", ["u1", "f8", "i4"])
def test_svhn_pixels_and_the_digit_zero(tmp_path: Path, compressed: bool, kind: str) -> None:
    labels = np.array([10, *range(1, 10), 10], kind)[:, None]
    settings = svhn_folder(tmp_path, compressed, y=labels)
    assert settings.files == (str(tmp_path / "train_32x32.mat"), str(tmp_path / "test_32x32.mat"))
    dataset = load_dataset(settings)
    assert np.array_equal(dataset.train_images.numpy(), pixels(11, 5, 4, 3, seed=11).transpose(0, 3, 1, 2))
    assert dataset.train_labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert dataset.test_labels.tolist() == list(range(10))
    assert dataset.class_names == tuple("0123456789")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"X": None}, "has no array X of numbers"),
        ({"y": None}, "has no array y of numbers"),
        ({"X": np.zeros((5, 4, 3, 11))}, "X is not (H, W, 3, N) uint8"),
        ({"X": pixels(11, 5, 4, 3)}, "X is not (H, W, 3, N) uint8"),
        ({"y": np.arange(1, 10)}, "y is not (11, 1) of labels 1 to 10"),
        ({"y": np.arange(2, 13)}, "y is not (11, 1) of labels 1 to 10"),
        ({"y": np.full(11, 0.5)}, "y is not (11, 1) of labels 1 to 10"),
        ({"X": {"a": 1}}, "has no array X of numbers"),
        ({"X": np.array([[1, "a"]], object)}, "has no array X of numbers"),
        ({"X": pixels(5, 4, 3, 11) + 1j}, "has no array X of numbers"),
        ({"y": np.full((11, 1), 3)}, "9 of 10 classes have no training image"),
    ],
)
def test_svhn_refuses(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    refused(svhn_folder(tmp_path, **changes), tmp_path, words)


@pytest.mark.parametrize("cut", [4, 127, 300, -3])
def test_svhn_refuses_a_damaged_file(tmp_path: Path, cut: int) -> None:
    settings = svhn_folder(tmp_path)
    edit(tmp_path / "test_32x32.mat", lambda data: data[:cut])
    refused(settings, tmp_path / "test_32x32.mat", "download it again")


def test_svhn_refuses_what_claims_too_much_and_other_files(tmp_path: Path) -> None:
    settings = svhn_folder(tmp_path, compressed=False)
    # The shape of X stands behind the header, a tag, the flags and the tag of the shape.
    edit(tmp_path / "train_32x32.mat", lambda data: data[:160] + struct.pack("<2i", 1 << 15, 1 << 15) + data[168:])
    refused(settings, "train_32x32.mat", "is damaged")
    bomb = zlib.compress(bytes(1 << 29))
    edit(tmp_path / "train_32x32.mat", lambda data: data[:128] + struct.pack("<2I", 15, len(bomb)) + bomb)
    refused(settings, "train_32x32.mat", "is damaged")
    edit(tmp_path / "train_32x32.mat", lambda data: b"\x89HDF\r\n\x1a\n" + data)
    refused(settings, "train_32x32.mat", "is no MATLAB file of version 5 but an HDF5 file")
    (tmp_path / "train_32x32.mat").unlink()
    refused(settings, "train_32x32.mat", "is missing")


# --- TinyImageNet -----------------------------------------------------------------------------------------

WNIDS = ("n02124075", "n01443537", "n01629819")


def tiny_files() -> dict[str, bytes]:
    """The files of the layout; wnids.txt is not in order, and val_annotations.txt is not in that of the names."""
    files = {"wnids.txt": "\n".join(WNIDS).encode(), "words.txt": b"n01443537\tgoldfish, Carassius auratus\n"}
    for place, wnid in enumerate(WNIDS):
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b"x\t0\t0\t9\t9\n"
        for number in range(2):
            files[f"train/{wnid}/images/{wnid}_{number}.JPEG"] = png(pixels(6, 5, 3, seed=10 * place + number))
    for number in range(4):
        files[f"val/images/val_{number}.JPEG"] = png(pixels(6, 5, 3, seed=100 + number))
    lines = [f"val_{number}.JPEG\t{WNIDS[number % 3]}\t0\t0\t9\t9\n" for number in (2, 0, 1, 3)]
    files["val/val_annotations.txt"] = "".join(lines).encode()
    files["test/images/test_0.JPEG"] = b"has no class"
    return files


def tiny(root: Path, zipped: bool, **changes: bytes | None) -> TinyImageNet:
    files = {name: content for name, content in {**tiny_files(), **changes}.items() if content is not None}
    if zipped:
        root = root / "tiny-imagenet-200.zip"
        with zipfile.ZipFile(root, "w") as archive:
            archive.writestr("tiny-imagenet-200/", b"")
            for name, content in files.items():
                archive.writestr(f"tiny-imagenet-200/{name}", content)
        return TinyImageNet(source="tiny-imagenet", root=str(root))
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return TinyImageNet(source="tiny-imagenet", root=str(root))


@pytest.mark.parametrize("zipped", [True, False])
def test_tiny_imagenet_pixels_and_order(tmp_path: Path, zipped: bool) -> None:
    settings = tiny(tmp_path, zipped)
    dataset = load_dataset(settings)
    assert dataset.class_names == tuple(sorted(WNIDS))
    assert dataset.train_labels.tolist() == [0, 0, 1, 1, 2, 2]
    expected = [pixels(6, 5, 3, seed=seed).transpose(2, 0, 1) for seed in (10, 11, 20, 21, 0, 1)]
    assert np.array_equal(dataset.train_images.numpy(), np.stack(expected))
    expected = [pixels(6, 5, 3, seed=100 + seed).transpose(2, 0, 1) for seed in (2, 0, 1, 3)]
    assert np.array_equal(dataset.test_images.numpy(), np.stack(expected))
    assert dataset.test_labels.tolist() == [1, 2, 0, 2]
    if zipped:
        assert (settings.files, settings.folder_files) == ((settings.root,), ())
    else:
        read = {Path(file).relative_to(tmp_path).as_posix() for file in settings.folder_files}
        assert settings.files == ()
        assert read == {
            name for name in tiny_files() if not name.startswith(("test/", "words", "train/n0")) or "/images/" in name
        } - {"test/images/test_0.JPEG"}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"wnids.txt": None}, "wnids.txt"),
        ({"wnids.txt": b""}, "names no class"),
        ({"wnids.txt": "\n".join((*WNIDS, "n9")).encode()}, "train/n9/images has no images"),
        ({"wnids.txt": "\n".join(WNIDS[:2]).encode()}, "which wnids.txt does not name"),
        ({"val/images/val_1.JPEG": None}, "names val_1.JPEG, which is missing"),
        ({"val/images/val_9.JPEG": b""}, "does not name val/images/val_9.JPEG"),
        ({"val/val_annotations.txt": b"\xff"}, "not UTF-8"),
        ({"val/images/val_1.JPEG": b"text"}, "val/images/val_1.JPEG is not a readable image"),
        ({f"train/{WNIDS[0]}/images/{WNIDS[0]}_0.JPEG": png(pixels(6, 6, 3))}, "6x6 pixels"),
    ],
)
def test_tiny_imagenet_refuses(tmp_path: Path, zipped: bool, changes: dict[str, Any], words: str) -> None:
    refused(tiny(tmp_path, zipped, **changes), tmp_path, words)


def test_tiny_imagenet_refuses_other_archives(tmp_path: Path) -> None:
    settings = tiny(tmp_path, zipped=True)
    edit(Path(settings.root), lambda data: data[:-30])
    refused(settings, settings.root, "is damaged")
    edit(Path(settings.root), lambda data: gzip.compress(data))
    refused(settings, settings.root, "is no zip archive but a file packed with gzip")
    refused(settings.model_copy(update={"root": str(tmp_path / "x")}), tmp_path / "x", "missing or not a folder")


# --- WebDataset -------------------------------------------------------------------------------------------

Members = list[tuple[str, bytes]]


def tar(path: Path, members: Members) -> str:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


def example(key: int, label: int | str, ending: str = "cls") -> Members:
    image = ("png", png(pixels(4, 6, 3, seed=key)))
    text = str(label) if ending == "cls" else json.dumps(label if isinstance(label, str) else {"id": 7, "label": label})
    return [(f"a/{key:04d}.{kind}", content) for kind, content in (image, (ending, text.encode()))]


def shards(root: Path, ending: str = "cls", **changes: Any) -> WebDataset:
    """Two shards of two images and one of three; labels 0 1, 2 0 and 0 1 2."""
    for name, keys, labels in (("train-000000", (0, 1), (0, 1)), ("train-000001", (2, 3), (2, 0))):
        members = [member for key, label in zip(keys, labels, strict=True) for member in example(key, label, ending)]
        tar(root / f"{name}.tar", [*members, ("notes.txt", b"passed over"), ("a/.hidden.png", b"")])
    tar(root / "test-000000.tar", [member for key in range(3) for member in example(10 + key, key, ending)][::-1])
    return WebDataset(source="webdataset", train=str(root), test=str(root), **changes)


@pytest.mark.parametrize("ending", ["cls", "json"])
def test_webdataset_pixels(tmp_path: Path, ending: str) -> None:
    settings = shards(tmp_path, ending)
    names = ("train-000000", "train-000001", "test-000000")
    assert settings.files == tuple(str(tmp_path / f"{name}.tar") for name in names)
    dataset = load_dataset(settings)
    expected = np.stack([pixels(4, 6, 3, seed=key).transpose(2, 0, 1) for key in range(4)])
    assert np.array_equal(dataset.train_images.numpy(), expected)
    assert dataset.train_labels.tolist() == [0, 1, 2, 0]
    # The order is that of the archive.
    assert dataset.test_labels.tolist() == [2, 1, 0]


def test_webdataset_class_names(tmp_path: Path) -> None:
    settings = shards(tmp_path, class_names=("cat", "dog", "elk"))
    assert load_dataset(settings).class_names == ("cat", "dog", "elk")
    tar(tmp_path / "train-000001.tar", [*example(2, "elk"), *example(3, "dog", "json")])
    assert load_dataset(settings).train_labels.tolist() == [0, 1, 2, 1]
    refused(shards_of(tmp_path, [*example(2, "yak"), *example(3, 0)]), "0002.cls", "no label", "class_names")


@pytest.mark.parametrize("told", [b'{"caption": "a cat"}', b'{"label": 1}'])
def test_webdataset_takes_the_label_from_cls_and_not_from_what_else_json_says(tmp_path: Path, told: bytes) -> None:
    members = [("a/0002.json", told), *example(2, 2), *example(3, 0), ("a/0003.json", told)]
    assert load_dataset(shards_of(tmp_path, members)).train_labels.tolist() == [0, 1, 2, 0]


def shards_of(root: Path, members: Members, **changes: Any) -> WebDataset:
    settings = shards(root, **changes)
    tar(root / "train-000001.tar", members)
    return settings


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([*example(2, 2), *example(3, 0)[:1]], "example 'a/0003' has no label"),
        ([*example(2, 2), *example(3, 0)[1:]], "example 'a/0003' has no image"),
        ([*example(2, 2), *example(2, 2)[:1]], "'a/0002.png' is the second of its example"),
        ([*example(2, 2), ("a/0002.jpg", b"x")], "'a/0002.jpg' is the second of its example"),
        ([("readme.md", b"x")], "holds no images with labels"),
        ([("1.png", b"x"), ("1.cls", b"0")], "'1' is not a readable image"),
        ([("1.png", b"x"), ("1.cls", b"-1")], "holds no label 0, 1, 2"),
        ([("1.png", b"x"), ("1.cls", b"\xff")], "is damaged (not cls)"),
        ([("1.png", b"x"), ("1.json", b"[" * 9000)], "is damaged (not json)"),
        ([("1.png", b"x"), ("1.json", b"{}")], "example '1' has no label (.cls, or .json with label)"),
        ([("1.png", b"x"), ("1.json", b'{"label": null}')], "holds no label 0, 1, 2, ... as label"),
        ([("1.png", b"x"), ("1.cls", b"0" * (1 << 21))], "more than any image or label"),
        ([("1.png", png(pixels(5, 6, 3))), ("1.cls", b"0")], "images of (3, 5, 6) but"),
        ([*example(2, 2), *example(3, 900)], "renumber"),
    ],
)
def test_webdataset_refuses(tmp_path: Path, members: Members, words: str) -> None:
    refused(shards_of(tmp_path, members), tmp_path, words)


@pytest.mark.parametrize("cut", [700, 1100, 2200, -9 * 1024])
def test_webdataset_notices_what_is_cut_off(tmp_path: Path, cut: int) -> None:
    settings = shards(tmp_path)
    edit(tmp_path / "train-000001.tar", lambda data: data[:cut])
    refused(settings, "train-000001.tar", "")


def test_webdataset_notices_a_damaged_header_which_tarfile_takes_for_the_end(tmp_path: Path) -> None:
    settings = shards(tmp_path)
    path = tmp_path / "train-000001.tar"
    place = path.read_bytes().index(b"a/0003.png")
    edit(path, lambda data: data[:place] + b"X" + data[place + 1 :])
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["a/0002.png", "a/0002.cls"]
    refused(settings, path, "is damaged or cut off")


def test_webdataset_refuses_packed_archives(tmp_path: Path) -> None:
    settings = shards(tmp_path)
    edit(tmp_path / "test-000000.tar", gzip.compress)
    refused(settings, "test-000000.tar", "is no tar archive but a file packed with gzip: unpack it")


def test_webdataset_reads_no_links(tmp_path: Path) -> None:
    settings = shards(tmp_path)
    with tarfile.open(tmp_path / "train-000001.tar", "w") as archive:
        link = tarfile.TarInfo("a/0002.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        label = tarfile.TarInfo("a/0002.cls")
        label.size = 1
        archive.addfile(label, io.BytesIO(b"0"))
    refused(settings, "example 'a/0002' has no image")
