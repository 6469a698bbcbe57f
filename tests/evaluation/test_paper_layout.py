"""The published tables in their own layout: which of our rows stands for which line, and what is said of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from made import VICTIM, stage, trial
from made import line as line_of

from poisonlab.config.measures import ACCURACY, PEAK_ACCURACY, SUCCESS
from poisonlab.config.study import Study, read_study
from poisonlab.evaluation.choosing import AttackMeasures, Claim, Line, Shown
from poisonlab.evaluation.layouts import markdown
from poisonlab.evaluation.paper_layout import compare as compare_of
from poisonlab.evaluation.paper_layout import counted_victims, paper_layout, published_by_row, table_notes
from poisonlab.evaluation.published import published, read_paper
from poisonlab.evaluation.trials import Trial

ROOT = Path(__file__).resolve().parents[2]
NUMBERS, FRIENDS = published(ROOT / "reference" / "friends"), read_paper(ROOT / "reference" / "friends")
SEEDS = (0, 1, 2, 3)


def table(number: int) -> pd.DataFrame:
    return NUMBERS[NUMBERS["table"] == number]


def line(attack: str, defense: str, called: str | None = None, victim: str = VICTIM) -> dict[str, Any]:
    return line_of(attack, defense, SEEDS, victim, called=called or defense)


def trials(attack: str, defense: str, successes: tuple[float, ...], accuracy: float, seconds: float) -> list[Trial]:
    return [
        trial(attack, defense, seed, success, accuracy + seed / 100, seconds, control=defense == "clean")
        for seed, success in zip(SEEDS, successes, strict=False)
    ]


def claim(number: int, attack: str = "gm", **more: Any) -> Claim:
    return Claim(attack=attack, table=number, **more)


def compare(number: int, some: list[Trial], lines: list[dict[str, Any]], *claims: Claim, **more: Any) -> pd.DataFrame:
    return compare_of(table(number), some, stage(lines, **more), claims)[0]


def shown(number: int, *claims: Claim) -> pd.DataFrame:
    return paper_layout(*compare_of(table(number), TRIALS, stage(LINES), claims), FRIENDS)


LINES = [line("gm", name) for name in ("clean", "none", "friends-bernoulli", "mine")] + [line("gm", "half", "ap-0.5")]
TRIALS = [
    *trials("gm", "clean", (0, 0, 0, 0), 0.9, 10),
    *trials("gm", "none", (1, 1, 1, 1), 0.9, 10),
    *trials("gm", "friends-bernoulli", (0, 0, 0, 0), 0.90, 15),
    *trials("gm", "half", (1, 0), 0.95, 60),
]


def test_every_published_line_stands_once_and_in_order() -> None:
    compared = compare(1, TRIALS, LINES, claim(1))
    printed = list(dict.fromkeys(table(1)["row"]))
    assert list(compared["row"])[: len(printed)] == printed
    # Then what the paper does not have.
    assert list(compared["defense"])[len(printed) :] == ["clean", "none", "mine"]
    found = compared.set_index("row")
    assert found.loc["AP-0.5", "our_defense"] == "half"
    assert found.loc["AP-0.5", "n"] == 2
    assert found.loc["AP-0.5", "success"] == 0.5
    assert found.loc["AP-0.5", "relative_time"] == pytest.approx(6)
    assert found.loc["AP-0.5", "published_success"] == pytest.approx(0.10)
    assert found.loc["AP-0.5", "published_minutes"] == 221
    # Wilson's interval of 1 in 2 is [0.09, 0.91]; accuracies 0.95 and 0.96 have t(1) = 12.7: +- 6.4 points.
    assert bool(found.loc["AP-0.5", "published_success_inside"])
    assert bool(found.loc["AP-0.5", "published_accuracy_inside"])
    # 0.90, 0.91, 0.92, 0.93: 0.915 +- 3.18 * 0.0129 / 2, the published 0.9152 amid it.
    assert found.loc["FRIENDS-B", "accuracy"] == pytest.approx(0.915)
    assert bool(found.loc["FRIENDS-B", "published_accuracy_inside"])
    missing = found.loc["AP-0.75"]
    assert missing["n"] == 0
    assert math.isnan(missing["success"])
    assert missing["published_success_inside"] is None


def test_others_are_tested_against_friends_b_and_controls_are_not() -> None:
    compared = compare(1, TRIALS, LINES, claim(1)).set_index("defense")
    # Four of four against none of four: exact McNemar 2 / 2^4; half shares two seeds, one differs: p = 1. Holm doubles.
    assert compared.loc["none", "p_friends-bernoulli_holm"] == pytest.approx(2 * 2 / 2**4)
    assert compared.loc["ap-0.5", "p_friends-bernoulli_holm"] == 1
    assert math.isnan(compared.loc["friends-bernoulli", "p_friends-bernoulli_holm"])
    assert math.isnan(compared.loc["clean", "p_friends-bernoulli_holm"])


def test_a_table_with_several_attacks_has_its_defenses_side_by_side() -> None:
    row = "Gradient Matching (xi = 16) | From-scratch"
    text = shown(3, claim(3, row=row))
    assert len(text) == table(3)["row"].nunique() == 6
    ours = text.set_index("Row").loc["Gradient Matching (xi = 16), From-scratch"]
    assert ours["Undefended: n"] == "4"
    assert ours["Undefended: Poison Acc."].startswith("100.0 [")
    assert ours["Undefended: Published Poison Acc."] == "75.0 (inside)"
    assert ours["FRIENDS-B: Poison Acc."].startswith("0.0 [")
    others = text[text["Row"] != ours.name]
    assert set(others["Undefended: Poison Acc."]) == {"–"}
    assert "|" not in "".join(text["Row"])


def test_each_row_knows_the_victims_that_it_counts() -> None:
    first = counted_victims(compare(1, TRIALS, LINES, claim(1)))
    text = shown(1, claim(1))
    assert len(first) == len(text)
    found = dict(zip(text["Defense"], first, strict=True))
    assert found["AP-0.5"] == [("gm", VICTIM, "half")]
    assert found["AP-0.75"] == []
    assert found["mine (ours)"] == [("gm", VICTIM, "mine")]
    row = "Gradient Matching (xi = 16) | From-scratch"
    third = counted_victims(compare(3, TRIALS, LINES, claim(3, row=row)))
    both = [("gm", VICTIM, "none"), ("gm", VICTIM, "friends-bernoulli")]
    named = dict(zip(shown(3, claim(3, row=row))["Row"], third, strict=True))
    assert named.pop("Gradient Matching (xi = 16), From-scratch") == both
    assert set(map(len, named.values())) == {0}


def test_times_stand_only_where_the_paper_has_some() -> None:
    first = shown(1, claim(1))
    fourth = shown(4, claim(4))
    assert list(first[first["Defense"] == "AP-0.5"]["Time"]) == ["6.0x"]
    assert list(first[first["Defense"] == "AP-0.5"]["Published time"]) == ["3 h 41 min"]
    assert "Time" not in fourth.columns
    instant = [*trials("gm", "none", (1, 1), 0.9, 0), *trials("gm", "half", (1, 0), 0.95, 60)]
    assert compare(1, instant, LINES, claim(1))["relative_time"].isna().all()


def test_notes_say_what_the_numbers_are() -> None:
    compared = compare(1, TRIALS, LINES, claim(1))
    text = markdown(shown(1, claim(1)), table_notes(FRIENDS, 1, compared))
    assert "80 epochs, 20 poison sets" in text
    assert "A40" in text
    assert "not a standard error" in text
    assert "A40" not in " ".join(table_notes(FRIENDS, 4, compare(4, TRIALS, LINES, claim(4))))


# --- several victims, and other papers' measures ---


def test_published_numbers_stand_beside_the_mean_over_victims_or_the_first() -> None:
    lines = [line("gm", "none", victim=victim) for victim in ("one", "two")]
    some = [
        trial("gm", "none", seed, value, victim=victim)
        for victim, value in (("one", 1.0), ("two", 0.0))
        for seed in SEEDS
    ]
    for mean, victim, success in ((False, "one", 1), (True, "mean", 0.5)):
        found = compare(4, some, lines, claim(4), mean_over_victims=mean).set_index("row").loc["No Def."]
        assert (found["victim"], found["n"], found["success"]) == (victim, 4, success)
        stood = published_by_row(NUMBERS, [claim(4)], stage(lines, mean_over_victims=mean))
        assert stood == {("gm", victim, "none"): pytest.approx({"success": 0.75, "accuracy": 0.935})}
    # An attack with one victim has no mean over several.
    alone = compare(4, some[:4], lines[:1], claim(4), mean_over_victims=True).set_index("row").loc["No Def."]
    assert (alone["victim"], alone["n"], alone["success"]) == ("one", 4, 1)


def test_an_end_of_our_interval_lies_inside() -> None:
    """Wilson's interval of four in four ends at a published 100 %."""
    numbers = pd.DataFrame([(7, "Ours", "none", "success", 1.0, math.nan, "", "")], columns=list(NUMBERS.columns))
    some = trials("gm", "none", (1, 1, 1, 1), 0.9, 10)
    compared, _ = compare_of(numbers, some, stage([line("gm", "none")]), [claim(7)])
    assert compared["published_success_inside"].tolist() == [True]


def test_a_table_may_print_other_measures() -> None:
    """Peak and final accuracy, and epochs, of an attack without a goal; a measure that none of ours has is left out."""
    printed = [
        ("none", "peak_accuracy", 0.5),
        ("none", "accuracy", 0.4),
        ("none", "first_epoch", 3.0),
        ("none", "x", 1),
    ]
    numbers = pd.DataFrame(
        [(7, "Ours", defense, name, value, math.nan, "", "") for defense, name, value in printed],
        columns=list(NUMBERS.columns),
    )
    some = [
        Trial("none", VICTIM, "none", seed, {"peak_accuracy": 0.5 + seed / 10, "first_epoch": 2.0, "accuracy": 0.4})
        for seed in range(3)
    ]
    lines = [line_of("none", "none", range(3))]
    compared, measures = compare_of(numbers, some, stage(lines), [claim(7, "none")])
    assert [measure.name for measure in measures] == ["peak_accuracy", "accuracy", "first_epoch"]
    text = paper_layout(compared, measures, FRIENDS)
    assert list(text.columns)[3:] == [
        *("Peak accuracy", "Published Peak accuracy", "Test Acc.", "Published Test Acc."),
        *("Epochs to low loss", "Published Epochs to low loss", "p against none", "p against friends-bernoulli"),
    ]
    assert text["Published Peak accuracy"].tolist() == ["50.0 (inside)"]
    assert text["Published Epochs to low loss"].tolist() == ["3.0"]


def test_rows_that_are_attacks_are_called_rows() -> None:
    numbers = pd.DataFrame(
        [(1, row, "none", "peak_accuracy", value, math.nan, "", "") for row, value in (("R4", 0.2), ("P250", 0.6))],
        columns=list(NUMBERS.columns),
    )
    some = [Trial(attack, VICTIM, "none", 0, {"peak_accuracy": 0.3}) for attack in ("none", "none2")]
    own = Shown(
        description="",
        lines=[line_of(attack, "none", range(1)) for attack in ("none", "none2")],
        measures=[AttackMeasures(attack=attack, measures=(PEAK_ACCURACY,)) for attack in ("none", "none2")],
    )
    compared, measures = compare_of(numbers, some, own, [claim(1, "none", row="R4"), claim(1, "none2", row="P250")])
    text = paper_layout(compared, measures, FRIENDS)
    assert text["Row"].tolist() == ["R4", "P250"]
    assert set(text["Attack"]) == {""}
    assert text["Published Peak accuracy"].tolist() == ["20.0", "60.0"]


# --- The study of the whole paper ---


@pytest.fixture(scope="module")
def paper() -> Study:
    return read_study(yaml.safe_load((ROOT / "config" / "paper.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("number", range(1, 7))
def test_every_published_number_has_a_cell_of_the_study(number: int, paper: Study) -> None:
    lines = [line(attack.name, row.name, row.published, victim.name) for attack, victim, row in paper.meetings()]
    claims = [
        claim(number, attack.name, row=place.row)
        for attack in paper.attacks
        for place in attack.published
        if place.table == number
    ]
    own = Shown(
        description="",
        lines=[Line.model_validate(each) for each in lines],
        measures=[AttackMeasures(attack=attack.name, measures=(SUCCESS, ACCURACY)) for attack in paper.attacks],
    )
    compared, _ = compare_of(table(number), [], own, claims)
    known = compared[compared["row"] != ""]
    assert len(known) > 0
    assert not known[known["our_defense"] == ""]["row"].tolist()


def test_the_paper_s_scale(paper: Study) -> None:
    matching, backdoor = paper.attack("gradient-matching"), paper.attack("sleeper-agent")
    assert (len(paper.seeds_of(matching)), len(paper.seeds_of(backdoor))) == (20, 24)
    assert (paper.victims_of(matching)[0].recipe.epochs, paper.victims_of(backdoor)[0].recipe.epochs) == (80, 40)
    assert {model.name for model in (paper.model_of(victim) for victim in paper.victims)} == {"resnet18"}
