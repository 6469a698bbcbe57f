"""Claims on poisons of whole training sets: verdicts on made-up trials, by hand, and on the published numbers."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from scipy import stats

from poisonlab.config.measures import ACCURACY, FIRST_EPOCH, PEAK_ACCURACY
from poisonlab.config.poison_claims import PoisonClaims
from poisonlab.config.study import read_study
from poisonlab.errors import SettingsError
from poisonlab.evaluation.correlations import Correlation, correlation
from poisonlab.evaluation.intervals import Interval
from poisonlab.evaluation.poison_claims import does_not_tell, no_stronger, poison_findings, rises
from poisonlab.evaluation.published import published
from poisonlab.evaluation.results import tidy_results
from poisonlab.evaluation.trials import Trial, read_trials
from poisonlab.graph.graph import Graph
from poisonlab.provenance import parse

ROOT = Path(__file__).resolve().parents[2]
MEASURES = (PEAK_ACCURACY, FIRST_EPOCH, ACCURACY)


def outcome(attack: str, seed: int, epoch: float | None, peak: float, final: float, **more: Any) -> Trial:
    measures = {"peak_accuracy": peak, "accuracy": final} | ({} if epoch is None else {"first_epoch": epoch})
    who = {"victim": "net", "defense": "none", **more}
    return Trial(attack, who["victim"], who["defense"], seed, measures)


def findings(trials: Sequence[Trial], *stronger: Sequence[str], known: Any = None) -> list[str]:
    results = tidy_results(trials, {trial.attack: MEASURES for trial in trials}, ("none",), known)
    return poison_findings(
        results,
        trials,
        "none",
        PoisonClaims(stronger={f"s{place}": tuple(names) for place, names in enumerate(stronger)}),
    )


def study(count: int, peak: Callable[[int], float], final: Callable[[int], float]) -> list[Trial]:
    """Attack a0, a1, ... are learned after 1, 2, ... epochs; two seeds that differ little."""
    return [
        outcome(f"a{place}", seed, place + 1, peak(place) + seed / 1000, final(place))
        for place in range(count)
        for seed in (0, 1)
    ]


IN_NO_ORDER = {place: (7 * place % 12) / 20 for place in range(12)}
"""In no order."""


def test_the_sooner_the_lower_is_confirmed_and_its_reverse_contradicts_it() -> None:
    rising = findings(study(12, lambda place: 0.1 + place / 20, lambda place: 0.5))
    falling = findings(study(12, lambda place: 0.9 - place / 20, lambda place: 0.5))
    mixed = findings(study(12, lambda place: IN_NO_ORDER[place], lambda place: 0.5))
    told = "Poisons that are learned faster leave a lower peak accuracy: "
    assert [each[0].removeprefix(told).split(".")[0] for each in (rising, falling, mixed)] == [
        *("confirmed", "contradicted", "undecided")
    ]
    assert "of 12 attacks under none, victim net: Spearman's correlation 1.00 [1.00, 1.00]" in rising[0]
    expected = stats.spearmanr(range(12), [IN_NO_ORDER[place] for place in range(12)]).statistic
    assert f"Spearman's correlation {expected:.2f} [" in mixed[0]


def test_the_final_accuracy_tells_the_peak_or_does_not() -> None:
    tells = findings(study(12, lambda place: 0.1 + place / 20, lambda place: 0.1 + place / 30))
    # The finals of forty attacks are in no order: the interval is narrow enough to say so.
    silent = findings(study(40, lambda place: 0.1 + place / 80, lambda place: (17 * place % 40) / 80))
    told = "The final accuracy does not tell the peak: "
    assert [each[1].removeprefix(told).split(".")[0] for each in (tells, silent)] == ["contradicted", "confirmed"]
    assert "between -0.8 and 0.8" in tells[1]


def test_four_attacks_settle_nothing_and_five_may() -> None:
    for count, word in ((4, "undecided"), (5, "confirmed")):
        found = findings(study(count, lambda place: 0.1 + place / 20, lambda place: 0.5))
        assert found[0].startswith(f"Poisons that are learned faster leave a lower peak accuracy: {word}.")
    # By hand: of the 24 orders of four, two are perfect, and of the 120 of five, two.
    assert 2 / math.factorial(4) > 0.05 > 2 / math.factorial(5)


def test_a_poison_that_is_not_learned_with_every_seed_is_the_slowest() -> None:
    """Leaving it out, or counting the seed that did learn it, would hide just the poisons that the claim is about."""
    made = study(6, lambda place: place / 10, lambda place: 0.5)
    half = [outcome("half", 0, 1, 0.05, 0.5), outcome("half", 1, None, 0.05, 0.5)]
    found = findings([*made, outcome("slow", 0, None, 0.9, 0.9), *half])[0]
    expected = stats.spearmanr([1, 2, 3, 4, 5, 6, 9, 9], [*(place / 10 for place in range(6)), 0.9, 0.05]).statistic
    assert f"of 8 attacks under none, victim net: Spearman's correlation {expected:.2f} [" in found
    assert found.endswith(
        "Tied as the slowest and not in Pearson's, as their loss was not low with every seed: 2 of 8 attacks (slow, "
        "half). Of the attacks whose loss was low (n = 6): Spearman's correlation 1.00 [1.00, 1.00] (p 0.003 by "
        "permutation)."
    )
    never = findings([outcome(f"a{place}", 0, None, place / 10, 0.5) for place in range(6)])[0]
    assert "peak accuracy: undecided. Epochs to low loss and peak accuracy of 6 attacks" in never
    assert never.endswith("Of the attacks whose loss was low (n = 0): no correlation.")


def test_attacks_that_are_tied_do_not_hide_how_the_others_are_ordered() -> None:
    """Eight tied attacks with high peaks make the correlation rise, whatever the order of the seven others."""
    tied = [outcome(f"slow{place}", 0, None, 0.8 + place / 100, 0.5) for place in range(8)]
    peaks = (0.4, 0.2, 0.5, 0.1, 0.6, 0.3, 0.35)
    found = findings([*tied, *(outcome(f"a{place}", 0, 1 + place, peak, 0.5) for place, peak in enumerate(peaks))])[0]
    # By hand: ranks 5, 2, 6, 1, 7, 3, 4 beside 1 to 7; squared differences 16, 0, 9, 9, 4, 9, 9; 1 - 6 * 56 / 336 = 0.
    assert "confirmed" in found
    assert "slowest and not in Pearson's, as their loss was not low with every seed: 8 of 15 attacks (slow0, " in found
    assert "Of the attacks whose loss was low (n = 7): Spearman's correlation 0.00 [-" in found.replace("-0.00", "0.00")


def stops(attack: str, *pairs: tuple[float, float], **more: Any) -> list[Trial]:
    """A seed for each pair of test accuracies, stopped by clean and by poisoned validation images."""
    made = [outcome(attack, seed, 1, 0.5, 0.5, **more) for seed in range(len(pairs))]
    return [
        replace(trial, measures={**trial.measures, "stopped_clean": clean, "stopped_poisoned": poisoned})
        for trial, (clean, poisoned) in zip(made, pairs, strict=True)
    ]


def test_stopping_on_poisoned_validation_images_costs_accuracy() -> None:
    trials = [
        *stops("r128", (0.40, 0.20), (0.42, 0.20)),
        *stops("even", (0.50, 0.50), (0.60, 0.60)),
        *stops("wide", (0.60, 0.40), (0.40, 0.50)),
        *stops("once", (0.30, 0.36)),
        *stops("more", (0.30, 0.28), (0.30, 0.29)),
        *stops("r128", (0.90, 0.10), (0.90, 0.10), defense="jpeg"),
        *stops("r128", (0.90, 0.10), (0.90, 0.10), victim="other"),
        outcome("bare", 0, 1, 0.5, 0.5),
    ]
    # By hand: two seeds, each d from their mean, have an interval of 12.706 d to each side, cut to 100 points.
    # r128: 20 and 22 points.
    assert findings(trials)[2] == (
        "Test accuracy lost in points by early stopping on poisoned in place of clean validation images, of 5 attacks "
        "under none, victim net; largest differences: r128 +21.0 [+8.3, +33.7] (n = 2), once -6.0 (n = 1), "
        "wide +5.0 [-100.0, +100.0] (n = 2), more +1.5 [-4.9, +7.9] (n = 2); 1 more from +0.0 to +0.0. "
        # Of four at once, 98.75 % each: 50.9 to each side of r128.
        "The interval excludes 0 for 1 of 4 attacks, at 95 % each, and for 0 with intervals that hold for all at once."
    )
    assert stats.t.ppf(1 - 0.05 / 4 / 2, 1) == pytest.approx(50.9, abs=0.05)
    assert findings(stops("once", (0.3, 0.2)))[2].endswith(
        "largest differences: once +10.0 (n = 1). One seed of each gives no interval."
    )
    assert len(findings([outcome("bare", 0, 1, 0.5, 0.5)])) == 2


def test_a_cost_that_is_equal_with_every_seed_excludes_nothing() -> None:
    """Two seeds that lose 3 points each say nothing about a third."""
    trials = [*stops("same", (0.60, 0.57), (0.50, 0.47)), *stops("apart", (0.40, 0.20), (0.42, 0.20))]
    assert findings(trials)[2].endswith(
        "largest differences: apart +21.0 [+8.3, +33.7] (n = 2), same +3.0 (n = 2). The interval excludes 0 for 1 of 2 "
        "attacks, at 95 % each, and for 0 with intervals that hold for all at once."
    )


@pytest.mark.parametrize("victim", ["plain", "small"])
def test_the_committed_trials_tell_the_costs_of_stopping(victim: str) -> None:
    """The same means by a loop over the lines of the file."""
    path = ROOT / "results/reference/learned-faster-mini-cpu/learned-faster-mini-trials.csv"
    costs: dict[str, list[float]] = {}
    with path.open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            told = line["stopped_clean"] and line["stopped_poisoned"]
            if (line["victim"], line["defense"]) == (victim, "none") and told:
                cost = 100 * (float(line["stopped_clean"]) - float(line["stopped_poisoned"]))
                costs.setdefault(line["attack"], []).append(cost)
    means = {attack: sum(values) / len(values) for attack, values in costs.items()}
    (sentence,) = (
        each
        for each in findings(read_trials(path))
        if each.startswith("Test accuracy lost in points") and f"victim {victim};" in each
    )
    for attack in sorted(means, key=lambda name: -abs(means[name]))[:4]:
        assert f"{attack} {means[attack]:+.1f} [" in sentence
    assert f"of {len(means)} attacks" in sentence


def pairs(*peaks: tuple[str, Sequence[float]]) -> list[Trial]:
    return [outcome(name, seed, 3, peak, 0.5) for name, values in peaks for seed, peak in enumerate(values)]


WEAK = ("p10", (0.80, 0.81, 0.82, 0.83, 0.84))
LOWER, HIGHER = ("p100", (0.40, 0.42, 0.41, 0.44, 0.43)), ("p250", (0.55, 0.57, 0.57, 0.58, 0.58))


def test_one_pair_that_rises_confirms_and_only_falling_ones_contradict() -> None:
    told = "Stronger attacks are no stronger poisons: "
    up = findings(pairs(WEAK, LOWER, HIGHER), ("p10", "p100", "p250"))[2]
    down = findings(pairs(WEAK, LOWER), ("p10", "p100"))[2]
    # Their seeds differ more than the attacks do.
    open_one = findings(pairs(WEAK, ("p100", (0.84, 0.80, 0.83, 0.81, 0.82))), ("p10", "p100"))[2]
    # The second pair has not been run: it may rise.
    unfinished = findings(pairs(WEAK, LOWER), ("p10", "p100", "p250"))[2]
    assert unfinished.startswith(f"{told}undecided. ")
    one_seed = findings([each for each in pairs(WEAK, LOWER) if each.seed == 0], ("p10", "p100"))[2]
    assert [each.removeprefix(told).split(".")[0] for each in (up, down, open_one, one_seed)] == [
        *("confirmed", "contradicted", "undecided", "undecided")
    ]
    assert one_seed.endswith("p10 to p100 -40.0 (n = 1).")
    assert "intervals that hold for all 2 pairs at once: " in up
    assert "at once" not in down
    # No accuracy changes by more than 100 points.
    far = findings(pairs(("p10", (0.80, 0.60)), ("p100", (0.50, 0.70))), ("p10", "p100"))[2]
    assert far.endswith("p10 to p100 -10.0 [-100.0, +100.0] (n = 2).")
    # Two pairs share the 5 %.
    changes = [100 * (two - one) for one, two in zip(LOWER[1], HIGHER[1], strict=True)]
    low, high = stats.t.interval(0.975, 4, sum(changes) / 5, stats.sem(changes))
    assert f"p100 to p250 {sum(changes) / 5:+.1f} [{low:+.1f}, {high:+.1f}] (n = 5)" in up


@pytest.mark.parametrize("change", [0.002, -0.1])
def test_changes_that_are_equal_with_two_seeds_settle_nothing(change: float) -> None:
    trials = pairs(("p10", [0.5, 0.6]), ("p100", [0.5 + change, 0.6 + change]))
    text = findings(trials, ["p10", "p100"])[2]
    assert "no stronger poisons: undecided" in text
    assert f"p10 to p100 {100 * change:+.1f} (n = 2)." in text


def test_only_seeds_that_both_have_count_and_no_other_row_or_victim() -> None:
    trials = [
        *pairs(WEAK, ("p100", (0.4,))),
        outcome("p100", 9, 3, 0.1, 0.1),
        outcome("p100", 1, 3, 0.1, 0.1, defense="jpeg"),
        outcome("p100", 1, 3, 0.1, 0.1, victim="other"),
    ]
    assert findings(trials, ("p10", "p100"))[2].endswith("p10 to p100 -40.0 (n = 1).")
    apart = findings([*pairs(WEAK), outcome("p100", 9, 3, 0.1, 0.1)], ("p10", "p100"))[2]
    assert apart.endswith("undecided. No pair of attacks has a seed in common.")


def test_attacks_are_compared_on_the_victim_that_most_of_them_have() -> None:
    few = [outcome(f"a{place}", 0, place, 0.5, 0.5, victim="first") for place in range(2)]
    found = findings([*few, *study(6, lambda place: place / 10, lambda place: 0.5)])
    assert "of 6 attacks under none, victim net" in found[0]
    assert not any("victim first" in each for each in found)


def test_every_victim_that_as_many_attacks_meet_has_its_sentences() -> None:
    one, other = study(6, lambda place: place / 10, lambda place: 0.5), study(6, lambda place: 0.9 - place / 10, float)
    found = findings([*one, *(replace(trial, victim="other") for trial in other)])
    (rising, falling) = (each for each in found if each.startswith("Poisons that are learned faster"))
    assert "confirmed. Epochs to low loss and peak accuracy of 6 attacks under none, victim net" in rising
    assert "contradicted. Epochs to low loss and peak accuracy of 6 attacks under none, victim other" in falling


def test_nothing_is_said_without_claims_or_without_a_row() -> None:
    trials = study(6, lambda place: place / 10, lambda place: 0.5)
    results = tidy_results(trials, {trial.attack: MEASURES for trial in trials}, ("none",))
    assert poison_findings(results, trials, "none", None) == []
    assert poison_findings(results, trials, "jpeg", PoisonClaims()) == []
    assert poison_findings(results.drop(columns="peak_accuracy"), trials, "none", PoisonClaims()) == []


def test_the_published_numbers_leave_two_claims_undecided() -> None:
    """Table 1 has 25 poisons, one run each, and no epochs."""
    numbers = published(ROOT / "reference/learned-faster")
    numbers = numbers[numbers["table"] == 1]
    rows = list(dict.fromkeys(numbers["row"]))
    known = {
        (row.lower(), "net", "none"): dict(zip(part["measure"], part["value"], strict=True))
        for row, part in numbers.groupby("row")
    }
    trials = [outcome(row.lower(), 0, 1 + place, place / 100, 0.5) for place, row in enumerate(rows)]
    series = yaml.safe_load((ROOT / "config/learned-faster.yaml").read_text("utf-8"))["poison_claims"]["stronger"]
    final, steps = findings(trials, *series.values(), known=known)[3:]
    table = pd.pivot_table(numbers, index="row", columns="measure", values="value")
    estimate = stats.spearmanr(table["accuracy"], table["peak_accuracy"]).statistic
    assert estimate == pytest.approx(0.53, abs=0.005)
    assert final.startswith("Published, the final accuracy does not tell the peak: ")
    assert f"Both of 25 attacks: Spearman's correlation {estimate:.2f} [" in final
    assert final.split(".")[0].endswith("undecided")
    # By hand from table 1: 83.43, 45.02, 57.30; 71.18, 69.05, 70.20; 87.09, 83.82, 80.31.
    assert steps.endswith(
        "rises in 2 of 6 pairs: p10 to p100 -38.4; p100 to p250 +12.3; m10 to m100 -2.1; m100 to m250 +1.2; "
        "fc to fcs -3.3; fcs to fcsd -3.5 points."
    )


@pytest.mark.parametrize(
    ("low", "high", "n", "rising", "silent"),
    [
        (0.1, 0.9, 9, "confirmed", "undecided"),
        (-0.9, -0.1, 9, "contradicted", "undecided"),
        (-0.1, 0.7, 9, "undecided", "confirmed"),
        (0.81, 1.0, 9, "confirmed", "contradicted"),
        (-1.0, -0.81, 9, "contradicted", "contradicted"),
        (0.81, 1.0, 4, "undecided", "undecided"),
        (math.nan, math.nan, 9, "undecided", "undecided"),
    ],
)
def test_the_rules(low: float, high: float, n: int, rising: str, silent: str) -> None:
    ranks = Interval((low + high) / 2, low, high, n)
    found = Correlation(ranks, ranks, math.nan if math.isnan(low) else 0.04)
    assert (rises(found), does_not_tell(found, 0.8)) == (rising, silent)
    assert no_stronger([], 0) == "undecided"
    # One pair falls, and the other may rise.
    assert no_stronger([Interval(-0.2, -0.3, -0.1, 9), Interval(0.0, -0.1, 0.1, 9)], 2) == "undecided"


def test_a_resample_of_equal_pairs_has_no_correlation() -> None:
    """By hand: 0.8^5 and 0.2^5 of the resamples, a third of all, hold one of the two different pairs alone."""
    found = correlation([0, 0, 0, 0, 1], [0, 0, 0, 0, 1])
    for each in (found.pearson, found.spearman):
        assert (each.estimate, each.low, each.high) == (pytest.approx(1), 0, pytest.approx(1))


def test_the_config_names_its_attacks() -> None:
    values = yaml.safe_load((ROOT / "config/learned-faster-smoke.yaml").read_text("utf-8"))
    read = read_study(values)
    told = parse(Graph(read, str(ROOT)).job("tables", {"scope": ""}).settings)["poison_claims"]
    assert told == {"close": 0.8, "stronger": values["poison_claims"]["stronger"]}
    goal = {"name": "gm", "method": "gradient-matching", "surrogate": values["surrogates"][0]["name"]}
    with_goal = {"attacks": [*values["attacks"], goal], "poison_claims": {"stronger": {"a": ["p10", "gm"]}}}
    for wrong, words in (
        (with_goal, "poison_claims.stronger names attack 'gm', which is not one of those without a goal"),
        ({"poison_claims": {"stronger": {"a": ["p10", "p1"]}}}, "poison_claims.stronger names attack 'p1'"),
        ({"poison_claims": {"stronger": {"a": ["p10"]}}}, "poison_claims.stronger.a"),
        ({"poison_claims": {"stronger": {"a": ["p10", "p10"]}}}, "lists a name twice"),
        ({"poison_claims": {"stronger": {"a.b": ["p10", "p100"]}}}, "poison_claims.stronger"),
        ({"compare": []}, "name their row first in compare"),
    ):
        with pytest.raises(SettingsError) as caught:
            read_study({**values, **wrong})
        assert words in str(caught.value)
