"""Threats drawn among the rows a victim is trained on, and read from the benchmark's setup files."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy import stats
from torch import Tensor, nn

from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.threat import affordable, choose_threat, class_rows, draw_threat, poison_count
from poisonlab.config.attacks.attack import TargetedAttack
from poisonlab.config.recipe import Recipe
from poisonlab.config.types import Fraction
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import last_of_each_class
from poisonlab.errors import DataError, SettingsError
from poisonlab.models.classifier import Classifier, Normalize


def dataset(count: int = 60, classes: int = 3, tests: int = 12) -> ImageDataset:
    stream = torch.Generator().manual_seed(1)

    def split(size: int) -> tuple[Tensor, Tensor]:
        images = torch.randint(0, 256, (size, 1, 2, 2), generator=stream, dtype=torch.uint8)
        return images, torch.arange(size) % classes

    return ImageDataset(*split(count), *split(tests), tuple("abcdefghij"[:classes]), (0.4,), (0.25,))


def attacker(rows: Tensor | None = None, *surrogates: Classifier) -> Attacker:
    data = dataset()
    return Attacker(surrogates, Normalize(data.mean, data.std), Recipe(), rows=rows)


def settings(**options: Any) -> TargetedAttack:
    return TargetedAttack(**{"name": "a", "method": "m", "surrogate": "s", "budget": 0.1, **options})


def one_line(caught: pytest.ExceptionInfo[Exception], *words: object) -> None:
    assert "\n" not in str(caught.value)
    for word in words:
        assert str(word) in str(caught.value), str(caught.value)


# --- rows -----------------------------------------------------------------------------------------------------


def test_class_rows_are_those_of_a_loop() -> None:
    data, rows = dataset(), torch.tensor([0, 1, 4, 5, 7, 30, 31, 58])
    for label in range(3):
        assert class_rows(data, label, None).tolist() == [r for r in range(60) if r % 3 == label]
        assert class_rows(data, label, rows).tolist() == [r for r in rows.tolist() if r % 3 == label]


@given(st.sets(st.integers(0, 59), min_size=30), st.integers(0, 40), st.floats(0.001, 0.15))
@effort(max_examples=80, deadline=None)
def test_bases_come_from_the_rows_and_the_budget_is_a_share_of_them(chosen: set[int], seed: int, budget: float) -> None:
    data, rows = dataset(), torch.tensor(sorted(chosen))
    count = poison_count(budget, len(rows))
    try:
        threat = draw_threat(data, budget, seed, rows=rows)
    except SettingsError:
        free = draw_threat(data, 1e-9, seed)
        assert sum(row % 3 == free.adversarial_label for row in chosen) < count
        return
    bases = threat.base_indices.tolist()
    assert set(bases) <= chosen
    assert bases == sorted(set(bases))
    assert len(bases) == count
    assert all(row % 3 == threat.adversarial_label for row in bases)
    assert threat.base_indices.dtype == torch.int64
    assert threat.target_label == threat.target_index % 3 != threat.adversarial_label


@pytest.mark.parametrize(
    ("budget", "size", "count"), [(0.01, 500, 5), (0.1, 45, 5), (0.1, 50, 5), (1e-9, 50, 1), (0.07, 100, 7), (1, 9, 9)]
)
def test_the_budget_is_rounded_up_but_for_rounding_errors(budget: float, size: int, count: int) -> None:
    assert poison_count(budget, size) == count


def test_all_rows_are_the_same_as_no_rows() -> None:
    data = dataset()
    for seed in range(20):
        free, all_rows = draw_threat(data, 0.1, seed), draw_threat(data, 0.1, seed, rows=torch.arange(60))
        assert torch.equal(free.base_indices, all_rows.base_indices)
        assert free.target_index == all_rows.target_index


def test_every_row_of_the_class_can_be_a_base() -> None:
    data = dataset()
    rows = last_of_each_class(data.train_labels, 4)
    drawn = [int(draw_threat(data, 1 / 12, seed, rows=rows).base_indices) for seed in range(1200)]
    assert sorted(set(drawn)) == list(range(48, 60))
    assert stats.chisquare([drawn.count(row) for row in range(48, 60)]).pvalue > 1e-3


def test_a_budget_beyond_the_rows_of_the_class_is_one_line_and_its_advice_works() -> None:
    data = dataset()
    rows = last_of_each_class(data.train_labels, 5)
    with pytest.raises(SettingsError) as caught:
        draw_threat(data, 0.5, 0, rows=rows)
    one_line(caught, "8 poisons", "only 5 training images", "at most 0.3333")
    assert len(draw_threat(data, 0.3333, 0, rows=rows).base_indices) == 5


@given(st.integers(1, 2_000_000), st.integers(1, 50))
@effort(max_examples=60, deadline=None)
def test_the_advised_budget_is_always_affordable(size: int, own: int) -> None:
    own = min(own, size)
    data, pool = dataset(), np.arange(own)
    with pytest.raises(SettingsError) as caught:
        affordable(data, 1.0, size + 1, 0, pool)
    advised = float(str(caught.value).rsplit(" ", 1)[1])
    assert 1 <= affordable(data, advised, size + 1, 0, pool) <= own
    TypeAdapter(Fraction).validate_python(yaml.safe_load(str(caught.value).rsplit(" ", 1)[1]), strict=True)


def test_a_class_without_images_is_not_cured_by_a_budget() -> None:
    with pytest.raises(SettingsError) as caught:
        affordable(dataset(), 0.5, 20, 0, np.arange(0))
    one_line(caught, "10 poisons", "only 0 training images", "train victims on more images")


# --- choosing -------------------------------------------------------------------------------------------------


def test_choosing_is_drawing() -> None:
    data = dataset()
    for seed in range(10):
        for rows in (None, torch.arange(30, 60)):
            chosen, drawn = (
                choose_threat(data, attacker(rows), settings(), seed),
                draw_threat(data, 0.1, seed, None, rows),
            )
            assert torch.equal(chosen.base_indices, drawn.base_indices)
            assert chosen.target_index == drawn.target_index


def test_a_recognised_target_is_one_that_every_surrogate_knows() -> None:
    data = dataset()
    torch.manual_seed(0)
    guess = Classifier(nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        answers = guess(Normalize(data.mean, data.std)(data.test_images / 255)).argmax(1)
    known = {row for row in range(12) if int(answers[row]) == row % 3}
    assert 0 < len(known) < 12
    made = set()
    for seed in range(60):
        try:
            made.add(choose_threat(data, attacker(None, guess), settings(target="recognised"), seed).target_index)
        except SettingsError as error:
            assert "no test image" in str(error)  # noqa: PT017
    assert made == known


# --- setup files ----------------------------------------------------------------------------------------------


def entry(target: int = 4, bases: Sequence[int] = (29, 5, 14)) -> dict[str, Any]:
    """As the benchmark pickles it: bases in any order, an array."""
    return {
        "target class": target % 3,
        "target index": target,
        "base class": bases[0] % 3,
        "base indices": np.array(bases),
    }


def setup_file(folder: Path, *entries: Any) -> str:
    path = folder / "setups.pickle"
    path.write_bytes(pickle.dumps(list(entries)))
    return str(path)


def test_a_seed_takes_its_entry(tmp_path: Path) -> None:
    path = setup_file(tmp_path, entry(), entry(0, (7, 1)), entry(11, (0,)))
    found = [choose_threat(dataset(), attacker(), settings(setup=path, budget=0.5), seed) for seed in range(3)]
    assert [threat.target_index for threat in found] == [4, 0, 11]
    assert [threat.target_label for threat in found] == [1, 0, 2]
    assert [threat.adversarial_label for threat in found] == [2, 1, 0]
    # Sorted, and as many as the file says: the budget is not used.
    assert [threat.base_indices.tolist() for threat in found] == [[5, 14, 29], [1, 7], [0]]


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor, np.array])
def test_base_indices_of_any_kind(tmp_path: Path, kind: Any) -> None:
    path = setup_file(tmp_path, {**entry(), "base indices": kind([29, 5, 14])})
    assert choose_threat(dataset(), attacker(), settings(setup=path), 0).base_indices.tolist() == [5, 14, 29]


def refused(path: str, seed: int, *words: object, rows: Tensor | None = None) -> None:
    with pytest.raises(SettingsError) as caught:
        choose_threat(dataset(), attacker(rows), settings(setup=path), seed)
    one_line(caught, path, *words)


def test_a_seed_beyond_the_list_is_one_line(tmp_path: Path) -> None:
    refused(setup_file(tmp_path, entry(), entry()), 2, "setups 0 to 1", "seed 2")


@pytest.mark.parametrize(
    "odd", [entry(12), entry(bases=(5, 62)), entry(12, bases=(62,))], ids=["target", "base", "both"]
)
def test_images_beyond_the_dataset_are_one_line(tmp_path: Path, odd: dict[str, Any]) -> None:
    refused(setup_file(tmp_path, entry(), odd), 1, "setup 1", "beyond the dataset")


@pytest.mark.parametrize(
    "odd",
    [
        {**entry(), "target class": 0},
        {**entry(), "base class": 0},
        entry(bases=(5, 6)),
        {**entry(), "target class": 2, "base class": 1},
    ],
    ids=["target", "base", "mixed bases", "both"],
)
def test_another_order_of_images_is_one_line(tmp_path: Path, odd: dict[str, Any]) -> None:
    refused(setup_file(tmp_path, odd), 0, "setup 0", "another dataset or order of images")


def test_bases_that_the_victim_does_not_see_are_one_line(tmp_path: Path) -> None:
    path = setup_file(tmp_path, entry())
    refused(path, 0, "base 5 is not among the images", rows=torch.arange(10, 60))
    found = choose_threat(dataset(), attacker(torch.arange(5, 60)), settings(setup=path), 0)
    assert found.base_indices.tolist() == [5, 14, 29]


def test_a_damaged_or_hostile_file_is_one_line_and_runs_no_code(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    for content in (b"no pickle", pickle.dumps([entry(), Hostile()]), pickle.dumps({}), pickle.dumps([{"a": 1}])):
        path = tmp_path / "setups.pickle"
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            choose_threat(dataset(), attacker(), settings(setup=str(path)), 0)
        one_line(caught, path)
    assert not (tmp_path / "ran").exists()


def test_the_target_is_not_of_the_adversarial_class(tmp_path: Path) -> None:
    """A target that already has the adversarial label would count as a success untouched."""
    refused(setup_file(tmp_path, entry(5, (29, 5, 14))), 0, "setup 0", "class 2")


def test_a_missing_file_is_named_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(setup=str(tmp_path / "none.pickle")).files(0)
    one_line(caught, "none.pickle", "'a'")
    path = setup_file(tmp_path, entry())
    assert settings(setup=path).files(3) == (Path(path),)
    assert settings().files(0) == ()
