"""Tidy results and their layouts against numbers worked out by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import COMPARE, MEASURES, VICTIM, trial
from scipy import stats

from poisonlab.config.measures import ACCURACY, FIRST_EPOCH, PEAK_ACCURACY, STOPPED_CLEAN
from poisonlab.errors import DataError, SettingsError
from poisonlab.evaluation.choosing import diverged, unmatched
from poisonlab.evaluation.detection import Detection
from poisonlab.evaluation.intervals import mean_of_shares
from poisonlab.evaluation.layouts import joined_note, latex, markdown, parts, side_by_side, timing, write_table
from poisonlab.evaluation.layouts import readable as readable_of
from poisonlab.evaluation.results import tidy_results
from poisonlab.evaluation.trials import Trial

Pair = tuple[str, str]


def tidy(
    trials: Sequence[Trial],
    published: Mapping[Pair, Mapping[str, float]] | None = None,
    expected: Sequence[Pair] = (),
    **more: Any,
) -> pd.DataFrame:
    """The results of a study with one victim, compared with two rows."""
    known = {(attack, VICTIM, defense): values for (attack, defense), values in (published or {}).items()}
    rows = [(attack, VICTIM, defense) for attack, defense in expected]
    return tidy_results(trials, MEASURES, more.pop("compare", COMPARE), known, rows, **more)


def readable(results: pd.DataFrame) -> pd.DataFrame:
    return readable_of(results, MEASURES, COMPARE)


def trials(attack: str, defense: str, successes: dict[int, float], accuracies: dict[int, float] | None = None,
           seconds: float = 1.0) -> list[Trial]:  # fmt: skip
    return [
        trial(attack, defense, seed, success, (accuracies or {}).get(seed, 0.9), seconds)
        for seed, success in successes.items()
    ]


def row(results: pd.DataFrame, defense: str, attack: str = "gm", victim: str = VICTIM) -> pd.Series:  # type: ignore[type-arg]
    chosen = results[(results["attack"] == attack) & (results["defense"] == defense) & (results["victim"] == victim)]
    assert len(chosen) == 1
    return chosen.iloc[0]


def wilson_by_hand(successes: int, n: int) -> tuple[float, float]:
    z, p = 1.959963984540054, successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


NONE = trials("gm", "none", {0: 1, 1: 1, 2: 1, 3: 0, 4: 1, 5: 1, 6: 1, 7: 1}, {s: 0.90 + s / 100 for s in range(8)}, 2)
# The same seeds in another order, and a poison that fails where it worked, in six of eight.
DEFENDED = trials("gm", "d", {7: 0, 6: 0, 5: 0, 4: 0, 3: 0, 2: 0, 1: 0, 0: 1}, {s: 0.88 + s / 100 for s in range(8)}, 5)


def test_numbers_by_hand() -> None:
    results = tidy([*NONE, *DEFENDED])
    none, defended = row(results, "none"), row(results, "d")
    assert (none["n"], none["success"], defended["success"]) == (8, 7 / 8, 1 / 8)
    for line, count in ((none, 7), (defended, 1)):
        assert (line["success_low"], line["success_high"]) == pytest.approx(wilson_by_hand(count, 8), abs=1e-9)
    assert defended["adversarial_confidence"] == pytest.approx(1 / 16)
    assert none["accuracy"] == pytest.approx(0.935)
    # Standard deviation of 0 ... 7 hundredths: sqrt(6) hundredths; t(7) at 97.5 % is 2.364624.
    half = 2.364624251 * math.sqrt(6) / 100 / math.sqrt(8)
    assert none["accuracy_high"] - none["accuracy"] == pytest.approx(half, rel=1e-7)
    assert defended["accuracy_less_none"] == pytest.approx(-0.02)
    assert [none[f"accuracy_less_none{end}"] for end in ("", "_low", "_high")] == pytest.approx(
        [math.nan] * 3, nan_ok=True
    )
    # Six seeds changed, all one way: 2 / 2^6.
    assert defended["p_none"] == pytest.approx(2 / 64)
    assert math.isnan(none["p_none"])
    assert (none["seconds"], defended["seconds"]) == (2, 5)


def test_no_change_of_a_share_is_beyond_all_of_it() -> None:
    """Student's interval of +80 and -80 points would reach 1,016 points to each side."""
    none = trials("gm", "none", {0: 1, 1: 0}, {0: 0.1, 1: 0.9})
    line = row(tidy([*none, *trials("gm", "d", {0: 1, 1: 0}, {0: 0.9, 1: 0.1})]), "d")
    assert [line[f"accuracy_less_none{end}"] for end in ("", "_low", "_high")] == pytest.approx([0, -1, 1])


def test_pairs_are_matched_by_seed_and_not_by_order() -> None:
    none = trials("gm", "none", {0: 1, 1: 0}, {0: 0.9, 1: 0.5})
    # The same outcomes per seed, listed the other way round, and one seed that the reference lacks.
    other = trials("gm", "d", {9: 1, 1: 0, 0: 1}, {9: 0.1, 1: 0.6, 0: 1.0})
    line = row(tidy([*none, *other]), "d")
    assert line["p_none"] == 1
    assert line["accuracy_less_none"] == pytest.approx(0.1)
    assert line["n"] == 3
    assert line["accuracy"] == pytest.approx(1.7 / 3)


def test_a_difference_has_the_interval_of_its_pairs() -> None:
    """Of 1, 2 and 3 hundredths on shared seeds: mean 2, deviation 1, and t(2) at 97.5 % is 4.302653."""
    none = trials("gm", "none", {0: 1, 1: 0, 2: 1, 9: 1}, {0: 0.9, 1: 0.5, 2: 0.7, 9: 0.1})
    other = trials("gm", "d", {2: 1, 1: 0, 0: 1, 8: 0}, {0: 0.91, 1: 0.52, 2: 0.73, 8: 1.0})
    line = row(tidy([*none, *other]), "d")
    half = 4.30265273 / math.sqrt(3) / 100
    found = [line[f"accuracy_less_none{end}"] for end in ("", "_low", "_high")]
    assert found == pytest.approx([0.02, 0.02 - half, 0.02 + half], rel=1e-7)
    assert "success_less_none" not in line  # yes or no has McNemar's test


def confident(defense: str, confidences: list[float]) -> list[Trial]:
    return [
        replace(each, measures={**each.measures, "adversarial_confidence": confidence})
        for each, confidence in zip(
            trials("gm", defense, dict.fromkeys(range(len(confidences)), 0.0)), confidences, strict=True
        )
    ]


def test_confidences_have_the_interval_of_numbers_that_pile_up_at_their_ends() -> None:
    """Of probabilities that are all 0 or 1 it is Clopper and Pearson's; their change has a test and no interval."""
    results = tidy([*confident("none", [1.0, 1.0, 1.0, 0.0]), *confident("d", [0.0, 0.0, 0.0, 1.0])])
    found = [row(results, "none")[f"adversarial_confidence{end}"] for end in ("_low", "_high")]
    assert found == pytest.approx(list(stats.binomtest(3, 4).proportion_ci(method="exact")), abs=1e-6)
    assert row(results, "d")["adversarial_confidence_less_none"] == pytest.approx(-0.5)
    assert row(results, "d")["adversarial_confidence_less_none_n"] == 4
    assert "adversarial_confidence_less_none_low" not in results


def test_a_single_pair_is_not_tested_and_no_member_of_the_family() -> None:
    none, d = confident("none", [0.9, 0.8, 0.7, 0.9, 0.5]), confident("d", [0.4, 0.3, 0.1, 0.2, 0.1])
    results = tidy([*none, *d, *confident("e", [0.1])])
    assert row(results, "d")["adversarial_confidence_p_none_holm"] == pytest.approx(2 / 32)
    assert math.isnan(row(results, "e")["p_none"])
    assert math.isnan(row(results, "e")["adversarial_confidence_p_none"])


def test_confidences_are_tested_by_permutation_beside_successes_that_do_not_differ() -> None:
    none, d = confident("none", [0.9, 0.8, 0.7, 0.9, 0.5]), confident("d", [0.4, 0.3, 0.1, 0.2, 0.1])
    results = tidy([*none, *d, *confident("e", [0.9, 0.8, 0.7, 0.9, 0.4])])
    assert row(results, "d")["p_none"] == 1
    # All five fall: 2 of 32 patterns of signs; of the other row one pair of five differs.
    assert row(results, "d")["adversarial_confidence_p_none"] == pytest.approx(2 / 32)
    assert row(results, "d")["adversarial_confidence_p_none_holm"] == pytest.approx(4 / 32)
    assert row(results, "e")["adversarial_confidence_p_none_holm"] == 1
    assert math.isnan(row(results, "none")["adversarial_confidence_p_none"])


def test_the_order_of_the_trials_does_not_matter() -> None:
    straight = tidy([*NONE, *DEFENDED])
    mixed = tidy([*NONE[4:], *DEFENDED[::-1], *NONE[:4]])
    for defense in ("none", "d"):
        first, second = row(straight, defense), row(mixed, defense)
        for name in ("success", "success_low", "accuracy", "accuracy_low", "accuracy_less_none", "p_none"):
            assert first[name] == pytest.approx(second[name], nan_ok=True)


def test_holm_is_over_the_attacks_own_rows() -> None:
    failed = dict.fromkeys(range(8), 0.0)
    other = [trial("gm", "e", t.seed, 1 - t.measures["success"]) for t in NONE]
    results = tidy([*NONE, *DEFENDED, *other, *trials("bp", "none", dict.fromkeys(range(8), 1.0)),
                            *trials("bp", "d", failed)])  # fmt: skip
    # gm: 2/64 with six pairs, and eight pairs of which seven fell one way: (1 + 8) * 2 / 256.
    raw = {"d": 2 / 64, "e": 18 / 256}
    for name, value in raw.items():
        assert row(results, name)["p_none"] == pytest.approx(value)
    assert row(results, "d")["p_none_holm"] == pytest.approx(2 * 2 / 64)
    assert row(results, "e")["p_none_holm"] == pytest.approx(max(18 / 256, 4 / 64))
    assert row(results, "d", "bp")["p_none_holm"] == pytest.approx(2 / 256)
    assert list(zip(results["attack"], results["defense"], strict=True)) == [
        ("gm", "none"), ("gm", "d"), ("gm", "e"), ("bp", "none"), ("bp", "d"),
    ]  # fmt: skip


def test_without_the_reference_there_is_no_comparison() -> None:
    results = tidy([*DEFENDED, *trials("bp", "none", {0: 1.0})])
    line = row(results, "d")
    assert math.isnan(line["p_none"])
    assert math.isnan(line["p_none_holm"])
    assert math.isnan(line["accuracy_less_none"])
    table = readable(results)
    assert table["p against none"].tolist() == ["", ""]
    assert "nan" not in markdown(table)


def test_a_single_seed() -> None:
    results = tidy([*trials("gm", "none", {4: 1}), *trials("gm", "d", {4: 0})])
    line = row(results, "d")
    assert (line["success_low"], line["success_high"]) == pytest.approx(wilson_by_hand(0, 1), abs=1e-9)
    assert math.isnan(line["accuracy_low"])
    assert math.isnan(line["p_none"])
    table = readable(results)
    assert table["Test accuracy [95 % CI]"].tolist() == ["90.0", "90.0"]
    for text in (markdown(table), latex(table)):
        assert "nan" not in text.lower()


# --- against FRIENDS-B --------------------------------------------------------------------------------------------

UNDEFENDED, SHIELDED = trials("gm", "none", dict.fromkeys(range(8), 1.0)), dict.fromkeys(range(8), 0.0)
FRIENDS = trials("gm", "friends-bernoulli", SHIELDED)


def test_every_row_is_tested_against_friends_b_on_the_same_seeds() -> None:
    six = trials("gm", "six", {**dict.fromkeys(range(6), 1.0), 7: 0.0, 6: 0.0})
    # Two seeds that FRIENDS-B lacks count for neither.
    three = trials("gm", "three", {9: 1.0, 2: 1.0, 1: 1.0, 0: 1.0, 8: 1.0})
    control = [replace(trial, control=True) for trial in trials("gm", "clean", dict.fromkeys(range(8), 1.0))]
    results = tidy([*control, *three, *UNDEFENDED, *six, *FRIENDS])
    # All that differ fall one way: McNemar's p is 2 / 2^k of k. Holm multiplies the three by 3, 2 and 1.
    raw = {"none": 2 / 2**8, "six": 2 / 2**6, "three": 2 / 2**3}
    for times, (name, value) in zip((3, 2, 1), raw.items(), strict=True):
        assert row(results, name)["p_friends-bernoulli"] == pytest.approx(value)
        assert row(results, name)["p_friends-bernoulli_holm"] == pytest.approx(times * value)
    for name in ("friends-bernoulli", "clean"):
        assert math.isnan(row(results, name)["p_friends-bernoulli"])
        assert math.isnan(row(results, name)["p_friends-bernoulli_holm"])
    # Against undefended training it is another test: six differs on two seeds.
    assert row(results, "six")["p_none"] == pytest.approx(2 / 2**2)
    assert math.isnan(row(results, "none")["p_none"])
    shown = readable(results).set_index("Defense")["p against friends-bernoulli"].to_dict()
    assert shown == {"clean": "", "three": "0.250", "none": "0.023", "six": "0.062", "friends-bernoulli": ""}


def test_an_attack_that_friends_b_does_not_face_has_no_test_against_it() -> None:
    results = tidy([*UNDEFENDED, *FRIENDS, *trials("bp", "none", {0: 1.0}), *trials("bp", "d", {0: 0.0})])
    assert results[results["attack"] == "bp"][["p_friends-bernoulli", "p_friends-bernoulli_holm"]].isna().all(axis=None)
    # Nor does it lengthen the family of the other.
    assert row(results, "none")["p_friends-bernoulli_holm"] == pytest.approx(2 / 2**8)
    tables = tables_of(markdown(readable(results)))
    assert "p against friends-bernoulli" in tables["gm"][0]
    assert "p against friends-bernoulli" not in tables["bp"][0]


def test_rates_are_compared_with_friends_b_by_permutation() -> None:
    best = [replace(trial, defense="friends-bernoulli") for trial in triggered("d", [0.0, 0.25, 0.0, 0.125])]
    line = row(tidy([*triggered("none", [0.5, 0.75, 0.25, 1.0]), *best]), "none", "sa")
    # Four differences of one sign: 2 of 16 patterns are as far from zero.
    assert line["p_friends-bernoulli"] == pytest.approx(2 / 16)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=2, max_size=9))
@settings(max_examples=25, deadline=None)
def test_tests_against_friends_b_are_binomial_tests_of_what_differs(seeds: list[tuple[bool, bool, bool]]) -> None:
    names = ("friends-bernoulli", "none", "d")
    outcomes = {name: [each[place] for each in seeds] for place, name in enumerate(names)}
    results = tidy(
        [trial for name, each in outcomes.items() for trial in trials("gm", name, dict(enumerate(map(float, each))))]
    )
    raw = {}
    for name in ("none", "d"):
        pairs = [pair for pair in zip(outcomes[name], outcomes["friends-bernoulli"], strict=True) if pair[0] != pair[1]]
        ours = sum(mine for mine, _ in pairs)
        raw[name] = stats.binomtest(ours, len(pairs), 0.5).pvalue if pairs else 1.0
        assert row(results, name)["p_friends-bernoulli"] == pytest.approx(raw[name])
    small, large = sorted(raw.values())
    corrected = sorted(row(results, name)["p_friends-bernoulli_holm"] for name in raw)
    assert corrected == pytest.approx([min(1, 2 * small), min(1, max(2 * small, large))])


# --- attacks with a trigger: rates over images --------------------------------------------------------------------


def triggered(defense: str, successes: list[float], without: float = 0.1, attack: str = "sa") -> list[Trial]:
    return [
        trial(attack, defense, seed, success, untriggered_success=without + seed / 100, targets=1000)
        for seed, success in enumerate(successes)
    ]


def test_several_targets_make_a_rate_whatever_came_out() -> None:
    """Three seeds of a backdoor that always works, and a sibling at 0.998; one target makes both an event."""
    always, nearly, never = [1.0, 1.0, 1.0], [0.998, 1.0, 1.0], [0.0, 0.0, 0.0]
    results = tidy([*triggered("none", always), *triggered("d", nearly), *triggered("e", never)])
    # Of rates that are all 0 or 1, Clopper and Pearson's interval.
    low, high = stats.binomtest(3, 3).proportion_ci(method="exact")
    assert (row(results, "none", "sa")["success_low"], row(results, "none", "sa")["success_high"]) == pytest.approx(
        (low, high), abs=1e-6
    )
    # A little less success moves the interval a little.
    assert row(results, "d", "sa")["success_low"] == pytest.approx(low, abs=0.002)
    assert row(results, "e", "sa")["success_high"] == pytest.approx(1 - low, abs=1e-6)
    # Signs of three equal differences: 2 of 8 patterns.
    assert row(results, "e", "sa")["p_none"] == pytest.approx(2 / 8)
    single = tidy([replace(each, targets=1, measures={"success": 1.0}) for each in triggered("none", always)])
    assert row(single, "none", "sa")["success_low"] == pytest.approx(wilson_by_hand(3, 3)[0], abs=1e-9)


def test_an_event_of_several_targets_is_a_rate() -> None:
    """A config may ask for more targets than the attack's published one."""
    several = [replace(each, targets=4) for each in trials("gm", "none", {0: 0.25, 1: 0.5})]
    line = row(tidy(several), "none")
    assert line["success"] == 0.375
    assert line["success_low"] < 0.25 < 0.5 < line["success_high"]
    # So it is where poisons that were read from files have one target with some seeds and more with others.
    mixed = [replace(trials("gm", "none", {0: 1.0})[0], targets=1), several[1]]
    assert row(tidy(mixed), "none")["success"] == 0.75


def test_half_a_yes_is_refused() -> None:
    with pytest.raises(DataError, match=r"success 0\.5 is no yes .1. or no .0."):
        tidy(trials("gm", "none", {0: 0.5}))


def test_rates_of_more_than_20_seeds_are_not_mcnemar_s() -> None:
    """Up to 20 seeds the permutation test of 0 and 1 is McNemar's; beyond, sign patterns are drawn."""
    results = tidy([*triggered("none", [1.0] * 10 + [0.0] * 14), *triggered("d", [0.0] * 24)])
    assert row(results, "d", "sa")["p_none"] not in (2 / 2**10, 0)
    assert row(results, "d", "sa")["p_none"] == pytest.approx(2 / 2**10, rel=0.3)


def test_a_measure_of_a_trigger_stands_in_its_attacks_rows_only() -> None:
    results = tidy([*triggered("none", [0.75, 0.5]), *triggered("d", [0.25, 0.25], 0.3), *NONE])
    assert row(results, "none", "sa")["untriggered_success"] == pytest.approx(0.105)
    assert row(results, "d", "sa")["untriggered_success"] == pytest.approx(0.305)
    assert math.isnan(row(results, "none")["untriggered_success"])
    table = readable(results)
    assert [text.split(" ")[0] for text in table["Without trigger [95 % CI]"]] == ["10.5", "30.5", ""]
    assert "nan" not in markdown(table) + latex(table)
    assert "Without trigger [95 % CI]" not in readable(tidy(NONE)).columns


def test_the_rows_that_others_are_compared_with_are_the_study_s() -> None:
    results = tidy([*NONE, *DEFENDED], compare=["d"])
    assert row(results, "none")["p_d"] == pytest.approx(2 / 64)
    assert math.isnan(row(results, "d")["p_d"])
    assert row(results, "none")["accuracy_less_d"] == pytest.approx(0.02)
    alone = tidy([*NONE, *DEFENDED], compare=[])
    assert not [name for name in alone.columns if name.startswith("p_") or "_less_" in name]
    assert timing(alone, None)["Relative"].tolist() == ["", ""]


def test_an_attack_whose_measures_nobody_told_is_one_line() -> None:
    with pytest.raises(SettingsError, match="attack 'unknown' has no measures"):
        tidy([trial("unknown", "none", 0, 1.0)])


# --- attacks without a goal ---------------------------------------------------------------------------------------


def unlearnable(defense: str, peaks: list[float], epochs: list[float | None]) -> list[Trial]:
    """Peak accuracy, and the epoch of low loss where it is reached."""
    return [
        Trial("none", VICTIM, defense, seed, {"peak_accuracy": peak, "accuracy": peak / 2}
              | ({} if epoch is None else {"first_epoch": epoch}))
        for seed, (peak, epoch) in enumerate(zip(peaks, epochs, strict=True))
    ]  # fmt: skip


def test_measures_that_no_victim_has_have_no_column() -> None:
    measures = {"none": (PEAK_ACCURACY, FIRST_EPOCH, STOPPED_CLEAN, ACCURACY)}
    some = [Trial("none", VICTIM, "none", 0, {"peak_accuracy": 0.5, "stopped_clean": 0.4})]
    titles = list(readable_of(tidy_results(some, measures), measures, ()).columns)
    # The main measure and the last one stay, known or not.
    shown = ("Peak accuracy", "Stopped by clean validation", "Test accuracy")
    assert titles[3:] == [f"{title} [95 % CI]" for title in shown]


def test_many_attacks_with_hardly_more_than_a_row_share_a_table() -> None:
    def headings(rows: list[str]) -> list[str]:
        return [heading for heading, _ in parts(pd.DataFrame({"Attack": rows, "Defense": "none"}))]

    assert headings(["a", "b", "c", "d"]) == headings(["a", "a", "b", "c", "d"]) == [""]
    assert headings(["a", "b"]) == ["a", "b"]
    assert headings(["a", "a", "b", "b", "c", "c"]) == ["a", "b", "c"]


def test_an_attack_without_a_goal_has_its_own_measures() -> None:
    results = tidy([*unlearnable("none", [0.25, 0.5], [3, 5]), *unlearnable("d", [0.75, 0.75], [8, None])])
    undefended, defended = row(results, "none", "none"), row(results, "d", "none")
    assert undefended["first_epoch"] == 4
    assert math.isnan(undefended["first_epoch_low"])
    assert (undefended["peak_accuracy_low"], undefended["peak_accuracy_high"]) == (0, 1)
    assert (defended["first_epoch"], defended["first_epoch_n"], defended["n"]) == (8, 1, 2)
    # Differences 0.5 and 0.25: 2 of 4 patterns.
    assert defended["p_none"] == pytest.approx(2 / 4)
    table = readable(results).set_index("Defense")
    assert table.loc["d", "Epochs to low loss"] == "8.0 (of 1)"
    assert table.loc["d", "Peak accuracy [95 % CI]"] == "75.0"  # equal with both seeds
    assert not [title for title in table.columns if "success" in title.lower()]


# --- several victims ----------------------------------------------------------------------------------------------


def on(victim: str, defense: str, successes: dict[int, float], accuracy: float = 0.9) -> list[Trial]:
    return [trial("gm", defense, seed, value, accuracy, victim=victim) for seed, value in successes.items()]


TWO = [
    *on("one", "none", {0: 1, 1: 1, 2: 1, 3: 0}, 0.8),
    *on("two", "none", {0: 1, 1: 1, 2: 0, 3: 0}, 0.6),
    *on("one", "d", {0: 0, 1: 0, 2: 0, 3: 0}),
    *on("two", "d", {0: 0, 1: 1, 2: 0}),
]


def test_victims_have_rows_and_tests_of_their_own() -> None:
    results = tidy(TWO)
    assert row(results, "none", victim="one")["success"] == 0.75
    assert row(results, "none", victim="two")["success"] == 0.5
    # Three of four seeds differ with the one victim, and one of three with the other, on which seed 3 is missing.
    assert row(results, "d", victim="one")["p_none"] == pytest.approx(2 / 8)
    assert row(results, "d", victim="two")["p_none"] == 1
    assert row(results, "d", victim="two")["p_none_holm"] == 1
    table = readable(results)
    assert table["Victim"].tolist() == ["one", "two", "one", "two"]
    assert "Victim" not in readable(tidy(NONE)).columns


def test_the_mean_over_victims_is_taken_seed_by_seed() -> None:
    results = tidy(TWO, mean_over_victims=True)
    none, defended = row(results, "none", victim="mean"), row(results, "d", victim="mean")
    assert (none["n"], none["success"]) == (4, (1 + 1 + 0.5 + 0) / 4)
    assert none["accuracy"] == pytest.approx(0.7)
    # Seed 3 lacks a victim.
    assert (defended["n"], defended["success"]) == (3, pytest.approx((0 + 0.5 + 0) / 3))
    # Half of a yes is no event: 1, 0.5 and 0.5 are differences of rates, of one sign.
    assert defended["p_none"] == pytest.approx(2 / 8)
    assert none["success_low"] != pytest.approx(wilson_by_hand(2, 4)[0])
    # The victims' own rows are what they are without it.
    without = tidy(TWO)
    pd.testing.assert_frame_equal(results[results["victim"] != "mean"].reset_index(drop=True), without)
    assert set(tidy(NONE, mean_over_victims=True)["victim"]) == {VICTIM}


def numbers(line: pd.Series) -> pd.Series:  # type: ignore[type-arg]
    """What was measured: all but who it is, and counts."""
    counts = [name for name in line.index if name.endswith("_n")]
    return line.drop(["attack", "victim", "defense", "control", "n", "diverged", *counts])


def test_a_seed_that_diverged_on_one_victim_is_no_seed_of_the_mean() -> None:
    gone = Trial("gm", "two", "d", 3, failed="the loss is nan at epoch 2, batch 5")
    with_it, without = (row(tidy(made, mean_over_victims=True), "d", victim="mean") for made in ([*TWO, gone], TWO))
    pd.testing.assert_series_equal(with_it, without, check_names=False)


# --- rows that nobody has run -----------------------------------------------------------------------------------------


def test_rows_that_are_expected_stand_first_and_in_their_order() -> None:
    measured = [*DEFENDED, *trials("bp", "extra", {0: 1.0}), *NONE]
    expected = [("bp", "none"), ("gm", "none"), ("gm", "later"), ("gm", "d")]
    results = tidy(measured, expected=expected)
    assert list(zip(results["attack"], results["defense"], strict=True)) == [*expected, ("bp", "extra")]
    assert results["n"].tolist() == [0, 8, 0, 8, 1]
    # The others are what they are without them.
    pd.testing.assert_frame_equal(
        results[results["n"] > 0].set_index(["attack", "defense"]).sort_index(),
        tidy(measured).set_index(["attack", "defense"]).sort_index(),
        check_dtype=False,
    )
    assert all(numbers(line).isna().all() for _, line in results[results["n"] == 0].iterrows())


def test_a_row_without_trials_is_shown_as_such() -> None:
    expected = [("gm", "none"), ("gm", "later")]
    results = tidy(NONE, {("gm", "none"): {"success": 0.9}, ("gm", "later"): {"success": 0.1}}, expected)
    table = readable(results)
    assert table["n"].tolist() == ["8", "0"]
    assert table["Published poison success"].tolist() == ["90.0 (inside)", ""]
    assert table["Poison success [95 % CI]"][1] == table["Test accuracy [95 % CI]"][1] == "–"
    assert table["p against none"].tolist() == ["", ""]
    costs = timing(results, "none")
    assert costs["Seconds"].tolist() == ["2.0", "–"]
    assert costs["Relative"].tolist() == ["1.00", ""]


def test_a_row_without_trials_takes_no_verdict_from_others() -> None:
    """One seed has no interval that a published accuracy could lie in."""
    expected = [("gm", "none"), ("gm", "later")]
    results = tidy(trials("gm", "none", {4: 1}), {("gm", "none"): {"accuracy": 0.9}}, expected)
    assert readable(results)["Published test accuracy"].tolist() == ["90.0", ""]


def test_a_study_in_which_nothing_was_run_has_all_its_rows() -> None:
    expected = [("gm", "none"), ("gm", "d"), ("bp", "none")]
    results = tidy([], expected=expected)
    assert results["n"].tolist() == [0, 0, 0]
    assert list(results.columns) == list(tidy(NONE).columns)
    table, costs = readable(results), timing(results, "none")
    # No column beyond those of every study.
    intervals = [f"{title} [95 % CI]" for title in ("Poison success", "Adversarial confidence", "Test accuracy")]
    shared = ["Attack", "Defense", "n", *intervals]
    assert list(table.columns) == [*shared, "p against none", "p against friends-bernoulli"]
    assert costs["Seconds"].tolist() == ["–", "–", "–"]
    for text in (markdown(table), latex(table), markdown(costs)):
        assert "nan" not in text
    assert tables_of(markdown(table))["gm"][1:] == [["none", "0", "–", "–", "–"], ["d", "0", "–", "–", "–"]]


# --- victims whose training diverged --------------------------------------------------------------------------------


def lost(attack: str, defense: str, seed: int) -> Trial:
    return Trial(attack, VICTIM, defense, seed, seconds=3.0, failed="the loss is nan at epoch 2, batch 5")


def test_a_victim_that_diverged_counts_for_nothing_but_itself() -> None:
    """The numbers are those of the study in which it was never run."""
    without = [*NONE, *(trial for trial in DEFENDED if trial.seed != DEFENDED[0].seed)]
    gone = lost("gm", "d", DEFENDED[0].seed)
    for order in ([*without, gone], [gone, *without]):
        results = tidy(order, expected=[("gm", "none"), ("gm", "d")])
        assert results["diverged"].tolist() == [0, 1]
        assert results["n"].tolist() == [len(NONE), len(DEFENDED) - 1]
        expected = tidy(without, expected=[("gm", "none"), ("gm", "d")])
        pd.testing.assert_frame_equal(results.drop(columns="diverged"), expected.drop(columns="diverged"))
    assert readable(results)["Diverged"].tolist() == ["", "1"]
    assert "Diverged" not in readable(expected)


def test_a_row_of_which_every_victim_diverged_has_no_numbers_and_is_shown() -> None:
    results = tidy([*NONE, lost("gm", "d", 0), lost("gm", "d", 1)])
    line = results[results["defense"] == "d"].iloc[0]
    assert (line["n"], line["diverged"]) == (0, 2)
    assert numbers(line).isna().all()
    table = readable(results)
    assert table["Diverged"].tolist() == ["", "2"]
    assert table["Poison success [95 % CI]"].tolist()[1] == "–"
    assert "nan" not in markdown(table)


def test_the_note_names_each_victim_that_diverged() -> None:
    (note,) = diverged([*NONE, lost("gm", "d", 7)])
    assert f"1 of {len(NONE) + 1} victims" in note
    assert f"gm/{VICTIM}/d, seed 7 (the loss is nan at epoch 2, batch 5)" in note
    assert diverged(NONE) == []


def test_the_note_names_rows_with_seeds_that_the_undefended_row_lacks() -> None:
    """With as many seeds as the undefended row, and none in common, n shows nothing."""
    none = [trial("gm", "none", seed, 0.0) for seed in (0, 1)]
    apart = [trial("gm", "d", seed, 0.0) for seed in (2, 3)]
    (note,) = unmatched([*none, *apart, trial("gm", "e", 1, 0.0)], "none")
    assert note.startswith(f"Seeds that 'none' lacks: gm/{VICTIM}/d (2 of 2). ")
    (partly,) = unmatched([*none, *apart, trial("gm", "d", 1, 0.0)], "none")
    assert f"gm/{VICTIM}/d (2 of 3)" in partly
    assert unmatched([*none, trial("gm", "d", 1, 0.0), trial("bp", "d", 3, 0.0)], "none") == []
    assert unmatched(apart, "none") == unmatched(apart, None) == []


# --- filters, detectors and privacy ---------------------------------------------------------------------------------


def found(attack: str, defense: str, counts: list[tuple[int, int, int, int] | None]) -> list[Trial]:
    """One seed per entry: poisons dropped and kept, clean examples dropped and kept."""
    return [
        trial(attack, defense, seed, 0.0, found=None if each is None else Detection(*each))
        for seed, each in enumerate(counts)
    ]


def test_false_alarms_are_a_share_of_images_however_many_targets_there_are() -> None:
    shares = [0.1, 0.2, 0.0]
    line = row(
        tidy([trial("gm", "strip", seed, 0.0, targets=1, false_alarms=share) for seed, share in enumerate(shares)]),
        "strip",
    )
    expected = mean_of_shares(shares)
    found = tuple(line[f"false_alarms{end}"] for end in ("", "_low", "_high"))
    assert found == pytest.approx((expected.estimate, expected.low, expected.high))


def test_what_was_dropped_is_a_mean_over_seeds() -> None:
    # Of 10 poisons and 90 clean examples: 8 and 2; 2 and 18.
    counts: list[tuple[int, int, int, int] | None] = [(8, 2, 2, 88), (2, 8, 18, 72)]
    results = tidy([*found("gm", "filter", counts), *NONE])
    line = row(results, "filter")
    assert line["poisons_found"] == pytest.approx((0.8 + 0.2) / 2)
    assert line["clean_dropped"] == pytest.approx((2 / 90 + 18 / 90) / 2)
    assert line["precision"] == pytest.approx((0.8 + 0.1) / 2)
    # The correlations of two yes or no: (8 * 88 - 2 * 2) / sqrt(10 * 10 * 90 * 90), and 2 * 72 = 8 * 18 for none.
    assert line["matthews"] == pytest.approx((700 / 900 + 0) / 2)
    names = ["poisons_found", "clean_dropped", "precision", "matthews"]
    assert row(results, "none")[names].isna().all()


def test_seeds_without_a_measure_do_not_count_for_it() -> None:
    """Without poisons there is no share of them; where nothing was dropped there is no precision."""
    results = tidy(
        [
            *found("gm", "clean", [(0, 0, 10, 90), (0, 0, 30, 70)]),
            *found("gm", "shy", [(0, 10, 0, 90), (5, 5, 15, 75)]),
            *found("gm", "late", [None, (5, 5, 5, 85)]),
            *found("gm", "never", [None, None]),
        ]
    )
    control, shy, late = row(results, "clean"), row(results, "shy"), row(results, "late")
    assert math.isnan(control["poisons_found"])
    assert math.isnan(control["matthews"])
    assert (control["clean_dropped"], control["precision"]) == (pytest.approx(0.2), 0)
    assert shy["poisons_found"] == pytest.approx((0 + 0.5) / 2)
    assert shy["clean_dropped"] == pytest.approx((0 + 15 / 90) / 2)
    assert shy["precision"] == pytest.approx(5 / 20)
    assert late["precision"] == pytest.approx(5 / 10)
    assert row(results, "never")[["poisons_found", "clean_dropped", "precision", "matthews"]].isna().all()
    table = readable(results)
    assert table["Poisons found"].tolist()[0] == table["Poisons found"].tolist()[3] == ""
    assert table["Precision"].tolist() == ["0.0", "25.0", "50.0", ""]
    assert "nan" not in markdown(table) + latex(table)


def tables_of(text: str) -> dict[str, list[list[str]]]:
    """The cells of each Markdown table, by the heading above it ("" without one)."""
    tables: dict[str, list[list[str]]] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|") and set(line) - set("|:- "):
            tables.setdefault(heading, []).append([cell.strip() for cell in line.strip("|").split("|")])
    return tables


def test_each_attack_has_a_table_with_the_columns_it_fills() -> None:
    results = tidy(
        [
            *(*NONE, *DEFENDED, *triggered("none", [1.0, 0.5]), *triggered("d", [0.0, 0.5])),
            *(*found("bp", "none", [None, None]), *found("bp", "filter", [(8, 2, 2, 88), (8, 2, 2, 88)])),
        ],
        {("gm", "d"): {"success": 0.2}},
    )
    table = readable(results)
    text = markdown(table, ["One note."])
    tables = tables_of(text)
    assert list(tables) == ["gm", "sa", "bp"]
    success, confidence, trigger, accurate = (
        f"{title} [95 % CI]"
        for title in ("Poison success", "Adversarial confidence", "Without trigger", "Test accuracy")
    )
    shared = ["Defense", "n", success, confidence, accurate]
    dropped = ["Poisons found", "Clean dropped", "Precision", "MCC"]
    assert tables["gm"][0] == [*shared, "p against none", "Published poison success"]
    assert tables["sa"][0] == ["Defense", "n", success, confidence, trigger, accurate, "p against none"]
    assert tables["bp"][0] == [*shared, "p against none", *dropped]
    assert [line[0] for line in tables["bp"][1:]] == ["none", "filter"]
    assert tables["bp"][1][-4:] == [""] * 4
    assert tables["bp"][2][-4:] == ["80.0", "2.2", "80.0", "0.78"]
    assert text.splitlines()[-1] == "- One note."
    # All in one, LaTeX has every column.
    tests = ["p against none", "p against friends-bernoulli"]
    assert set(table.columns) == {"Attack", *shared, *tests, trigger, *dropped, "Published poison success"}
    assert len([line for line in latex(table).splitlines() if line.endswith(r"\\")]) == 1 + len(results)


def test_a_single_attack_has_no_heading() -> None:
    tables = tables_of(markdown(readable(tidy([*NONE, *DEFENDED]))))
    assert list(tables) == [""]
    assert [line[0] for line in tables[""]] == ["Attack", "gm", "gm"]
    # One undefended row: there is nothing to test.
    assert "p against none" not in tables_of(markdown(readable(tidy(NONE))))[""][0]


# --- beside the paper ---------------------------------------------------------------------------------------------


def test_published_values_are_judged_by_our_interval() -> None:
    published = {("gm", "none"): {"success": 0.9, "accuracy": 0.2}, ("gm", "d"): {"success": 0.9}}
    results = tidy([*NONE, *DEFENDED], published)
    none, defended = row(results, "none"), row(results, "d")
    assert (none["published_success_inside"], none["published_accuracy_inside"]) == (True, False)
    assert defended["published_success_inside"] == False  # noqa: E712
    assert defended["published_accuracy_inside"] is None
    table = readable(results)
    assert table["Published poison success"].tolist() == ["90.0 (inside)", "90.0 (outside)"]
    assert table["Published test accuracy"].tolist() == ["20.0 (outside)", ""]
    assert "Published poison success" not in readable(tidy(NONE)).columns


@pytest.mark.parametrize("seeds", [{4: 1}, {4: 1, 5: 1}])
def test_a_published_value_beside_one_seed_or_equal_ones_has_no_verdict(seeds: dict[int, float]) -> None:
    results = tidy(trials("gm", "none", seeds), {("gm", "none"): {"accuracy": 0.7}})
    assert math.isnan(row(results, "none")["accuracy_low"])
    assert math.isnan(row(results, "none")["accuracy_high"])
    assert readable(results)["Published test accuracy"].tolist() == ["70.0"]


def test_readable_and_timing() -> None:
    results = tidy([*NONE, *DEFENDED, *trials("bp", "d", {0: 1.0}, seconds=3)])
    table = readable(results)
    low, high = wilson_by_hand(1, 8)
    assert table["Poison success [95 % CI]"][1] == f"12.5 [{100 * low:.1f}, {100 * high:.1f}]"
    assert table["p against none"].tolist() == ["", "0.031", ""]
    costs = timing(results, "none")
    assert costs["Seconds"].tolist() == ["2.0", "5.0", "3.0"]
    assert costs["Relative"].tolist() == ["1.00", "2.50", ""]
    unknown = tidy([*trials("gm", "none", {0: 1.0}, seconds=0), *trials("gm", "d", {0: 1.0}, seconds=3)])
    assert timing(unknown, "none")["Relative"].tolist() == ["", ""]
    tiny = results.assign(p_none_holm=1e-5)
    assert readable(tiny)["p against none"][0] == "< 0.001"


def test_times_are_relative_to_undefended_training_of_the_same_victim() -> None:
    cost = {("one", "none"): 2, ("two", "none"): 10, ("one", "d"): 4, ("two", "d"): 5}
    made = [replace(each, seconds=float(cost[each.victim, each.defense])) for each in TWO]
    costs = timing(tidy(made), "none").set_index(["Victim", "Defense"])["Relative"].to_dict()
    assert costs == {("one", "none"): "1.00", ("two", "none"): "1.00", ("one", "d"): "2.00", ("two", "d"): "0.50"}


def test_markdown_is_one_line_per_row_and_keeps_numbers_as_they_are() -> None:
    table = readable(tidy([*NONE, *DEFENDED]))
    text = markdown(table, ["One note.", "Another."])
    lines = text.splitlines()
    # Every column but the one that is empty all the way down, as FRIENDS-B was not run.
    assert set(table.pop("p against friends-bernoulli")) == {""}
    assert [len(line.split("|")) for line in lines[:4]] == [len(table.columns) + 2] * 4
    assert lines[-2:] == ["- One note.", "- Another."]
    for cell in table.to_numpy().flatten():
        assert cell in text


def test_latex_escapes_what_latex_would_interpret() -> None:
    table = pd.DataFrame({"A_b": ["50 %", "a & b"], "C": ["#1", "x_y"], "p": ["0.1", ""]})
    text = latex(table, ["100 % sure"])
    assert text.startswith("% 100 % sure\n")
    for escaped in (r"A\_b", r"50 \%", r"a \& b", r"\#1", r"x\_y"):
        assert escaped in text
    body = [line for line in text.splitlines()[1:] if line.rstrip().endswith(r"\\")]
    assert len(body) == 3
    assert all(line.replace(r"\&", "").count("&") == 2 for line in body)


def test_notes_of_several_lines_stay_notes() -> None:
    text = latex(pd.DataFrame({"a": ["1"], "b": ["2"]}), ["first\nsecond"])
    assert all(line.startswith("%") for line in text.splitlines() if "first" in line or "second" in line)


def test_less_than_survives_latex() -> None:
    assert "& < 0.001" not in latex(pd.DataFrame({"a": ["1"], "b": ["2"], "p": ["< 0.001"]}))


@given(st.lists(st.tuples(st.sampled_from(["none", "d", "clean"]), st.integers(0, 5), st.booleans()), min_size=1,
                max_size=12, unique_by=lambda t: t[:2]))  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_any_study_can_be_shown(cells: list[tuple[str, int, bool]]) -> None:
    results = tidy([trial("gm", d, s, float(ok), 0.8 + s / 100) for d, s, ok in cells])
    for _, line in results.iterrows():
        assert 0 <= line["success_low"] <= line["success"] <= line["success_high"] <= 1
        assert math.isnan(line["p_none"]) or 0 < line["p_none"] <= line["p_none_holm"] <= 1
    for text in (markdown(readable(results)), latex(readable(results)), markdown(timing(results, "none"))):
        assert "nan" not in text


def test_the_rows_of_each_attack_s_table_know_their_victims(tmp_path: Path) -> None:
    results = tidy([*NONE, *DEFENDED, *triggered("none", [1.0])])
    paths = {kind: tmp_path / f"table.{kind}" for kind in ("csv", "md", "tex", "json")}
    rows = list(zip(results["attack"], results["victim"], results["defense"], strict=True))
    write_table(paths, results, readable(results), [], [], [[row] for row in rows])
    for table in json.loads(paths["json"].read_text("utf-8"))["tables"]:
        place = table["columns"].index("Defense")
        found = [(row[place], counted) for row, counted in zip(table["rows"], table["victims"], strict=True)]
        assert found == [(row[2], [list(row)]) for row in rows if row[0] == table["heading"]]


def test_a_table_is_written_for_people_and_for_programs(tmp_path: Path) -> None:
    results = tidy([*NONE, *DEFENDED, *triggered("none", [1.0])])
    paths = {kind: tmp_path / f"table.{kind}" for kind in ("csv", "md", "tex", "json")}
    write_table(paths, results, readable(results), ["It works."], ["", "One note."])
    content = json.loads(paths["json"].read_text("utf-8"))
    assert (content["findings"], content["notes"]) == (["It works."], ["One note."])
    shown = tables_of(paths["md"].read_text("utf-8"))
    assert [table["heading"] for table in content["tables"]] == list(shown) == ["gm", "sa"]
    for table in content["tables"]:
        assert [table["columns"], *table["rows"]] == shown[table["heading"]]
        assert table["victims"] == [[]] * len(table["rows"])
    assert "- Finding: It works.\n- One note.\n" in paths["md"].read_text("utf-8")
    pd.testing.assert_frame_equal(pd.read_csv(paths["csv"])[["n", "success"]], results[["n", "success"]])


def side(some: Sequence[Trial], expected: Sequence[tuple[str, str, str]] = (), **more: Any) -> list[tuple[str, Any]]:
    results = tidy_results(some, MEASURES, COMPARE, None, expected, **more)
    return [
        (part.heading, [list(part.table.columns), *part.table.to_numpy().tolist()])
        for part in side_by_side(results, MEASURES)
    ]


def meet(attack: str, defense: str, success: float, accuracy: float, **more: Any) -> list[Trial]:
    return [trial(attack, defense, seed, float(seed < success), accuracy, **more) for seed in (0, 1)]


def test_defenses_stand_side_by_side_against_every_attack() -> None:
    some = [
        *meet("gm", "clean", 0, 0.95, control=True),
        *meet("gm", "none", 2, 0.9),
        *meet("gm", "d", 1, 0.8),
        *meet("bp", "none", 1, 0.7),
        *meet("bp", "d", 0, 0.6),
        *meet("gm", "only", 0, 0.5),  # faces one attack alone
        *meet("a", "none", 2, 0.4),  # meets one defense alone
    ]
    headings = ["Poison success against every attack, %", "Test accuracy against every attack, %"]
    columns = ["Defense", "gm", "bp"]
    assert side(some) == [
        (headings[0], [columns, ["clean", "0.0", ""], ["none", "100.0", "50.0"], ["d", "50.0", "0.0"]]),
        (headings[1], [columns, ["clean", "95.0", ""], ["none", "90.0", "70.0"], ["d", "80.0", "60.0"]]),
    ]
    # What has not been run is a dash, unless nobody has run any of it.
    expected = [("bp", VICTIM, "clean"), ("gm", VICTIM, "later"), ("bp", VICTIM, "later")]
    assert side(some, expected)[0][1][:2] == [["Defense", "bp", "gm"], ["clean", "–", "0.0"]]
    assert "later" not in {line[0] for line in side(some, expected)[0][1]}
    # One attack, or one defense, is no comparison.
    assert side(meet("gm", "none", 2, 0.9) + meet("gm", "d", 2, 0.9)) == []
    assert side(meet("gm", "none", 2, 0.9) + meet("bp", "none", 2, 0.9)) == []
    assert side([], expected) == []


def test_side_by_side_the_mean_stands_for_several_victims() -> None:
    some = [
        each
        for defense, success in (("none", 2), ("d", 0))
        for each in (
            *meet("gm", defense, success, 0.9, victim="x"),
            *meet("gm", defense, 0, 0.7, victim="y"),
            *meet("bp", defense, success, 0.9, victim="x"),
        )
    ]
    columns, none, _ = side(some)[0][1]
    assert (columns, none) == (["Defense", "gm on x", "gm on y", "bp"], ["none", "100.0", "0.0", "100.0"])
    columns, none, _ = side(some, mean_over_victims=True)[0][1]
    assert (columns, none) == (["Defense", "gm, mean over victims", "bp"], ["none", "50.0", "100.0"])
    results = tidy_results(some, MEASURES, COMPARE, mean_over_victims=True)
    assert side_by_side(results, MEASURES)[0].victims[0] == [("gm", "mean", "none"), ("bp", "x", "none")]


def test_side_by_side_victims_that_meet_several_attacks_have_tables_of_their_own() -> None:
    some = [
        each
        for victim, success in (("x", 2), ("y", 1))
        for attack, accuracy in (("gm", 0.9), ("bp", 0.8))
        for each in (
            *meet(attack, "none", success, accuracy, victim=victim),
            *meet(attack, "d", 0, 0.7, victim=victim),
        )
    ]
    made = side(some)
    assert [heading for heading, _ in made] == [
        f"{label} against every attack on {victim}, %"
        for victim in ("x", "y")
        for label in ("Poison success", "Test accuracy")
    ]
    assert [rows[1] for _, rows in made] == [
        ["none", "100.0", "100.0"],
        ["none", "90.0", "80.0"],
        ["none", "50.0", "50.0"],
        ["none", "90.0", "80.0"],
    ]
    assert made[0][1][0] == ["Defense", "gm", "bp"]


LINE_OF = {"knn-gm": "knn", "knn-bp": "knn", "svm-bp": "svm"}


def test_rows_of_other_attacks_share_a_line() -> None:
    """Each faces one attack only, and together they meet both; a line of one row alone is left out as before."""
    some = [
        *meet("gm", "none", 2, 0.9),
        *meet("gm", "knn-gm", 1, 0.8),
        *meet("bp", "none", 1, 0.7),
        *meet("bp", "svm-bp", 0, 0.5),
        *meet("bp", "knn-bp", 0, 0.6),
    ]
    results = tidy_results(some, MEASURES, COMPARE)
    assert side_by_side(results, MEASURES) == []
    success, accuracy = side_by_side(results, MEASURES, "none", LINE_OF)
    assert success.table.to_numpy().tolist() == [["none", "100.0", "50.0"], ["knn", "50.0", "0.0"]]
    assert accuracy.table.to_numpy().tolist() == [["none", "90.0", "70.0"], ["knn", "80.0", "60.0"]]
    assert success.victims[1] == [("gm", VICTIM, "knn-gm"), ("bp", VICTIM, "knn-bp")]
    assert joined_note([success, accuracy]) == ["Lines there, and the rows that they join: knn (knn-gm, knn-bp)."]
    assert joined_note([]) == []


def test_side_by_side_a_mean_over_fewer_seeds_than_undefended_says_so() -> None:
    def runs(attack: str, defense: str, *accuracies: float, **more: Any) -> list[Trial]:
        return [trial(attack, defense, seed, 1.0, value, **more) for seed, value in enumerate(accuracies)]

    some = [
        *runs("gm", "clean", 0.9, control=True),
        *runs("gm", "none", 0.9, 0.7),
        *runs("gm", "d", 0.6),
        *runs("bp", "none", 0.5),
        *runs("bp", "d", 0.4, 0.2),
    ]
    results = tidy_results(some, MEASURES, COMPARE)
    success, accuracy = (part.table.to_numpy().tolist() for part in side_by_side(results, MEASURES, "none"))
    assert accuracy == [["clean", "90.0 (n = 1)", ""], ["none", "80.0", "50.0"], ["d", "60.0 (n = 1)", "30.0"]]
    assert success == [["clean", "100.0 (n = 1)", ""], ["none", "100.0", "100.0"], ["d", "100.0 (n = 1)", "100.0"]]
    # Where nobody has run the undefended row, or there is none, the row with the most seeds counts as whole.
    later = [each for each in some if (each.attack, each.defense) != ("gm", "none")] + runs("gm", "e", 0.5, 0.7)
    results = tidy_results(later, MEASURES, COMPARE, None, [("gm", VICTIM, "none")])
    _, accuracy = (part.table.set_index("Defense")["gm"] for part in side_by_side(results, MEASURES, "none"))
    assert accuracy.to_dict() == {"none": "–", "clean": "90.0 (n = 1)", "d": "60.0 (n = 1)"}
    _, accuracy = (part.table.set_index("Defense")["bp"] for part in side_by_side(results, MEASURES))
    assert accuracy.to_dict() == {"none": "50.0 (n = 1)", "clean": "", "d": "30.0"}
