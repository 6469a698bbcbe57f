"""Only attacks that succeed undefended: counts of a made-up study against counts by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from loading import program
from made import MEASURES, put, stage, told, trial
from made import line as line_of

from poisonlab.config.filter_claim import FilterClaim
from poisonlab.config.measures import ACCURACY
from poisonlab.config.study import read_study
from poisonlab.evaluation.choosing import Claim
from poisonlab.evaluation.detection import Detection
from poisonlab.evaluation.filtering import enough_seeds, filter_findings
from poisonlab.evaluation.findings import results_findings
from poisonlab.evaluation.intervals import mean_of_shares, wilson
from poisonlab.evaluation.layouts import readable
from poisonlab.evaluation.paper_layout import compare, paper_layout, published_by_row, table_notes
from poisonlab.evaluation.published import published, read_paper
from poisonlab.evaluation.results import tidy_results
from poisonlab.evaluation.successes import attacks_with_hits, beside, hits, over_hits
from poisonlab.evaluation.trials import Trial
from poisonlab.figures.outcome import read_results
from poisonlab.graph.graph import Graph
from poisonlab.provenance import parse, spec

REFERENCE = Path(__file__).resolve().parents[2] / "reference" / "deep-knn"
SEEDS = range(4)
# Undefended successes of four seeds, on two victims: three hits and one.
UNDEFENDED = {"one": (1, 1, 1, 0), "two": (0, 1, 0, 0)}
# What is left of them after the filter, and how many of five poisons it found.
FILTERED = {"one": (1, 0, 0, 1), "two": (0, 0, 1, 0)}
FOUND = {"one": (3, 5, 5, 0), "two": (0, 4, 1, 5)}


def trials() -> list[Trial]:
    made = []
    for victim in ("one", "two"):
        for seed in SEEDS:
            found = FOUND[victim][seed]
            dropped = Detection(found, 5 - found, 10 * seed, 100 - 10 * seed)
            more: dict[str, Any] = {"victim": victim, "targets": 1}
            made.append(trial("a", "none", seed, UNDEFENDED[victim][seed], 0.9, **more))
            made.append(trial("a", "knn", seed, FILTERED[victim][seed], 0.88, found=dropped, **more))
    return made


def line(victim: str, defense: str, called: str = "") -> dict[str, Any]:
    return line_of("a", defense, tuple(SEEDS), victim, called=called or defense)


LINES = [line(victim, *row) for victim in ("one", "two") for row in (("none",), ("knn", "deep-knn"))]
ROWS = [(each["attack"], each["victim"], each["defense"]) for each in LINES]
OVER = over_hits(trials(), MEASURES, "none", {}, ROWS, mean_over_victims=True)


def of(victim: str, defense: str) -> dict[str, Any]:
    (found,) = OVER[(OVER["victim"] == victim) & (OVER["defense"] == defense)].to_dict("records")
    return {str(name): value for name, value in found.items()}


def test_hits_are_told_by_the_undefended_victim_of_the_same_seed() -> None:
    assert sorted((each.victim, each.seed) for each in hits(trials(), MEASURES, "none") if each.defense == "knn") == [
        ("one", 0),
        ("one", 1),
        ("one", 2),
        ("two", 1),
    ]
    # An undefended victim that diverged was not attacked successfully.
    diverged = [
        replace(each, measures={}, failed="the loss is nan") if (each.defense, each.seed) == ("none", 1) else each
        for each in trials()
    ]
    assert {(each.victim, each.seed) for each in hits(diverged, MEASURES, "none")} == {("one", 0), ("one", 2)}


def test_a_victim_s_success_and_counts_are_of_its_hits() -> None:
    found = of("one", "knn")
    by_wilson = wilson(1, 3)
    assert (found["n"], found["success"]) == (3, pytest.approx(1 / 3))
    assert (found["success_low"], found["success_high"]) == (by_wilson.low, by_wilson.high)
    assert (found["poisons_dropped"], found["poisons"]) == (13, 15)
    # 0, 10 and 20 of 100 clean images each.
    assert found["clean_dropped"] == pytest.approx(30 / 300)
    assert (found["clean_images_dropped"], found["clean_images"]) == (30, 300)
    assert (of("one", "none")["success"], of("two", "none")["n"]) == (1, 1)


def test_the_mean_is_over_victims_and_the_counts_are_sums() -> None:
    found = of("mean", "knn")
    # 1 of 3 and 0 of 1: not 1 of 4.
    assert (found["n"], found["success"]) == (4, pytest.approx((1 / 3 + 0) / 2))
    assert (found["poisons_dropped"], found["poisons"]) == (17, 20)
    assert (found["clean_images_dropped"], found["clean_images"]) == (40, 400)
    assert math.isnan(found["success_low"])


def test_an_attack_without_hits_has_none() -> None:
    nothing = [each for each in trials() if each.defense == "none" and each.measures["success"] == 0]
    assert over_hits(nothing, MEASURES, "none", {}, ROWS)["n"].tolist() == [0, 0, 0, 0]
    # A rate of many targets is no yes or no.
    rates = [trial("sa", "none", seed, 1.0, targets=50) for seed in SEEDS]
    assert hits(rates, MEASURES, "none") == []


def test_a_filter_that_drops_nothing_of_the_hits_found_none_of_their_poisons() -> None:
    # Seed 0 of victim "one" is a hit; only seed 3, which is none, loses images.
    made = [each for each in trials() if each.victim == "one" and each.seed in (0, 3)]
    none = Detection(0, 5, 0, 100)
    made = [replace(each, found=none) if (each.defense, each.seed) == ("knn", 0) else each for each in made]
    found = over_hits(made, MEASURES, "none", {}, ROWS[:2]).iloc[1]
    assert (found["n"], found["poisons_dropped"], found["poisons"], found["poisons_found"]) == (1, 0, 5, 0)
    # Without a filter nothing was looked for.
    assert math.isnan(over_hits(made, MEASURES, "none", {}, ROWS[:2]).iloc[0]["poisons"])


def test_the_study_s_table_has_all_seeds_and_the_hits_beside() -> None:
    results = tidy_results(trials(), MEASURES, ("none",), {}, ROWS, mean_over_victims=True)
    both = beside(results, OVER, {"a": MEASURES["a"]}, {"a"})
    assert both["n"].tolist() == [4] * 6
    assert list(both.columns)[-1] == "seconds"
    text = readable(both, {"a": MEASURES["a"]}, ("none",))
    row = text[(text["Victim"] == "one") & (text["Defense"] == "knn")].iloc[0]
    assert (row["n"], row["Hits"], row["Poisons found in hits"]) == ("4", "3", "13 of 15")
    assert row["Poison success of hits [95 % CI]"].startswith("33.3 [")
    assert row["Poison success [95 % CI]"].startswith("50.0 [")
    assert text[text["Victim"] == "mean"].iloc[1]["Poisons found in hits"] == "17 of 20"


def test_findings_say_that_published_values_are_compared_with_the_hits(tmp_path: Path) -> None:
    # Victim "one" has three hits of four seeds. The published 100 % lies in the interval of the hits alone.
    known = {("a", "one", "none"): {"success": 1.0}}
    own, every = {"a": MEASURES["a"]}, [each for each in trials() if each.victim == "one"]

    def finding(some: list[Trial]) -> str:
        over = over_hits(some, MEASURES, "none", known, ROWS[:2])
        both = beside(tidy_results(some, MEASURES, ("none",), known, ROWS[:2]), over, own, {"a"})
        both.to_csv(tmp_path / "results.csv", index=False)
        (told,) = results_findings(both, own, ("none",))
        assert results_findings(read_results(tmp_path / "results.csv", own), own, ("none",)) == [told]
        return told

    assert wilson(3, 4).high < 1
    assert finding(every).endswith("1 of 1 published values of poison success lie in our intervals of hits.")
    only = [each for each in every if each.seed < 3]
    assert finding(only).endswith("1 of 1 published values of poison success lie in our intervals.")


@pytest.mark.parametrize("first", ["a", "goalless"])
def test_attacks_of_other_measures_beside_leave_the_hits(first: str) -> None:
    """In either order; an attack without a hit has 0 of them, another kind of attack has none to count."""
    failing = [replace(each, attack="failing", measures={**each.measures, "success": 0.0}) for each in trials()]
    goalless = [replace(each, attack="goalless", measures={"accuracy": 0.4}, targets=None) for each in trials()]
    # Poisons that were read from files may have several targets; these have one.
    read = [replace(each, attack="read") for each in trials()]
    measures = {"a": MEASURES["a"], "failing": MEASURES["a"], "goalless": (ACCURACY,), "read": MEASURES["sa"]}
    measures = {first: measures[first], **measures}
    made = [*trials(), *failing, *goalless, *read]
    made.sort(key=lambda each: each.attack != first)
    rows = list(dict.fromkeys(each.key[:3] for each in made))
    over = over_hits(made, measures, "none", {}, rows)
    results = beside(tidy_results(made, measures, ("none",)), over, measures, attacks_with_hits(made, measures))
    text = readable(results, measures, ("none",)).set_index(["Attack", "Victim", "Defense"])
    for attack in ("a", "read"):
        assert text.loc[(attack, "one", "knn"), "Hits"] == "3"
        assert text.loc[(attack, "one", "knn"), "Poison success of hits [95 % CI]"].startswith("33.3 [")
    assert text.loc[("goalless", "one", "knn"), "Poison success of hits [95 % CI]"] == ""
    assert text.loc[("failing", "one", "knn"), "Hits"] == "0"
    assert text.loc[("goalless", "one", "knn"), ["Hits", "Poisons found in hits"]].tolist() == ["", ""]


def test_the_paper_s_table_counts_hits_and_shows_all_beside() -> None:
    numbers = published(REFERENCE)
    told = stage(LINES, compare=("none",), mean_over_victims=True, only_successes=True)
    compared, measures = compare(numbers[numbers["table"] == 2], trials(), told, [Claim(attack="a", table=2)])
    ours = compared[compared["our_defense"] == "knn"].iloc[0]
    assert (ours["n"], ours["all_n"]) == (4, 4)
    assert (ours["success"], ours["all_success"]) == (pytest.approx(1 / 6), pytest.approx(0.375))
    assert ours["poisons_found"] == pytest.approx(17 / 20)
    assert ours["published_poisons_found"] == 1
    # Tests are of all seeds: differences of 0, 1, 0 and -0.5 in any signs sum to 0.5 or more.
    assert ours["p_none_holm"] == 1
    assert [each.name for each in measures] == ["poisons_found", "clean_dropped", "success", "accuracy"]
    shown = paper_layout(compared, measures, read_paper(REFERENCE))
    row = shown.iloc[0]
    assert (row["Poisons found"], row["Published Poisons found"]) == ("17 of 20 (85.0)", "510 of 510 (100.0)")
    # The paper prints a share of the clean images.
    assert (row["Clean dropped"], row["Published Clean dropped"]) == ("40 of 400 (10.0)", "4.3")
    # Not part of the study; what was not looked for has no count.
    assert list(shown["Poisons found"])[1:] == ["–"] * 4
    assert list(shown["Published Poisons found"])[1:] == [
        *("509 of 510 (99.8)", "114 of 510 (22.4)", "47 of 510 (9.2)", "")
    ]
    assert (ours["clean_images"], ours["published_poisons_dropped"], ours["published_poisons"]) == (400, 510, 510)
    assert "Images dropped: sums over the hits" in " ".join(table_notes(read_paper(REFERENCE), 2, compared))
    # Over all seeds ours are shares, and the paper's counts stay.
    over_all, _ = compare(
        numbers[numbers["table"] == 2], trials(), stage(LINES, mean_over_victims=True), [Claim(attack="a", table=2)]
    )
    first = paper_layout(over_all, measures, read_paper(REFERENCE)).iloc[0]
    assert (first["Poisons found"], first["Published Poisons found"]) == ("–", "510 of 510 (100.0)")
    assert (row["Attack success"], row["n of all"]) == ("16.7", "4")
    assert row["Attack success of all"].startswith("37.5 [")


def test_published_numbers_stand_beside_the_hits() -> None:
    one = [each for each in trials() if each.victim == "one"]
    told = stage([each for each in LINES if each["victim"] == "one"], compare=("none",), only_successes=True)
    known = published_by_row(published(REFERENCE), [Claim(attack="a", table=1)], told)
    rows = [line.row for line in told.lines]
    results = tidy_results(one, MEASURES, ("none",), known, rows)
    both = beside(results, over_hits(one, MEASURES, "none", known, rows), {"a": MEASURES["a"]}, {"a"})
    row = both[both["defense"] == "knn"].iloc[0]
    assert (row["published_success"], row["published_success_inside"]) == (0, wilson(1, 3).contains(0))
    assert both["hit_n"].tolist() == [3, 3]


def test_an_attack_that_is_no_yes_or_no_keeps_its_numbers_and_the_published_ones() -> None:
    rates = [trial("a", row, seed, 0.5 + seed / 10, targets=50) for row in ("none", "knn") for seed in SEEDS]
    lines = [line_of("a", *row[:1], tuple(SEEDS), called=row[-1]) for row in (("none",), ("knn", "deep-knn"))]
    told = stage(lines, compare=("none",), only_successes=True)
    assert attacks_with_hits(rates, MEASURES) == set()
    assert attacks_with_hits(trials(), MEASURES) == {"a"}
    numbers = published(REFERENCE)
    compared, _ = compare(numbers[numbers["table"] == 1], rates, told, [Claim(attack="a", table=1)])
    ours = compared[compared["our_defense"] == "knn"].iloc[0]
    assert (ours["n"], ours["success"]) == (4, pytest.approx(0.65))
    assert math.isnan(ours["all_n"])
    known = published_by_row(numbers, [Claim(attack="a", table=1)], told)
    rows = [each.row for each in told.lines]
    results = tidy_results(rates, MEASURES, ("none",), known, rows)
    both = beside(results, over_hits(rates, MEASURES, "none", known, rows), {"a": MEASURES["a"]}, set())
    row = both[both["defense"] == "knn"].iloc[0]
    assert row["published_success"] == 0
    assert math.isnan(row["hit_n"])


def test_the_programs_write_hits_findings_and_what_they_mean(tmp_path: Path) -> None:
    put(tmp_path / "trials.csv", [replace(each, settings=f"settings of a/{each.defense}") for each in trials()])
    shared = ("--trials", str(tmp_path / "trials.csv"), "--reference", str(REFERENCE))
    more = {"mean_over_victims": True, "only_successes": True, "claims": [{"attack": "a", "table": 2}]}
    texts = {}
    for name, own in (("tables", CLAIMED), ("paper_table", {})):
        kinds = ("csv", "md", "tex", "json", *(("time", "costs") if name == "tables" else ()))
        outputs = [part for kind in kinds for part in (f"--{kind}", str(tmp_path / f"{name}.{kind}"))]
        program(name).main(["--spec", *spec(**told(LINES, ("none",), **more, **own)), *shared, *outputs])
        texts[name] = (tmp_path / f"{name}.md").read_text("utf-8")
        assert "Hits: the seeds on which the attack succeeds against 'none'" in texts[name]
    assert "knn finds 57.5 [" in texts["tables"]
    assert "99 % found for at most 1 points" in texts["tables"]
    assert "17 of 20" in texts["tables"]
    assert "Attack success of all" in texts["paper_table"]


CLAIMED = {"filter_claim": {"found": 0.99, "cost": 0.01}, "only_filters": ["knn"]}


# --- findings on filters ----------------------------------------------------------------------------------------


def filtered(row: str, found: tuple[int, ...], accuracy: float, attack: str = "a") -> list[Trial]:
    return [
        trial(attack, row, seed, 0, accuracy + 0.001 * seed, found=Detection(count, 50 - count, 2, 198))
        for seed, count in enumerate(found)
    ]


NONE = [trial("a", "none", seed, 1, 0.9) for seed in range(3)]


def test_each_attack_has_a_sentence_on_what_its_filters_find_and_cost() -> None:
    recall, lost = mean_of_shares([1.0, 0.9, 0.5]), mean_of_shares([0.01] * 3)
    both, few = (f"{100 * each.low:.1f}, {100 * each.high:.1f}" for each in (recall, lost))
    assert filter_findings([*NONE, *filtered("knn", (50, 45, 25), 0.88)], "none") == [
        f"a: knn finds 80.0 [{both}] % of the poisons (120 of 150, n = 3) and drops 1.0 [{few}] % of the clean images, "
        # Student's t of -2.0, -1.9 and -1.8 points.
        "test accuracy -1.9 [-2.1, -1.7] points."
    ]


def test_victims_of_one_seed_count_together() -> None:
    (text,) = filter_findings(trials(), "none")
    # By seed 3, 9, 6 and 5 of ten poisons.
    interval = mean_of_shares([0.3, 0.9, 0.6, 0.5])
    both = f"{100 * interval.low:.1f}, {100 * interval.high:.1f}"
    assert f"knn finds 57.5 [{both}] % of the poisons (23 of 40, n = 4)" in text
    assert "test accuracy -2.0 points" in text
    # Of two victims that lose one and three points, the seeds all lose two.
    points = {"one": 0.01, "two": -0.01}
    apart = [
        trial("a", "knn", each.seed, 0, 0.88 + points[each.victim], victim=each.victim, found=each.found)
        if each.defense == "knn"
        else each
        for each in trials()
    ]
    assert "test accuracy -2.0 points" in filter_findings(apart, "none")[0]


@pytest.mark.parametrize(
    ("found", "accuracy", "claim", "verdict"),
    [
        (
            *((50, 50, 50), 0.9, FilterClaim()),
            "99 % found for at most 1 points undecided, as fewer than 368 seeds cannot confirm that share",
        ),
        ((50, 50, 25), 0.9, FilterClaim(found=0.25), "25 % found for at most 1 points undecided"),
        ((50, 50, 50), 0.9, FilterClaim(found=0.25), "25 % found for at most 1 points confirmed"),
        # The interval of -1.1, -1.0 and -0.9 points holds the cost.
        ((50, 50, 50), 0.889, FilterClaim(found=0.25), "25 % found for at most 1 points undecided"),
        # So does that of -1.0, -0.9 and -0.8 points.
        ((50, 50, 50), 0.89, FilterClaim(found=0.25), "25 % found for at most 1 points undecided"),
        ((20, 20, 20), 0.9, FilterClaim(), "99 % found for at most 1 points contradicted"),
        ((50, 50, 50), 0.8, FilterClaim(found=0.25), "25 % found for at most 1 points contradicted"),
    ],
)
def test_a_claim_is_settled_by_intervals(
    found: tuple[int, ...], accuracy: float, claim: FilterClaim, verdict: str
) -> None:
    (text,) = filter_findings([*NONE, *filtered("knn", found, accuracy)], "none", claim, {"knn"})
    assert text.endswith(f"points: {verdict}.")


def test_a_row_that_does_more_than_filter_is_not_held_against_the_claim() -> None:
    """Its noise costs accuracy, which is no cost of the filter."""
    (text,) = filter_findings([*NONE, *filtered("knn-and-noise", (50, 50, 50), 0.8)], "none", FilterClaim(), {"knn"})
    assert text.endswith(" points.")
    values = yaml.safe_load((REFERENCE.parents[1] / "config" / "deep-knn-smoke.yaml").read_text("utf-8"))
    told_of = parse(Graph(read_study(values)).job("tables", {"scope": ""}).settings)
    assert {"deep-knn-collision", "svm-polytope"} <= set(told_of["only_filters"])
    assert not {"none", "friends-bernoulli", "deep-knn-friends-collision"} & set(told_of["only_filters"])


def test_so_many_seeds_without_a_miss_confirm_a_share_and_one_less_do_not() -> None:
    for share, count in ((0.25, 3), (0.9, 36), (0.99, 368)):
        assert enough_seeds(share) == count
        assert mean_of_shares([1.0] * count).low >= share > mean_of_shares([1.0] * (count - 1)).low
    assert math.isinf(enough_seeds(1))


def test_a_filter_that_drops_nothing_has_found_nothing() -> None:
    """As a one-class SVM of nu 0.01 in classes of 50; an empty cell would look as if nobody had looked."""
    blind = [trial("a", "svm", seed, 1, 0.9, found=Detection(0, 5, 0, 495), filters=True) for seed in range(3)]
    (text,) = filter_findings([*NONE, *blind], "none", FilterClaim(), {"svm"})
    assert "svm finds 0.0 [" in text
    assert text.endswith("99 % found for at most 1 points contradicted.")
    line = tidy_results([*NONE, *blind], MEASURES).iloc[1]
    assert (line["poisons_found"], line["clean_dropped"]) == (0, 0)
    over = over_hits([*NONE, *blind], MEASURES, "none").iloc[1]
    assert (over["poisons_dropped"], over["poisons"], over["poisons_found"], over["clean_dropped"]) == (0, 15, 0, 0)
    # The study says which rows filter.
    values = yaml.safe_load((REFERENCE.parents[1] / "config" / "deep-knn-smoke.yaml").read_text("utf-8"))
    lines = parse(Graph(read_study(values)).job("tables", {"scope": ""}).settings)["lines"]
    filtering = {each["defense"] for each in lines if each.get("filters")}
    assert {"svm-polytope", "deep-knn-friends-collision"} <= filtering
    assert not {"none", "friends-bernoulli", "robust-features"} & filtering


def test_a_training_set_that_is_poisoned_whole_has_no_clean_images_to_drop() -> None:
    whole = [trial("a", "epic", seed, 0, 0.9, found=Detection(20, 180, 0, 0)) for seed in range(3)]
    (text,) = filter_findings([*NONE, *whole], "none")
    assert "(60 of 600, n = 3), test accuracy" in text
    assert "clean" not in text


def test_rows_that_drop_nothing_or_meet_no_poisons_have_no_sentence() -> None:
    nothing = [trial("a", "f", 0, 0, found=Detection(0, 5, 0, 95)), trial("a", "g", 0, 0, found=Detection(0, 0, 5, 95))]
    assert filter_findings([*NONE, *nothing], "none") == []
    (alone,) = filter_findings(filtered("knn", (50,), 0.9), None)
    assert "accuracy" not in alone
