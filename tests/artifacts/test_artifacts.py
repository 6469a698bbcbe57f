"""Artifact files: what goes in comes out, the bytes repeat, and damage is never taken for data."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from poisonlab.artifacts.arrays import read_arrays, write_arrays
from poisonlab.artifacts.keep_list import KeepList, load_keep_list, save_keep_list
from poisonlab.artifacts.noise import load_noise, save_noise
from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.artifacts.tensors import check, read_tensors, write_diverged, write_tensors
from poisonlab.errors import DamagedError, DataError, DivergedError, PoisonlabError
from poisonlab.files import atomic_path, file_digest, read_sealed, write_sealed, write_text
from poisonlab.runtime.clock import Clock
from poisonlab.runtime.remade import REMADE
from poisonlab.runtime.setting_aside import MARKS, deal_with, set_marked_aside

TENSORS = {
    "bytes": torch.arange(12, dtype=torch.uint8).view(3, 4),
    "half": torch.tensor([0.5, -2.0], dtype=torch.float16),
    "brain": torch.tensor([1.5], dtype=torch.bfloat16),
    "long": torch.tensor([-1, 2**40]),
    "scalar": torch.tensor(7),
    "flags": torch.tensor([True, False, True]),
    "nothing": torch.zeros(0, 3),
    "floats": torch.tensor([float("nan"), float("inf"), -0.0]),
}
FEW = {"bytes": torch.arange(6, dtype=torch.uint8).view(2, 3), "long": torch.tensor([-1, 2**40])}
FACTS = {"label": 3, "rate": 0.1, "names": ["a", "é"], "none": None, "nested": {"b": [1, {"c": True}]}}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two sets of tensors agree in names, types, shapes and bits."""
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and torch.equal(
            first[name].contiguous().view(-1).view(torch.uint8), second[name].contiguous().view(-1).view(torch.uint8)
        )
        for name in first
    )


def one_line(message: BaseException, *words: object) -> None:
    assert "\n" not in str(message)
    for word in words:
        assert str(word) in str(message)


# --- tensors --------------------------------------------------------------------------------------------------


def test_tensors_and_facts_come_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.safetensors"
    write_tensors(path, "thing", TENSORS, FACTS)
    tensors, facts = read_tensors(path, "thing")
    assert same(tensors, TENSORS)
    assert facts == FACTS
    assert path.stat().st_mode & 0o777 == 0o644


def test_views_and_gradients_are_written_by_value(tmp_path: Path) -> None:
    whole = torch.arange(24.0).view(4, 6)
    views = {"columns": whole[:, ::2], "turned": whole.T, "tracked": whole.clone().requires_grad_()}
    write_tensors(tmp_path / "a", "thing", views, {})
    tensors, _ = read_tensors(tmp_path / "a", "thing")
    assert all(torch.equal(tensors[name], views[name]) for name in views)


@given(
    st.dictionaries(
        st.text("abcxyz._0", min_size=1, max_size=6),
        st.tuples(st.sampled_from([torch.float32, torch.uint8, torch.int64]), st.lists(st.integers(0, 3), max_size=3)),
        max_size=4,
    ),
    st.dictionaries(st.text(max_size=4), st.one_of(st.none(), st.integers(), st.text(max_size=4)), max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_any_tensors_come_back_and_the_order_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, Any], facts: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    tensors = {name: (torch.rand(shape) * 200).to(dtype) for name, (dtype, shape) in shapes.items()}
    write_tensors(folder / "a", "thing", tensors, facts)
    write_tensors(folder / "b", "thing", dict(reversed(tensors.items())), dict(reversed(facts.items())))
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()
    read, read_facts = read_tensors(folder / "a", "thing")
    assert same(read, tensors)
    assert read_facts == facts


def example_goal(**changes: Any) -> Goal:
    parts: dict[str, Any] = {
        "targets": torch.full((1, 3, 4, 4), 9, dtype=torch.uint8),
        "target_labels": torch.tensor([0]),
        "adversarial_labels": torch.tensor([1]),
    }
    return Goal(**{**parts, **changes})


def example_set(**changes: Any) -> PoisonSet:
    base = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4).to(torch.uint8) + 50
    parts: dict[str, Any] = {
        "indices": torch.tensor([4, -1]),
        "images": base + 3,
        "labels": torch.tensor([1, 1]),
        "base_images": base,
        "goal": example_goal(),
        "diagnostics": {"matching_loss": torch.tensor([[0.5, 0.25]])},
        "facts": {"target_index": 12},
    }
    return PoisonSet(**{**parts, **changes})


WRITE_IN_A_FRESH_PROCESS = """
import sys
from pathlib import Path
import numpy as np, torch
from poisonlab.artifacts.arrays import write_arrays
from poisonlab.artifacts.poison_set import Goal, PoisonSet
base = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4).to(torch.uint8) + 50
PoisonSet(
    indices=torch.tensor([4, -1]), images=base + 3, labels=torch.tensor([1, 1]), base_images=base,
    goal=Goal(torch.full((1, 3, 4, 4), 9, dtype=torch.uint8), torch.tensor([0]), torch.tensor([1])),
    diagnostics={"matching_loss": torch.tensor([[0.5, 0.25]])}, facts={"target_index": 12},
).save(Path(sys.argv[1]))
write_arrays(Path(sys.argv[2]), second=np.arange(3.0), first=np.eye(2))
"""


def test_bytes_repeat_also_in_another_process(tmp_path: Path) -> None:
    example_set().save(tmp_path / "a")
    example_set().save(tmp_path / "b")
    write_arrays(tmp_path / "a.npz", first=np.eye(2), second=np.arange(3.0))
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "1", "TZ": "Asia/Tokyo"}
    outputs = [str(tmp_path / "c"), str(tmp_path / "c.npz")]
    subprocess.run([sys.executable, "-c", WRITE_IN_A_FRESH_PROCESS, *outputs], check=True, env=environment)
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b") == file_digest(tmp_path / "c")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "c.npz").read_bytes()
    with np.load(tmp_path / "c.npz") as arrays:
        assert np.array_equal(arrays["first"], np.eye(2))
        assert np.array_equal(arrays["second"], np.arange(3.0))


# --- damage ---------------------------------------------------------------------------------------------------


def flips(path: Path, positions: range, read: Callable[[], object], intact: Callable[[Any], bool]) -> list[str]:
    """What went wrong when single bits of the file at ``path`` were flipped."""
    original, wrong = path.read_bytes(), []
    for position in positions:
        for mask in (0x01, 0x04):
            damaged = bytearray(original)
            damaged[position] ^= mask
            path.write_bytes(damaged)
            try:
                found = read()
            except DataError as error:
                one_line(error, path)
            except BaseException as error:
                wrong.append(f"byte {position} ^ {mask}: {type(error).__name__}")
            else:
                if not intact(found):
                    wrong.append(f"byte {position} ^ {mask}: read other data")
    path.write_bytes(original)
    return wrong


def header_end(path: Path) -> int:
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


def test_a_flipped_bit_among_the_tensors_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_tensors(path, "thing", TENSORS, FACTS)
    positions = range(header_end(path), path.stat().st_size)
    assert len(positions) > 40
    assert flips(path, positions, lambda: read_tensors(path, "thing"), lambda _: False) == []


def test_a_flipped_bit_in_the_header_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_tensors(path, "thing", FEW, FACTS)

    def intact(found: tuple[dict[str, Tensor], dict[str, Any]]) -> bool:
        return same(found[0], FEW) and found[1] == FACTS

    assert flips(path, range(header_end(path)), lambda: read_tensors(path, "thing"), intact) == []


def test_no_tensor_changes_by_a_flipped_bit_in_the_header(tmp_path: Path) -> None:
    """Names, types, shapes and offsets: whatever is read without complaint holds the very same tensors."""
    path = tmp_path / "a"
    write_tensors(path, "thing", FEW, {})
    wrong = flips(path, range(header_end(path)), lambda: read_tensors(path, "thing"), lambda f: same(f[0], FEW))
    assert [line for line in wrong if "other data" in line] == []


def test_truncation_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_tensors(path, "thing", TENSORS, FACTS)
    whole = path.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError) as caught:
            read_tensors(path, "thing")
        one_line(caught.value, path, "damaged")
    path.write_bytes(whole + b"x")
    with pytest.raises(DataError):
        read_tensors(path, "thing")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(DataError) as caught:
        read_tensors(path, "thing")
    one_line(caught.value, path, "missing")
    write_tensors(path, "network", TENSORS, FACTS)
    with pytest.raises(DataError) as caught:
        read_tensors(path, "poison set")
    one_line(caught.value, path, "network", "poison set")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(DataError):
        read_tensors(path, "thing")
    with pytest.raises(DataError):
        read_tensors(tmp_path, "thing")


# --- sealed JSON and arrays -----------------------------------------------------------------------------------


def test_sealed_json_comes_back_and_its_bytes_repeat(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    content = {**FACTS, "loss": [0.1, float("inf")], "pair": (1, 2)}
    write_sealed(path, content)
    assert read_sealed(path) == {**content, "pair": [1, 2]}
    first = path.read_bytes()
    write_sealed(path, dict(reversed(content.items())))
    assert path.read_bytes() == first
    # Readable without this program: the content with one key more.
    assert json.loads(first).keys() == {*content, "sha256"}


def test_no_flipped_bit_of_sealed_json_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    content = {"final": {"accuracy": 0.859, "success": 1.0}, "history": [{"epoch": 0, "train_loss": 2.5}], "seed": 3}
    write_sealed(path, content)
    # In white space a flipped bit changes no value.
    assert flips(path, range(path.stat().st_size), lambda: read_sealed(path), lambda found: found == content) == []
    number = path.read_bytes().index(b"0.859")
    assert flips(path, range(number, number + 5), lambda: read_sealed(path), lambda _: False) == []


def test_json_that_is_cut_off_missing_or_unsealed_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, FACTS)
    whole = path.read_bytes()
    for damage in (whole[:-4], whole[: len(whole) // 2], b"\xff\xfe{}", b""):
        path.write_bytes(damage)
        with pytest.raises(DamagedError) as caught:
            read_sealed(path)
        one_line(caught.value, path, "damaged")
    for other in ('{"a": 1}', "[1]"):
        path.write_text(other)
        with pytest.raises(DataError) as unsealed:
            read_sealed(path)
        one_line(unsealed.value, path, "no checksum")
        # It may be intact, from another version: nobody sets it aside.
        assert not isinstance(unsealed.value, DamagedError)
    with pytest.raises(DataError, match="missing"):
        read_sealed(tmp_path / "b.json")


def test_no_flipped_bit_of_arrays_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays = {"first": np.eye(2), "names": np.array(["a", "b"])}
    write_arrays(path, **arrays)

    def intact(found: dict[str, Any]) -> bool:
        return found.keys() == arrays.keys() and all(np.array_equal(found[name], arrays[name]) for name in arrays)

    assert flips(path, range(path.stat().st_size), lambda: read_arrays(path), intact) == []
    whole = path.read_bytes()
    for length in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError) as caught:
            read_arrays(path)
        one_line(caught.value, path, "damaged")


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz", "a.metrics.json"])
def test_every_kind_of_artifact_can_be_checked(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write = {
        ".safetensors": lambda: write_tensors(path, "thing", TENSORS, FACTS),
        ".json": lambda: write_sealed(path, FACTS),
    }
    write.get(path.suffix, lambda: write_arrays(path, a=np.arange(9.0)))()
    check(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError):
        check(path)


# --- what becomes of damage -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "renamed"),
    [
        ("results/poisons/own/gm/seed0.safetensors", True),
        ("results/data/own.safetensors", True),
        ("results/data/own-2.safetensors", False),
        ("results/poisons/own-2/gm/seed0.safetensors", False),
        ("results/reference/own/own-trials.csv", False),
        ("imported/0.safetensors", False),
    ],
)
def test_only_what_the_workflow_makes_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, renamed: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(REMADE, "results/data/own.safetensors:results/poisons/own/")
    path = Path(where)
    path.parent.mkdir(parents=True)
    path.write_text("damaged")
    monkeypatch.setenv(MARKS, "results/damaged/own")
    line = deal_with(DamagedError(path, "checksum differs"))
    # While jobs run, the file stays.
    assert path.read_text() == "damaged"
    aside = path.with_name(f"{path.name}.damaged")
    assert set_marked_aside(Path("results/damaged/own")) == ([aside] if renamed else [])
    assert "\n" not in line
    assert f"{where} is damaged (checksum differs)" in line
    assert path.exists() != renamed
    if renamed:
        assert aside.read_text() == "damaged"
        assert "run the workflow again to make it anew" in line
    else:
        assert not aside.exists()
        assert "restore it" in line
    assert set_marked_aside(Path("results/damaged/own")) == []


def test_what_was_made_anew_since_it_was_marked_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REMADE, f"{tmp_path}/")
    monkeypatch.setenv(MARKS, str(tmp_path / "marks"))
    path = tmp_path / "a"
    write_text(path, "damaged")
    deal_with(DamagedError(path, "checksum differs"))
    write_text(path, "renewed")
    assert set_marked_aside(tmp_path / "marks") == []
    assert path.read_text() == "renewed"
    # By hand, outside a workflow, nothing is marked.
    monkeypatch.delenv(REMADE)
    deal_with(DamagedError(path, "checksum differs"))
    assert set_marked_aside(tmp_path / "marks") == []


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_outputs_are_newer_than_inputs_after_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setenv(REMADE, f"{tmp_path}/results/")
    read, data, out = tmp_path / "results/in", tmp_path / "data", tmp_path / "results/out"
    write_text(read, "in")
    write_text(data, "somebody else's")
    write_text(out, "old")
    tomorrow = time.time() + 86_400
    if when == "before":
        os.utime(read, (tomorrow, tomorrow))
    os.utime(data, (tomorrow, tomorrow))
    clock = Clock(["--in", str(read), "--data", str(data), "--out", str(out)])
    write_text(out, "new")
    if when == "meanwhile":
        os.utime(read, (tomorrow, tomorrow))
    clock.bring_to_present()
    assert read.stat().st_mtime <= out.stat().st_mtime <= time.time()
    assert data.stat().st_mtime == tomorrow


def test_a_training_that_diverged_is_met_again_by_who_needs_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_diverged(path, DivergedError("the loss is nan", 2, 5))
    check(path)
    for kind in ("network", "friendly noise", "keep-list"):
        with pytest.raises(DivergedError) as caught:
            read_tensors(path, kind)
        one_line(caught.value, path, "the loss is nan at epoch 2, batch 5")
        assert caught.value.facts() == {"what": "the loss is nan", "epoch": 2, "batch": 5, "source": str(path)}


# --- atomic writing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, problem: BaseException) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(type(problem)), atomic_path(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        assert temporary.parent == path.parent
        raise problem
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_nobody_sees_a_half_written_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("where", ["write_bytes", "fsync", "mkstemp"])
def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, where: str) -> None:
    path = tmp_path / "a"
    write_tensors(path, "thing", TENSORS, FACTS)
    old = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    if where == "write_bytes":
        monkeypatch.setattr(Path, "write_bytes", full)
    else:
        monkeypatch.setattr("os.fsync" if where == "fsync" else "tempfile.mkstemp", full)
    with pytest.raises(PoisonlabError) as caught:
        write_tensors(path, "thing", {"other": torch.zeros(3)}, {})
    one_line(caught.value, "disk full", path)
    monkeypatch.undo()
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "below", tmp_path):
        with pytest.raises(PoisonlabError) as caught:
            write_text(path, "x")
        one_line(caught.value, path)


# --- poison sets, noise and keep-lists ------------------------------------------------------------------------


@pytest.mark.parametrize("in_floats", [False, True])
def test_poison_sets_come_back(tmp_path: Path, in_floats: bool) -> None:
    poisons = example_set()
    if in_floats:
        poisons = example_set(images=poisons.images.float() / 255)
    poisons.save(tmp_path / "a")
    loaded = PoisonSet.load(tmp_path / "a")
    for name in ("indices", "images", "labels", "base_images"):
        assert same({name: getattr(loaded, name)}, {name: getattr(poisons, name)})
    assert same(loaded.diagnostics, poisons.diagnostics)
    assert loaded.facts == {"target_index": 12}


@pytest.mark.parametrize("triggered", [False, True])
def test_goals_come_back(tmp_path: Path, triggered: bool) -> None:
    goal = example_goal(untriggered=torch.full((1, 3, 4, 4), 7, dtype=torch.uint8) if triggered else None)
    example_set(goal=goal).save(tmp_path / "a")
    loaded = PoisonSet.load(tmp_path / "a").goal
    assert loaded is not None
    for name in ("targets", "target_labels", "adversarial_labels", "untriggered"):
        ours, theirs = getattr(goal, name), getattr(loaded, name)
        assert ours is theirs is None or same({name: ours}, {name: theirs})


def test_a_set_without_a_goal_comes_back_without(tmp_path: Path) -> None:
    example_set(goal=None).save(tmp_path / "a")
    assert PoisonSet.load(tmp_path / "a").goal is None


def test_a_set_whose_images_are_its_bases_can_be_saved(tmp_path: Path) -> None:
    base = example_set().base_images
    example_set(images=base, base_images=base).save(tmp_path / "a")
    assert torch.equal(PoisonSet.load(tmp_path / "a").images, base)


@pytest.mark.parametrize(
    "change",
    [
        {"indices": torch.tensor([4])},
        {"indices": torch.tensor([4, 4])},
        {"labels": torch.tensor([1])},
        {"images": torch.zeros(2, 3, 4, 4, dtype=torch.float64)},
        {"images": torch.zeros(2, 3, 4, dtype=torch.uint8)},
        {"base_images": torch.zeros(2, 3, 4, 5, dtype=torch.uint8)},
        {"base_images": torch.zeros(1, 3, 4, 4, dtype=torch.uint8)},
        {"goal": example_goal(targets=torch.zeros(1, 1, 4, 4, dtype=torch.uint8))},
        {
            "indices": torch.tensor([], dtype=torch.int64),
            "images": torch.zeros(0, 3, 4, 4, dtype=torch.uint8),
            "base_images": torch.zeros(0, 3, 4, 4, dtype=torch.uint8),
            "labels": torch.tensor([], dtype=torch.int64),
        },
    ],
)
def test_sets_that_contradict_themselves_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        example_set(**change)
    one_line(caught.value)


NONE = torch.zeros(0, dtype=torch.int64)


@pytest.mark.parametrize(
    "change",
    [
        {"targets": torch.zeros(0, 3, 4, 4, dtype=torch.uint8), "target_labels": NONE, "adversarial_labels": NONE},
        {"targets": torch.zeros(1, 3, 4, 4)},
        {"targets": torch.zeros(3, 4, 4, dtype=torch.uint8)},
        {"target_labels": torch.tensor([0, 1])},
        {"target_labels": torch.tensor([0.0])},
        {"target_labels": torch.tensor([[0]])},
        {"adversarial_labels": torch.tensor([0, 1])},
        {"adversarial_labels": torch.tensor([-1])},
        {"adversarial_labels": torch.tensor([2**40])},
        {"untriggered": torch.zeros(2, 3, 4, 4, dtype=torch.uint8)},
        {"untriggered": torch.zeros(1, 3, 4, 4)},
    ],
)
def test_goals_that_contradict_themselves_are_refused(change: dict[str, Tensor]) -> None:
    with pytest.raises(DataError) as caught:
        example_goal(**change)
    one_line(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"indices": torch.tensor([4.0, -1.0])},
        {"indices": torch.tensor([4, -2])},
        {"labels": torch.tensor([1.0, 1.0])},
        {"base_images": torch.zeros(2, 3, 4, 4)},
    ],
)
def test_wrong_types_are_refused(change: dict[str, Tensor]) -> None:
    with pytest.raises(DataError):
        example_set(**change)


def test_two_appended_poisons_are_no_contradiction() -> None:
    assert example_set(indices=torch.tensor([-1, -1])).indices.tolist() == [-1, -1]


def test_parts_that_are_missing_are_named_by_path(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", "poison set", {"indices": torch.tensor([1])}, {})
    write_tensors(tmp_path / "b", "poison set", {"extra": torch.tensor([1])}, {})
    for name in ("a", "b"):
        with pytest.raises(DataError) as caught:
            PoisonSet.load(tmp_path / name)
        one_line(caught.value, tmp_path / name)


@given(change=st.integers(-49, 100), eps=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_the_bound_is_exact_on_bytes(change: int, eps: int) -> None:
    base = torch.full((2, 3, 4, 4), 50, dtype=torch.uint8)
    images = base.clone()
    images[1, 2, 3, 0] = 50 + change
    poisons = example_set(images=images, base_images=base)
    assert poisons.largest_change() == abs(change)
    as_floats = example_set(images=images.float() / 255, base_images=base)
    assert as_floats.largest_change() == pytest.approx(abs(change), abs=1e-4)
    for held in (poisons, as_floats):
        if abs(change) <= eps:
            held.check_bound(eps)
        else:
            with pytest.raises(DataError, match="more than eps"):
                held.check_bound(eps)


def test_nan_is_out_of_bounds() -> None:
    images = torch.full((2, 3, 4, 4), float("nan"))
    with pytest.raises(DataError):
        example_set(images=images).check_bound(16)


def test_poisons_that_change_nothing_are_refused() -> None:
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    clean, rows = torch.tensor([0, 1, 0, 1, 1]), torch.tensor([1, 3, 4])
    bases = images[rows]
    unchanged = PoisonSet(rows, bases.clone(), clean[rows], bases)
    with pytest.raises(DataError, match="none of the 3 poisons changes a pixel or a label"):
        unchanged.check_change(images, clean)
    PoisonSet(rows, bases.clone(), torch.tensor([1, 1, 0]), bases).check_change(images, clean)
    changed = bases.clone()
    changed[2, 0, 0, 0] ^= 1
    PoisonSet(rows, changed, clean[rows], bases).check_change(images, clean)
    PoisonSet(torch.tensor([1, 3, -1]), bases.clone(), clean[rows], bases).check_change(images, clean)


def test_poisons_of_other_bases_than_the_images_that_they_replace_are_refused() -> None:
    """Otherwise the bound would hold to an image that the attack chose, and the poisons would replace others."""
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    clean, rows = torch.tensor([0, 1, 0, 1, 1]), torch.tensor([1, 3, 4])
    for indices in (rows.flip(0), torch.tensor([1, 3, 0]), torch.tensor([-1, 4, 3])):
        with pytest.raises(DataError, match="base_images of a poison set are not the training images of its indices"):
            PoisonSet(indices, images[rows] ^ 1, clean[rows], images[rows]).check_change(images, clean)


def test_noise_is_kept_to_a_fraction_of_a_level(tmp_path: Path) -> None:
    noise = (torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1) * 16 / 255
    save_noise(tmp_path / "n", noise, torch.tensor([5, 7, 9, -1]), {"a": 1})
    stored = read_tensors(tmp_path / "n", "friendly noise")[0]
    assert stored["origin"].tolist() == [5, 7, 9, -1]
    assert stored["made"].all()
    loaded = load_noise(tmp_path / "n")
    assert loaded.dtype == torch.float16
    assert (loaded.double() - noise.double()).abs().max() * 255 <= 1 / 128
    write_tensors(tmp_path / "m", "friendly noise", {"noise": torch.zeros(3)}, {})
    example_set().save(tmp_path / "p")
    for name in ("m", "p", "missing"):
        with pytest.raises(DataError) as caught:
            load_noise(tmp_path / name)
        one_line(caught.value, tmp_path / name)


def kept() -> KeepList:
    scores = torch.tensor([0.5, 3.0, -1.0, 2.0, float("inf")]), torch.tensor([float("nan"), 4.0, 1.0, float("nan"), 0])
    return KeepList(torch.tensor([False, True, True, False, True]), tuple(score.double() for score in scores), (2, 0))


def test_keep_lists_come_back_with_what_the_filters_said(tmp_path: Path) -> None:
    save_keep_list(tmp_path / "a", kept(), ["l2-centroid", "deep-knn"])
    assert load_keep_list(tmp_path / "a", 5).tolist() == [False, True, True, False, True]
    tensors, facts = read_tensors(tmp_path / "a", "keep-list")
    first, second = kept().scores
    assert same(tensors, {"keep": kept().keep, "score.0": first, "score.1": second})
    assert facts == {"methods": ["l2-centroid", "deep-knn"], "dropped": [2, 0]}
    save_keep_list(tmp_path / "b", kept(), ["l2-centroid", "deep-knn"])
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b")


def test_a_keep_list_of_another_set_is_refused(tmp_path: Path) -> None:
    save_keep_list(tmp_path / "a", kept(), ["l2-centroid", "deep-knn"])
    for examples in (4, 6, 0):
        with pytest.raises(DataError) as caught:
            load_keep_list(tmp_path / "a", examples)
        one_line(caught.value, tmp_path / "a", f"no keep-list of {examples} examples")


@pytest.mark.parametrize(
    "tensors",
    [
        {"keep": torch.tensor([1, 0, 1])},
        {"keep": torch.tensor([[True, False, True]])},
        {"keep": torch.zeros(3, dtype=torch.bool)},
        {"kept": torch.ones(3, dtype=torch.bool)},
    ],
    ids=["numbers", "two dimensions", "nothing kept", "another name"],
)
def test_tensors_that_are_no_keep_list_are_refused(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    write_tensors(tmp_path / "a", "keep-list", tensors, {})
    with pytest.raises(DataError) as caught:
        load_keep_list(tmp_path / "a", 3)
    one_line(caught.value, tmp_path / "a", "no keep-list of 3 examples")


def test_other_files_are_no_keep_lists(tmp_path: Path) -> None:
    example_set().save(tmp_path / "p")
    for name, word in (("p", "poison set"), ("missing", "missing")):
        with pytest.raises(DataError) as caught:
            load_keep_list(tmp_path / name, 2)
        one_line(caught.value, tmp_path / name, word)


def test_a_damaged_keep_list_never_drops_other_examples(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save_keep_list(path, kept(), ["l2-centroid", "deep-knn"])
    positions = range(header_end(path), path.stat().st_size)
    assert len(positions) >= 5 + 2 * 5 * 8
    assert flips(path, positions, lambda: load_keep_list(path, 5), lambda _: False) == []
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError) as caught:
        load_keep_list(path, 5)
    one_line(caught.value, path, "damaged")


@pytest.mark.parametrize("name", ["indices", "labels"])
def test_numbers_of_a_poison_set_are_a_list(name: str) -> None:
    poisons = example_set()
    with pytest.raises(DataError, match="must be a list of int64"):
        dataclasses.replace(poisons, **{name: getattr(poisons, name)[:, None]})


def test_images_without_pixels_are_no_poisons() -> None:
    images = torch.zeros(2, 3, 0, 4, dtype=torch.uint8)
    with pytest.raises(DataError):
        example_set(images=images, base_images=images, goal=None)
    with pytest.raises(DataError):
        example_goal(targets=images[:1])


def test_nesting_without_end_is_damage(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="damaged"):
        read_sealed(tmp_path / "a.json")
