"""Every format: what we write comes back, what others write is read, and contradictions end in one line."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_poisons import HEIGHT, WIDTH, as_pil, dataset, goal, pil_pairs, pixels, poison_set, refusal
from PIL import Image

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.errors import DataError, PoisonlabError
from poisonlab.interchange import png_folder
from poisonlab.interchange.benchmark import read_benchmark, write_benchmark
from poisonlab.interchange.imported import ImportedPoisons, complete, read_poisons
from poisonlab.interchange.parts import to_levels
from poisonlab.interchange.png_folder import read_png_folder, write_png_folder
from poisonlab.interchange.setups import read_setups
from poisonlab.interchange.tensors import read_tensors, write_tensors_pth

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


def same(first: torch.Tensor | None, second: torch.Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    return first.dtype == second.dtype and torch.equal(first, second)


def agrees(found: ImportedPoisons, written: PoisonSet, images: torch.Tensor) -> None:
    order = torch.tensor([written.indices.tolist().index(row) for row in found.indices.tolist()])
    assert same(found.images, images[order])
    assert same(found.labels, written.labels[order])
    assert same(found.indices, written.indices[order])
    assert same(found.targets, written.goal.targets)
    assert same(found.target_labels, written.goal.target_labels)
    assert found.unpatched_targets is None


def refused(read: Callable[[], object], *words: object) -> str:
    with pytest.raises(DataError) as caught:
        read()
    return refusal(caught, *words)


FLOATS = pixels(3, 3).float() / 255 * 0.9


# --- round trips ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("images", [pixels(3, 3), FLOATS], ids=["uint8", "float"])
def test_round_trips(tmp_path: Path, targets: int, images: torch.Tensor) -> None:
    poisons = poison_set(targets, images=images)
    write_benchmark(tmp_path / "benchmark", poisons)
    write_png_folder(tmp_path / "png", poisons)
    write_tensors_pth(tmp_path / "poisons.pth", poisons)
    poisons.save(tmp_path / "own.safetensors")
    for name in ("benchmark", "png", "poisons.pth", "own.safetensors"):
        found = read_poisons(tmp_path / name)
        agrees(found, poisons, to_levels(images))
        expected = None if name == "benchmark" else poisons.goal.adversarial_labels
        # One label stands for all targets in a file.
        assert found.adversarial_labels is None if expected is None else set(found.adversarial_labels.tolist()) == {1}
    assert sorted(os.listdir(tmp_path)) == ["benchmark", "own.safetensors", "png", "poisons.pth"]
    files = ["base_indices.pickle", "poisons.pickle", "source.pickle", "target.pickle"]
    assert sorted(os.listdir(tmp_path / "benchmark")) == [name for name in files if targets > 1 or "source" not in name]


@pytest.mark.parametrize("wanted", [None, [1, 3, 1]], ids=["no goal", "a label for each target"])
@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_png_folder, "a"),
        (write_tensors_pth, "a.pth"),
        (lambda path, poisons: poisons.save(path), "a.safetensors"),
    ],
)
def test_goals_come_back(tmp_path: Path, write: Any, name: str, wanted: list[int] | None) -> None:
    aim = None if wanted is None else goal(3, adversarial_labels=torch.tensor(wanted))
    write(tmp_path / name, poison_set(goal=aim))
    found = read_poisons(tmp_path / name)
    assert same(found.targets, None if aim is None else aim.targets)
    assert same(found.target_labels, None if aim is None else aim.target_labels)
    assert same(found.adversarial_labels, None if aim is None else aim.adversarial_labels)


@pytest.mark.parametrize("targets", [1, 12])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("backdoor", [False, True], ids=["targets", "backdoor"])
@pytest.mark.parametrize(
    ("write", "name"), [(write_benchmark, "a"), (write_png_folder, "a"), (write_tensors_pth, "a.pth")]
)
def test_exports_are_the_same_attack(
    tmp_path: Path, write: Any, name: str, backdoor: bool, channels: int, targets: int
) -> None:
    """Grey or not, with the targets that lack the trigger: whoever imports it gets the same poisons and goal."""
    data = dataset()
    if channels == 1:
        data = replace(
            data,
            train_images=data.train_images[:, :1],
            test_images=data.test_images[:, :1],
            mean=data.mean[:1],
            std=data.std[:1],
        )
    indices = torch.tensor([5, 13, 29])
    wanted = PoisonSet(
        indices=indices,
        images=data.train_images[indices] ^ 1,
        labels=torch.tensor([1, 1, 1]),
        base_images=data.train_images[indices],
        goal=goal(
            targets,
            targets=pixels(targets, 4)[:, :channels],
            untriggered=pixels(targets, 5)[:, :channels] if backdoor else None,
        ),
    )
    write(tmp_path / name, wanted)
    found = complete(read_poisons(tmp_path / name), data)
    assert found.goal is not None
    assert wanted.goal is not None
    for part in ("indices", "images", "labels", "base_images"):
        assert same(getattr(found, part), getattr(wanted, part)), part
    for part in ("targets", "target_labels", "adversarial_labels", "untriggered"):
        assert same(getattr(found.goal, part), getattr(wanted.goal, part)), part


def test_a_benchmark_of_several_labels_comes_back_if_the_adversarial_one_is_given(tmp_path: Path) -> None:
    wanted = poison_set(labels=torch.tensor([1, 3, 1]))
    write_benchmark(tmp_path / "a", wanted)
    refused(lambda: complete(read_poisons(tmp_path / "a"), dataset(), allow_mismatch=True), "2 different labels")
    found = complete(read_poisons(tmp_path / "a"), dataset(), adversarial_label=1, allow_mismatch=True)
    assert same(found.labels, wanted.labels)
    assert same(found.goal.adversarial_labels, wanted.goal.adversarial_labels)


def test_unpatched_targets_must_be_those_of_the_targets(tmp_path: Path) -> None:
    poisons = poison_set(goal=goal(2, untriggered=pixels(2, 5)))
    write_benchmark(tmp_path / "a", poisons)
    (tmp_path / "a" / "unpatched.pickle").write_bytes(pickle.dumps(pil_pairs(pixels(2, 5), [2, 3])))
    refused(lambda: read_benchmark(tmp_path / "a"), "unpatched.pickle", "other labels")
    write_png_folder(tmp_path / "b", poisons)
    (tmp_path / "b" / "unpatched" / "1.png").unlink()
    refused(lambda: read_png_folder(tmp_path / "b"), "unpatched targets")


def test_grey_floats_can_be_normalised(tmp_path: Path) -> None:
    grey = pixels(3, 3)[:, :1]
    torch.save(tensor_dict((grey / 255 - 0.4) / 0.2), tmp_path / "p.pth")
    assert torch.equal(read_poisons(tmp_path / "p.pth", (0.4,), (0.2,)).images, grey)
    refused(lambda: read_poisons(tmp_path / "p.pth", MEAN, STD), "1 channels", "3 values")
    refused(lambda: read_poisons(tmp_path / "p.pth", (0.4,), STD), "mean has 1 values and std 3")


def test_floats_are_rounded_to_the_nearest_level() -> None:
    assert to_levels(torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 254.4 / 255, 1.0])).tolist() == [0, 0, 1, 254, 255]


def test_exports_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    for write, name in [(write_benchmark, "poisons.pickle"), (write_png_folder, "5.png")]:
        for copy in ("a", "b"):
            write(tmp_path / name / copy, poison_set())
        assert (tmp_path / name / "a" / name).read_bytes() == (tmp_path / name / "b" / name).read_bytes()
    write_tensors_pth(tmp_path / "a.pth", poison_set())
    write_tensors_pth(tmp_path / "b.pth", poison_set())
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


def test_the_benchmarks_own_way_of_reading_works(tmp_path: Path) -> None:
    """As poison_test.py and the loaders of FRIENDS and EPIC go about it, and without numpy in the pickles."""
    poisons = poison_set(2)
    write_benchmark(tmp_path / "b", poisons)
    loaded = {file.stem: pickle.loads(file.read_bytes()) for file in (tmp_path / "b").iterdir()}
    assert type(loaded["poisons"][0][0]) is Image.Image
    assert np.array_equal(np.asarray(loaded["poisons"][2][0]), poisons.images[2].permute(1, 2, 0).numpy())
    assert loaded["poisons"][0][1] == 1
    assert np.setdiff1d(np.arange(30), loaded["base_indices"]).size == 27
    assert np.nonzero(np.isin(loaded["base_indices"], np.arange(50)))[0].tolist() == [0, 1, 2]
    assert loaded["target"][1] == loaded["source"][1][1] == 2
    assert len(loaded["target"]) == 2
    assert all(b"numpy" not in file.read_bytes() for file in (tmp_path / "b").iterdir())


@pytest.mark.parametrize("write", [write_benchmark, write_png_folder])
def test_a_folder_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, PoisonSet], None]
) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", poison_set())
    before = sorted(os.listdir(tmp_path / "empty"))
    refused(lambda: write(tmp_path / "empty", poison_set(3)), tmp_path / "empty", "exists already")
    assert sorted(os.listdir(tmp_path / "empty")) == before

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    monkeypatch.setattr(pickle, "dump", full)
    with pytest.raises(PoisonlabError, match=r"disk full while writing .*new: free"):
        write(tmp_path / "new", poison_set())
    assert os.listdir(tmp_path) == ["empty"]
    (tmp_path / "file").write_text("")
    with pytest.raises(PoisonlabError):
        write(tmp_path / "file" / "below", poison_set())


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    appended = poison_set(indices=torch.tensor([-1, 3, -1]))
    two = poison_set(images=pixels(3)[:, :2], base_images=pixels(3)[:, :2], goal=goal(targets=pixels(1)[:, :2]))
    for write in (write_benchmark, write_png_folder):
        refused(lambda write=write: write(tmp_path / "a", appended), "appended", ".pth")
        refused(lambda write=write: write(tmp_path / "a", two), "RGB")
    refused(lambda: write_tensors_pth(tmp_path / "a.pth", two), "RGB")
    for name in ("a", "a.npz", "a.safetensors"):
        refused(lambda name=name: write_tensors_pth(tmp_path / name, poison_set()), tmp_path / name, "must end in .pth")
    other = poison_set(goal=goal(adversarial_labels=torch.tensor([3])))
    refused(lambda: write_benchmark(tmp_path / "a", other), "label 1", "is 3")
    refused(lambda: write_benchmark(tmp_path / "a", poison_set(goal=None)), "needs a target")
    write_tensors_pth(tmp_path / "a.pth", appended)
    assert read_poisons(tmp_path / "a.pth").indices.tolist() == [-1, 3, -1]


def test_what_is_no_poison_is_refused_with_a_list_of_what_would_be(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    refused(lambda: read_poisons(tmp_path / "absent"), tmp_path / "absent", "no file or folder of poisons here")
    for path in (tmp_path, tmp_path / "a.txt"):
        refused(lambda path=path: read_poisons(path), path, "poisons.pickle", "poisons.pth", ".png", ".safetensors")
    write_png_folder(tmp_path / "png", poison_set())
    refused(lambda: read_poisons(tmp_path / "png", MEAN, STD), "leave out mean and std")


# --- the benchmark --------------------------------------------------------------------------------------------


def write_theirs(folder: Path, **parts: Any) -> Path:
    """The benchmark's files by plain pickle."""
    folder.mkdir(exist_ok=True)
    theirs = {
        "poisons": pil_pairs(pixels(3), [1, 1, 1]),
        "base_indices": [4, 0, 9],
        "target": (as_pil(pixels(1, 5)[0]), 2),
    }
    for name, value in {**theirs, **parts}.items():
        if value is not None:
            (folder / f"{name}.pickle").write_bytes(pickle.dumps(value))
    return folder


@pytest.mark.parametrize(
    "indices",
    [
        [4, 0, 9],
        (4, 0, 9),
        np.array([4, 0, 9]),
        np.array([4, 0, 9], dtype=np.int32),
        torch.tensor([4, 0, 9]),
        torch.tensor([4, 0, 9], dtype=torch.int32),
        [np.int64(4), np.int32(0), np.uint8(9)],
        [torch.tensor(4), torch.tensor(0), torch.tensor(9)],
    ],
    ids=lambda value: f"{type(value).__name__}",
)
@pytest.mark.parametrize(
    "label", [1, np.int64(1), torch.tensor(1), np.array(1)], ids=lambda value: type(value).__name__
)
def test_every_producers_indices_and_labels_are_read(tmp_path: Path, indices: Any, label: Any) -> None:
    found = read_benchmark(write_theirs(tmp_path, base_indices=indices, poisons=pil_pairs(pixels(3), [label] * 3)))
    assert same(found.images, pixels(3))
    assert same(found.indices, torch.tensor([4, 0, 9]))
    assert same(found.labels, torch.tensor([1, 1, 1]))
    assert same(found.targets, pixels(1, 5))
    assert same(found.target_labels, torch.tensor([2]))
    assert found.adversarial_labels is None


@pytest.mark.parametrize("kind", ["tensor", "array", "double"])
@pytest.mark.parametrize(
    "start", [[4, 1], (4, 1), np.array([4, 1]), torch.tensor([4, 1])], ids=lambda v: type(v).__name__
)
def test_a_patch_covers_columns_from_startx_and_rows_from_starty(tmp_path: Path, kind: str, start: Any) -> None:
    levels = pixels(1, 9)[0, :, :2, :2]
    patch: Any = levels.float() / 255
    if kind == "array":
        patch = patch.numpy()
    if kind == "double":
        patch = levels.double() / 255
    image = pixels(1, 5)[0]
    found = read_benchmark(write_theirs(tmp_path, target=(as_pil(image), 2, patch, start)))
    expected = image.clone()
    expected[:, 1:3, 4:6] = levels
    assert same(found.targets, expected[None])
    assert same(found.unpatched_targets, image[None])


def test_a_patch_is_cut_off_to_levels_as_the_benchmark_does(tmp_path: Path) -> None:
    patch = torch.full((3, 1, 1), 10.9 / 255)
    found = read_benchmark(write_theirs(tmp_path, target=(as_pil(pixels(1)[0]), 2, patch, [0, 0])))
    assert found.targets is not None
    assert found.targets[0, :, 0, 0].tolist() == [10, 10, 10]


PATCH = torch.full((3, 2, 2), 0.5)


@pytest.mark.parametrize(
    ("patch", "start"),
    [
        (PATCH, [WIDTH - 1, 0]),
        (PATCH, [0, HEIGHT - 1]),
        (PATCH, [-1, 0]),
        (PATCH, [0]),
        (PATCH, "ab"),
        (PATCH, [0.5, 0]),
        (PATCH + 1, [0, 0]),
        (PATCH * float("nan"), [0, 0]),
        (PATCH[:1], [0, 0]),
        (PATCH.to(torch.uint8), [0, 0]),
        ([1, 2], [0, 0]),
        (None, [0, 0]),
    ],
)
def test_patches_that_do_not_fit_are_refused(tmp_path: Path, patch: Any, start: Any) -> None:
    folder = write_theirs(tmp_path, target=(as_pil(pixels(1)[0]), 2, patch, start))
    refused(lambda: read_benchmark(folder), folder / "target.pickle", "patch")


def test_sources_are_the_targets_of_a_backdoor(tmp_path: Path) -> None:
    sources = pixels(4, 7)
    found = read_benchmark(write_theirs(tmp_path, source=pil_pairs(sources, [3] * 4)))
    assert same(found.targets, sources)
    assert same(found.target_labels, torch.tensor([3] * 4))
    single = read_benchmark(write_theirs(tmp_path, source=(as_pil(sources[0]), 3)))
    assert same(single.targets, sources[:1])


def test_a_folder_without_target_is_read(tmp_path: Path) -> None:
    found = read_benchmark(write_theirs(tmp_path, target=None))
    assert found.targets is None
    assert found.target_labels is None


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"base_indices": None}, ["base_indices.pickle", "missing"]),
        ({"base_indices": [1, 2]}, ["indices", "3 integers"]),
        ({"base_indices": [1, 2, 2]}, ["training row 2"]),
        ({"base_indices": [1, 2, -3]}, ["-3"]),
        ({"base_indices": [1, 2, 3.5]}, ["entry 2"]),
        ({"base_indices": [1, 2, True]}, ["entry 2"]),
        ({"base_indices": [1, 2, 2**80]}, ["entry 2"]),
        ({"base_indices": np.array([0.5, 1, 2])}, ["base_indices.pickle"]),
        ({"base_indices": torch.zeros(3, 1, dtype=torch.int64)}, ["base_indices.pickle"]),
        ({"base_indices": {"a": 1}}, ["base_indices.pickle"]),
        ({"poisons": []}, ["poisons.pickle"]),
        ({"poisons": 3}, ["poisons.pickle"]),
        ({"poisons": [(1, 2)]}, ["entry 0"]),
        ({"poisons": [as_pil(pixels(1)[0])]}, ["entry 0"]),
        ({"poisons": pil_pairs(pixels(3), [1, 1, -1])}, ["entry 2", "-1"]),
        ({"poisons": pil_pairs(pixels(3), [1, "a", 1])}, ["entry 1"]),
        ({"poisons": [*pil_pairs(pixels(2), [1, 1]), (Image.new("RGB", (3, 4)), 1)]}, ["image 2 is 3x4", "7x5"]),
        ({"poisons": [(Image.new("L", (3, 4)), 1)]}, ["mode L"]),
        ({"target": (Image.new("RGB", (3, 4)), 1)}, ["targets"]),
        ({"target": as_pil(pixels(1)[0])}, ["target.pickle"]),
        ({"target": (as_pil(pixels(1)[0]), 1, PATCH)}, ["target.pickle"]),
        ({"source": []}, ["source.pickle"]),
    ],
)
def test_contradictions_in_a_benchmark_folder(tmp_path: Path, parts: dict[str, Any], words: list[str]) -> None:
    folder = write_theirs(tmp_path, **parts)
    refused(lambda: read_benchmark(folder), folder, *words)


def test_one_image_named_a_million_times_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = as_pil(pixels(1)[0])
    folder = write_theirs(tmp_path, poisons=[(image, 1)] * 2000)
    monkeypatch.setattr("poisonlab.interchange.parts.LARGEST_FILE", 100_000)
    refused(lambda: read_benchmark(folder), "unfolds")


def test_a_hostile_file_among_them_is_not_run(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'hacked'}",)

    for name in ("poisons", "base_indices", "target", "source"):
        folder = write_theirs(tmp_path / name, **{name: [Hostile()]})
        refused(lambda folder=folder: read_poisons(folder), folder / f"{name}.pickle", "posix.system", "nothing in it")
    assert not (tmp_path / "hacked").exists()


# --- setups ---------------------------------------------------------------------------------------------------


def setup_entry(**changes: Any) -> dict[str, Any]:
    entry = {
        "target class": np.int64(4),
        "target index": np.int64(9139),
        "base class": 7,
        "base indices": np.array([30330, 7829]),
    }
    return {**entry, **changes}


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_setups_are_read(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps([setup_entry(), setup_entry(**{"target index": 3})], protocol)
    (tmp_path / "s").write_bytes(data.replace(b"cnumpy._core.", b"cnumpy.core."))
    found = read_setups(tmp_path / "s")
    assert [(one.target_class, one.target_index, one.base_class) for one in found] == [(4, 9139, 7), (4, 3, 7)]
    assert same(found[0].base_indices, torch.tensor([30330, 7829]))


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        [1],
        [{"target class": 1}],
        [setup_entry(**{"base indices": np.array([-1])})],
        [setup_entry(**{"base indices": []})],
        [setup_entry(**{"target index": -1})],
        [setup_entry(**{"base class": "dog"})],
    ],
)
def test_other_files_are_no_setups(tmp_path: Path, content: Any) -> None:
    (tmp_path / "s").write_bytes(pickle.dumps(content))
    refused(lambda: read_setups(tmp_path / "s"), tmp_path / "s")


# --- PNGs -----------------------------------------------------------------------------------------------------


def png_folder_of(folder: Path, names: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, image in zip(names, pixels(len(names)), strict=True):
        (folder / name).parent.mkdir(exist_ok=True)
        as_pil(image).save(folder / name)
    return folder


def test_a_bare_folder_of_pngs_has_rows_and_nothing_else(tmp_path: Path) -> None:
    folder = png_folder_of(tmp_path, ["10.png", "9.PNG", "00011.png"])
    (folder / "readme.txt").write_text("")
    (folder / ".hidden.png").write_text("")
    found = read_poisons(folder)
    assert same(found.indices, torch.tensor([9, 10, 11]))
    assert same(found.images, pixels(3)[[1, 0, 2]])
    assert found.labels is None
    assert found.targets is None
    assert found.adversarial_labels is None


def test_targets_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    found = read_png_folder(png_folder_of(tmp_path, ["1.png", "targets/b.png", "targets/a.png"]))
    assert same(found.targets, pixels(3)[[2, 1]])
    single = read_png_folder(png_folder_of(tmp_path / "single", ["1.png", "target.png"]))
    assert same(single.targets, pixels(2)[1:])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "LA"])
def test_other_modes_are_converted(tmp_path: Path, mode: str) -> None:
    image = as_pil(pixels(1)[0]).convert(mode)
    image.save(tmp_path / "1.png")
    found = read_png_folder(tmp_path)
    assert np.array_equal(found.images[0].permute(1, 2, 0).numpy(), np.asarray(image.convert("RGB")))


def bomb(side: int) -> bytes:
    """A PNG that claims side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_bombs_and_odd_images_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = png_folder_of(tmp_path, ["1.png", "2.png"])
    for data, word in [
        (bomb(100_000), "pixels"),
        (bomb(6_000), "pixels"),
        (b"hello", "not a readable image"),
        (b"", "not"),
    ]:
        (folder / "2.png").write_bytes(data)
        refused(lambda: read_png_folder(folder), folder / "2.png", word)
    Image.new("RGB", (3, 4)).save(folder / "2.png")
    refused(lambda: read_png_folder(folder), folder / "2.png", "3x4", "7x5")
    Image.new("I;16", (WIDTH, HEIGHT)).save(folder / "2.png")
    refused(lambda: read_png_folder(folder), folder / "2.png", "8 bits")
    monkeypatch.setattr(png_folder, "LARGEST_FILE", 150)
    refused(lambda: read_png_folder(folder), "unfolds")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["1.png", "dog.png"], ["dog.png"]),
        (["1.png", "-2.png"], ["-2.png"]),
        (["1.png", "01.png"], ["01.png", "1.png", "same training row"]),
        (["1.png", "9999999999999999.png"], ["9999999999999999.png"]),
        (["target.png"], ["<row>.png"]),
        (["1.png", "target.png", "targets/a.png"], ["both"]),
        (["1.png", "1 .png"], ["1 .png"]),
    ],
)
def test_names_that_are_no_rows_are_refused(tmp_path: Path, names: list[str], words: list[str]) -> None:
    folder = png_folder_of(tmp_path, names)
    refused(lambda: read_png_folder(folder), folder, *words)


def test_numbered_targets_are_in_the_order_of_their_labels(tmp_path: Path) -> None:
    """Sorted as text, target 10 would have the label of target 2."""
    folder = png_folder_of(tmp_path, ["1.png", *(f"targets/{place}.png" for place in range(12))])
    (folder / "poisons.json").write_text(json.dumps({"target_labels": list(range(12))}))
    found = read_png_folder(folder)
    assert same(found.targets, pixels(13)[1:])
    assert found.target_labels.tolist() == list(range(12))


@pytest.mark.parametrize("other", ["2.jpg", "target.JPEG", "targets/b.bmp", "unpatched/a.webp"])
def test_other_images_than_pngs_are_refused(tmp_path: Path, other: str) -> None:
    folder = png_folder_of(tmp_path, ["1.png", other])
    (folder / ".hidden.jpg").write_text("")
    refused(lambda: read_poisons(folder), folder / other, "is no PNG: save poisons and targets as PNG")
    (folder / other).unlink()
    read_poisons(folder)


def test_class_folders_hold_pngs_only(tmp_path: Path) -> None:
    folder = png_folder_of(tmp_path / "dog", ["1.png", "2.jpg"]).parent
    refused(lambda: read_poisons(folder), folder / "dog" / "2.jpg", "is no PNG")


def test_an_unknown_key_of_poisons_json_is_named_with_the_one_that_was_meant(tmp_path: Path) -> None:
    folder = png_folder_of(tmp_path, ["1.png"])
    (folder / "poisons.json").write_text('{"adverserial_label": 1}')
    refused(lambda: read_png_folder(folder), "'adverserial_label' (did you mean 'adversarial_label'?)")


@pytest.mark.parametrize(
    "facts",
    [
        "{",
        "[]",
        "[" * 100_000,
        b"\xff",
        {"labels": {"1": 2}},
        {"labels": {"1": 2, "2": 3, "3": 1}},
        {"labels": {"1": 2, "2": "a"}},
        {"labels": [1, 2]},
        {"labels": {"1": 2, "2": -2}},
        {"adversarial_label": "a"},
        {"adversarial_label": -1},
        {"adversarial_label": True},
        {"target_labels": [1, 2]},
        {"target_labels": "a"},
        {"target_labels": [0.5]},
    ],
)
def test_contradictions_in_poisons_json(tmp_path: Path, facts: Any) -> None:
    folder = png_folder_of(tmp_path, ["1.png", "2.png", "target.png"])
    content = json.dumps(facts) if isinstance(facts, dict) else facts
    (folder / "poisons.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(lambda: read_png_folder(folder), folder)
    (folder / "poisons.json").write_text('{"labels": {"1": 2, "2": 3}, "target_labels": [0], "adversarial_label": 3}')
    found = read_png_folder(folder)
    assert found.labels.tolist() == [2, 3]
    assert (found.target_labels.tolist(), found.adversarial_labels.tolist()) == ([0], [3])


# --- tensors --------------------------------------------------------------------------------------------------


def normalised(images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def tensor_dict(images: torch.Tensor, **changes: Any) -> dict[str, Any]:
    return {"poisons": [(image, 1) for image in images], "indices": [4, 0, 9], **changes}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalised_floats_come_back_as_levels(tmp_path: Path, dtype: torch.dtype) -> None:
    images, target = pixels(3), pixels(1, 5)
    content = tensor_dict(normalised(images).to(dtype), target=(normalised(target)[0], 2), adversarial_label=1)
    torch.save(content, tmp_path / "p.pth")
    found = read_poisons(tmp_path / "p.pth", MEAN, STD)
    assert same(found.images, images)
    assert same(found.targets, target)
    assert (found.target_labels.tolist(), found.adversarial_labels.tolist()) == ([2], [1])
    refused(lambda: read_poisons(tmp_path / "p.pth"), tmp_path / "p.pth", "give mean and std")
    torch.save(tensor_dict(images * 0.9), tmp_path / "levels.pth")
    refused(lambda: read_poisons(tmp_path / "levels.pth"), "not in [0, 1]: divide them by 255")
    refused(lambda: read_poisons(tmp_path / "p.pth", MEAN, (1.0, 1.0, 1.0)), "check mean and std")


def test_floats_between_levels_are_rounded(tmp_path: Path) -> None:
    torch.save(tensor_dict(FLOATS), tmp_path / "p.pth")
    assert same(read_poisons(tmp_path / "p.pth").images, to_levels(FLOATS))
    torch.save(tensor_dict(FLOATS.double() * 255), tmp_path / "p.pth")
    refused(lambda: read_poisons(tmp_path / "p.pth"), "[0, 1]")
    torch.save(tensor_dict(torch.full((3, 3, 2, 2), float("nan"))), tmp_path / "p.pth")
    refused(lambda: read_poisons(tmp_path / "p.pth"), "nan")
    torch.save(tensor_dict(torch.full((3, 3, 2, 2), 1.0005)), tmp_path / "p.pth")
    assert read_poisons(tmp_path / "p.pth").images.unique().tolist() == [255]


@pytest.mark.parametrize("name", ["indices.pth", "base_indices.pth"])
def test_several_files_make_one_set(tmp_path: Path, name: str) -> None:
    torch.save(tensor_dict(pixels(3))["poisons"], tmp_path / "poisons.pth")
    for path in (tmp_path, tmp_path / "poisons.pth"):
        assert read_poisons(path).indices is None
    torch.save(torch.tensor([4, 0, 9]), tmp_path / name)
    torch.save([(image, 2) for image in pixels(2, 5)], tmp_path / "target.pth")
    for path in (tmp_path, tmp_path / "poisons.pth"):
        found = read_poisons(path)
        assert same(found.images, pixels(3))
        assert same(found.indices, torch.tensor([4, 0, 9]))
        assert same(found.targets, pixels(2, 5))
    torch.save(tensor_dict(pixels(3)), tmp_path / "poisons.pth")
    assert same(read_poisons(tmp_path).targets, pixels(2, 5))


def test_labels_in_a_file_of_their_own_are_read(tmp_path: Path) -> None:
    """The poisons would silently keep the labels of their rows."""
    for name, content in (("poisons", pixels(3)), ("indices", [4, 0, 9]), ("labels", torch.tensor([2, 3, 2]))):
        torch.save(content, tmp_path / f"{name}.pth")
    assert read_poisons(tmp_path).labels.tolist() == [2, 3, 2]


def test_files_of_the_old_torch_format_are_read(tmp_path: Path) -> None:
    torch.save(tensor_dict(pixels(3)), tmp_path / "p.pt", _use_new_zipfile_serialization=False)
    assert same(read_poisons(tmp_path / "p.pt").images, pixels(3))


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (MEAN, None),
        (None, STD),
        (MEAN[:2], STD),
        (MEAN, (0.2, 0.0, 0.2)),
        ((125.3, 123.0, 113.9), STD),
        (MEAN, (float("nan"),) * 3),
    ],
)
def test_impossible_normalisations_are_refused(tmp_path: Path, mean: Any, std: Any) -> None:
    torch.save(tensor_dict(normalised(pixels(3))), tmp_path / "p.pth")
    refused(lambda: read_poisons(tmp_path / "p.pth", mean, std))


def test_uint8_cannot_be_normalised(tmp_path: Path) -> None:
    torch.save(tensor_dict(pixels(3)), tmp_path / "p.pth")
    refused(lambda: read_poisons(tmp_path / "p.pth", MEAN, STD), "uint8")


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        3,
        {"poisons": 3, "indices": [1]},
        {"poisons": [], "indices": []},
        tensor_dict(pixels(3), labels=[1, 1, 1]),
        tensor_dict(pixels(3), idx=[1, 2, 3]),
        tensor_dict(pixels(3), delta=torch.zeros(3, 3, 5, 7)),
        tensor_dict(pixels(3), indices=[1, 2]),
        tensor_dict(pixels(3), indices=[1, 1, 2]),
        tensor_dict(pixels(3), adversarial_label=1.5),
        tensor_dict(pixels(3), target=3),
        tensor_dict(pixels(3), target=(pixels(1)[0, :, :2], 1)),
        tensor_dict(pixels(3).int()),
        tensor_dict(pixels(3)[:, :2]),
        tensor_dict(pixels(3).permute(0, 2, 3, 1)),
        tensor_dict(pixels(3).float().to_sparse()),
        tensor_dict(torch.zeros(3, 3, 0, 2)),
        {"poisons": [(pixels(1)[0], 1), (pixels(1)[0] / 255, 1)], "indices": [1, 2]},
        {"poisons": [(pixels(1)[0], torch.tensor([1]))], "indices": [1]},
    ],
)
def test_contradictions_among_tensors(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "p.pth")
    refused(lambda: read_tensors(tmp_path / "p.pth"), tmp_path / "p.pth")


def test_an_image_that_claims_terabytes_is_refused(tmp_path: Path) -> None:
    torch.save(tensor_dict(torch.zeros(1, dtype=torch.uint8).expand(3, 3, 1_000_000, 1_000_000)), tmp_path / "p.pth")
    refused(lambda: read_poisons(tmp_path / "p.pth"), "unfolds")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pth_is_not_run(tmp_path: Path, zipped: bool) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'hacked'}",)

    torch.save(tensor_dict(pixels(3), extra=Hostile()), tmp_path / "p.pth", _use_new_zipfile_serialization=zipped)
    refused(lambda: read_poisons(tmp_path / "p.pth"), tmp_path / "p.pth", "nothing in it was run")
    assert not (tmp_path / "hacked").exists()


def test_damaged_and_packed_pth_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.pth"
    torch.save(tensor_dict(pixels(3)), path)
    whole = path.read_bytes()
    for data in (b"", b"hello", whole[: len(whole) // 2], whole[:-30], whole[:100] + whole[300:]):
        path.write_bytes(data)
        refused(lambda: read_poisons(path), path)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", b"\0" * 100_000)
    path.write_bytes(packed.getvalue())
    monkeypatch.setattr("poisonlab.interchange.file_content.LARGEST_FILE", 50_000)
    refused(lambda: read_poisons(path), "unfolds")


ODD_TENSORS: dict[str, Callable[[], torch.Tensor]] = {
    "sparse": lambda: torch.ones(3, dtype=torch.int64).to_sparse(),
    "sparse rows": lambda: torch.ones(3, 3).to_sparse_csr(),
    "without content": lambda: torch.ones(3, dtype=torch.int64, device="meta"),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
    "endless": lambda: torch.ones(1, dtype=torch.int64).expand(1 << 40),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", ["indices", "poisons", "target", "adversarial_label", "elsewhere"])
@pytest.mark.parametrize("name", ODD_TENSORS)
def test_tensors_that_are_no_plain_memory_are_refused(tmp_path: Path, name: str, place: str) -> None:
    odd = ODD_TENSORS[name]()
    content = {**tensor_dict(pixels(3)), "elsewhere": 0}
    content[place] = [(odd, odd)] * 3 if place in ("poisons", "target") else odd
    torch.save(content, tmp_path / "p.pth")
    refused(lambda: read_poisons(tmp_path / "p.pth"), tmp_path / "p.pth", "save it")


def test_a_small_view_is_fine(tmp_path: Path) -> None:
    grey = pixels(3)[:, :1].expand(-1, 3, -1, -1)
    torch.save(tensor_dict(grey), tmp_path / "p.pth")
    assert torch.equal(read_poisons(tmp_path / "p.pth").images, grey)


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    for name in ("0.png", "poisons.pickle", "poisons.pth", "p.safetensors"):
        for make in (os.mkfifo, lambda path: os.symlink("/dev/zero", path)):
            folder = tmp_path / "poisons"
            folder.mkdir()
            make(folder / name)
            refused(lambda folder=folder: read_poisons(folder))
            refused(lambda path=folder / name: read_poisons(path))
            shutil.rmtree(folder)
