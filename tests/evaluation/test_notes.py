"""What stands below the tables: when no number of successes could tell rows apart."""

from __future__ import annotations

import itertools
import re

import pytest
from made import line, stage, trial

from poisonlab.evaluation.intervals import holm, mcnemar_exact, paired_permutation
from poisonlab.evaluation.notes import method_notes


def notes(seeds: int, rows: int, word: str = "fewest") -> list[str]:
    names = ["none", *(f"d{number}" for number in range(rows))]
    lines = [line("gm", name, range(seeds)) for name in names]
    trials = [trial("gm", name, seed, float(name == "none")) for name in names for seed in range(seeds)]
    return [note for note in method_notes(stage(lines, compare=["none"]), trials) if word in note]


def least_by_hand(seeds: int, rows: int) -> float:
    """The smallest corrected p of a row, were every other row's p as small as it can be or not."""
    raw = mcnemar_exact([True] * seeds, [False] * seeds)
    others = [[raw] * (rows - 1), [1.0] * (rows - 1)]
    assert raw == paired_permutation([1.0] * seeds, [0.0] * seeds)
    return min(holm([raw, *each])[0] for each in others)


@pytest.mark.parametrize(("seeds", "rows"), list(itertools.product([2, 4, 6, 8, 9, 12], [1, 3, 5, 12])))
def test_too_few_seeds_are_told_with_the_number_that_would_do(seeds: int, rows: int) -> None:
    found = notes(seeds, rows)
    least = least_by_hand(seeds, rows)
    if least <= 0.05:
        assert found == []
        return
    (note,) = found
    assert f"can be below {min(1.0, least):.3f}:" in note
    enough = int(re.findall(r"(\d+) seeds are the fewest", note)[0])
    assert least_by_hand(enough, rows) <= 0.05 < least_by_hand(enough - 1, rows)


def test_a_single_seed_tests_nothing_and_a_study_without_comparisons_neither() -> None:
    assert notes(1, 3) == []
    assert (len(notes(1, 3, "p: ")), len(notes(2, 3, "p: "))) == (0, 1)
    lines = [line("gm", name, [0, 1]) for name in ("none", "d")]
    trials = [trial("gm", name, seed, 1.0) for name in ("none", "d") for seed in (0, 1)]
    assert not [note for note in method_notes(stage(lines, compare=[]), trials) if "fewest" in note]


def test_attacks_are_named_where_others_have_enough_seeds() -> None:
    counts = {"gm": 3, "bp": 12}
    lines = [line(attack, name, range(count)) for attack, count in counts.items() for name in ("none", "d", "clean")]
    trials = [
        trial(each["attack"], each["defense"], seed, 1.0, control=each["control"])
        for each in lines
        for seed in each["seeds"]
    ]
    (note,) = [note for note in method_notes(stage(lines, compare=["none"]), trials) if "fewest" in note]
    # Of the control nothing is asked.
    assert note.startswith("With 3 seeds and 1 row no corrected p can be below 0.250 (gm): 6 seeds are the fewest")
