"""Joined rankings, reckoned by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from poisonlab.errors import DataError
from poisonlab.scanning.features import Features
from poisonlab.scanning.ranking import Ranking, expected_repeats, held, join, still_flagged


def made() -> Ranking:
    return join(("a", "b"), torch.tensor([[9.0, 5, 1, 1], [2, 8, 8, 0]], dtype=torch.float64))


def test_places_and_joined_scores_by_hand() -> None:
    ranking = made()
    assert ranking.places.tolist() == [[1, 2, 3.5, 3.5], [3, 1.5, 1.5, 4]]
    expected = [1 / 61 + 1 / 63, 1 / 62 + 1 / 61.5, 1 / 63.5 + 1 / 61.5, 1 / 63.5 + 1 / 64]
    assert ranking.joined.tolist() == pytest.approx(expected)
    assert ranking.order.tolist() == [1, 0, 2, 3]
    assert ranking.first(2).tolist() == [1, 0]
    # Two share the places 1 and 2, then 3 and 4: lots decide where not both fit.
    assert ranking.chances("b", 1).tolist() == [0, 0.5, 0.5, 0]
    assert ranking.chances("b", 2).tolist() == [0, 1, 1, 0]
    assert ranking.chances("a", 3).tolist() == [1, 1, 0.5, 0.5]
    assert ranking.agreement(2).tolist() == [1, 2, 1, 0]


def test_a_filter_that_cannot_tell_changes_no_order() -> None:
    scores = torch.tensor([[9.0, 5, 1, 1], [2, 8, 8, 0]], dtype=torch.float64)
    blind = join(("a", "b", "c"), torch.cat([scores, torch.zeros(1, 4, dtype=torch.float64)]))
    assert blind.order.tolist() == made().order.tolist()


def test_planted_rows_and_repeated_flags_are_counted() -> None:
    assert held(torch.tensor([3, 0]), torch.tensor([True, True, False, False])) == 1
    others = [torch.tensor([1, 2, 9, 8]), torch.tensor([4, 3, 2, 1])]
    assert still_flagged(torch.tensor([1, 2, 3, 4]), others) == 0.75


def test_a_filter_that_cannot_tell_repeats_itself_by_chance_only() -> None:
    """The order of the files is the same for every seed, and no agreement."""
    blind = join(("a",), torch.zeros(1, 50, dtype=torch.float64)).chances("a", 10)
    assert blind.tolist() == [0.2] * 50
    assert expected_repeats(blind, [blind, blind]) == pytest.approx(0.2)
    flagged, other = torch.eye(4)[0] + torch.eye(4)[1], torch.eye(4)[1] + torch.eye(4)[2]
    assert expected_repeats(flagged, [other, flagged]) == 0.75


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    made().save(tmp_path / "one.safetensors")
    read = Ranking.load(tmp_path / "one.safetensors")
    assert read.filters == ("a", "b")
    assert torch.equal(read.joined, made().joined)
    with pytest.raises(DataError, match="holds a ranking of suspects, not a features"):
        Features.load(tmp_path / "one.safetensors")
