"""The first targets of a poison set, beside what the whole set says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.artifacts.targets import read_targets
from poisonlab.errors import DamagedError, DataError


def saved(path: Path, targets: int | None) -> PoisonSet:
    images = torch.randint(256, (2, 3, 4, 5), dtype=torch.uint8)
    labels = torch.arange(targets or 0)
    goal = (
        None if targets is None else Goal(torch.randint(256, (targets, 3, 4, 5), dtype=torch.uint8), labels, labels + 1)
    )
    poisons = PoisonSet(torch.arange(2), images, torch.ones(2, dtype=torch.int64), images, goal)
    poisons.save(path)
    return poisons


@pytest.mark.parametrize(("targets", "most"), [(1, 1), (5, 3), (5, 9), (3, 3)])
def test_the_first_targets_are_those_of_the_set(targets: int, most: int, tmp_path: Path) -> None:
    goal = saved(tmp_path / "p.safetensors", targets).goal
    found = read_targets(tmp_path / "p.safetensors", most)
    assert goal is not None
    assert found is not None
    assert np.array_equal(found, goal.targets[:most].numpy())


def test_a_set_without_a_goal_has_none(tmp_path: Path) -> None:
    saved(tmp_path / "p.safetensors", None)
    assert read_targets(tmp_path / "p.safetensors", 3) is None


def test_a_missing_or_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    with pytest.raises(DataError, match=r"p\.safetensors"):
        read_targets(path, 1)
    saved(path, 2)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DamagedError, match="cannot be decoded"):
        read_targets(path, 1)
    for odd in (torch.zeros(2, 3, 4), torch.zeros(2, 3, 4, 4)):
        save_file({"targets": odd}, path)
        with pytest.raises(DamagedError, match="no images"):
            read_targets(path, 1)
