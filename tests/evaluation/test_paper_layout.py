"""The published tables in their own layout: which of our rows stands for which line, and what is said of it."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import yaml

from poisonlab.config.study import Study, read_study
from poisonlab.errors import SettingsError
from poisonlab.evaluation.choosing import Claim, Line
from poisonlab.evaluation.layouts import markdown
from poisonlab.evaluation.paper_layout import compare, paper_layout, table_notes
from poisonlab.evaluation.published import published
from poisonlab.evaluation.trials import Trial

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = published(ROOT / "reference")
SEEDS = (0, 1, 2, 3)


def table(number: int) -> pd.DataFrame:
    return NUMBERS[NUMBERS["table"] == number]


def line(attack: str, defense: str, called: str | None = None) -> Line:
    return Line(
        attack=attack, defense=defense, control=defense == "clean", seeds=SEEDS, settings="s", called=called or defense
    )


def trials(attack: str, defense: str, successes: tuple[float, ...], accuracy: float, seconds: float) -> list[Trial]:
    return [
        Trial(attack, defense, seed, success, 0.5, accuracy + seed / 100, seconds, control=defense == "clean")
        for seed, success in zip(SEEDS, successes, strict=False)
    ]


LINES = [line("gm", name) for name in ("clean", "none", "friends-bernoulli", "mine")] + [line("gm", "half", "ap-0.5")]
TRIALS = [
    *trials("gm", "clean", (0, 0, 0, 0), 0.9, 10),
    *trials("gm", "none", (1, 1, 1, 1), 0.9, 10),
    *trials("gm", "friends-bernoulli", (0, 0, 0, 0), 0.90, 15),
    *trials("gm", "half", (1, 0), 0.95, 60),
]


def test_every_published_line_stands_once_and_in_order() -> None:
    compared = compare(table(1), TRIALS, LINES, [Claim(attack="gm", table=1)])
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
    assert bool(found.loc["AP-0.5", "success_inside"])
    assert bool(found.loc["AP-0.5", "accuracy_inside"])
    # 0.90, 0.91, 0.92, 0.93: 0.915 +- 3.18 * 0.0129 / 2, the published 0.9152 amid it.
    assert found.loc["FRIENDS-B", "accuracy"] == pytest.approx(0.915)
    assert bool(found.loc["FRIENDS-B", "accuracy_inside"])
    missing = found.loc["AP-0.75"]
    assert missing["n"] == 0
    assert math.isnan(missing["success"])
    assert missing["success_inside"] is None


def test_others_are_tested_against_friends_b_and_controls_are_not() -> None:
    compared = compare(table(1), TRIALS, LINES, [Claim(attack="gm", table=1)]).set_index("defense")
    # Four of four against none of four: exact McNemar 2 / 2^4; half shares two seeds, one differs: p = 1. Holm doubles.
    assert compared.loc["none", "p_best_holm"] == pytest.approx(2 * 2 / 2**4)
    assert compared.loc["ap-0.5", "p_best_holm"] == 1
    assert math.isnan(compared.loc["friends-bernoulli", "p_best_holm"])
    assert math.isnan(compared.loc["clean", "p_best_holm"])


def test_a_table_with_several_attacks_has_its_defenses_side_by_side() -> None:
    row = "Gradient Matching (xi = 16) | From-scratch"
    compared = compare(table(3), TRIALS, LINES, [Claim(attack="gm", table=3, row=row)])
    shown = paper_layout(compared)
    assert len(shown) == table(3)["row"].nunique() == 6
    ours = shown.set_index("Row").loc["Gradient Matching (xi = 16), From-scratch"]
    assert ours["Undefended: n"] == "4"
    assert ours["Undefended: Poison Acc."].startswith("100.0 [")
    assert ours["Undefended: Published Poison Acc."] == "75.0 (inside)"
    assert ours["FRIENDS-B: Poison Acc."].startswith("0.0 [")
    others = shown[shown["Row"] != ours.name]
    assert set(others["Undefended: Poison Acc."]) == {"–"}
    assert "|" not in "".join(shown["Row"])


def test_times_stand_only_where_the_paper_has_some() -> None:
    first = paper_layout(compare(table(1), TRIALS, LINES, [Claim(attack="gm", table=1)]))
    fourth = paper_layout(compare(table(4), TRIALS, LINES, [Claim(attack="gm", table=4)]))
    assert list(first[first["Defense"] == "AP-0.5"]["Time"]) == ["6.0x"]
    assert list(first[first["Defense"] == "AP-0.5"]["Published time"]) == ["3 h 41 min"]
    assert "Time" not in fourth.columns


def test_a_row_that_the_table_does_not_have() -> None:
    with pytest.raises(SettingsError, match="'gm': published row 'Poison Frogs' is not one of") as caught:
        compare(table(3), TRIALS, LINES, [Claim(attack="gm", table=3, row="Poison Frogs")])
    assert "\n" not in str(caught.value)


def test_notes_say_what_the_numbers_are() -> None:
    compared = compare(table(1), TRIALS, LINES, [Claim(attack="gm", table=1)])
    text = markdown(paper_layout(compared), table_notes(1, compared))
    assert "80 epochs, 20 poison sets" in text
    assert "A40" in text
    assert "not a standard error" in text
    assert "A40" not in " ".join(table_notes(4, compare(table(4), TRIALS, LINES, [Claim(attack="gm", table=4)])))


# --- The study of the whole paper ---


@pytest.fixture(scope="module")
def paper() -> Study:
    return read_study(yaml.safe_load((ROOT / "config" / "paper.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("number", range(1, 7))
def test_every_published_number_has_a_cell_of_the_study(number: int, paper: Study) -> None:
    lines = [line(attack.name, row.name, row.published) for attack, row in paper.meetings()]
    claims = [
        Claim(attack=attack.name, table=place.table, row=place.row)
        for attack in paper.attacks
        for place in attack.published
        if place.table == number
    ]
    compared = compare(table(number), [], lines, claims)
    known = compared[compared["row"] != ""]
    assert len(known) > 0
    assert not known[known["our_defense"] == ""]["row"].tolist()


def test_the_paper_s_scale(paper: Study) -> None:
    matching, backdoor = paper.attack("gradient-matching"), paper.attack("sleeper-agent")
    assert (len(paper.seeds_of(matching)), len(paper.seeds_of(backdoor))) == (20, 24)
    assert (paper.victim_of(matching).recipe.epochs, paper.victim_of(backdoor).recipe.epochs) == (80, 40)
    assert {model.name for model in (paper.model_of(victim) for victim in paper.victims)} == {"resnet18"}
