"""Panels and pages of the figure of all defenses, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from poisonlab.config.measures import ACCURACY, PEAK_ACCURACY
from poisonlab.config.study import read_study
from poisonlab.errors import DataError
from poisonlab.evaluation.outcome_pages import PAGE_LINES, PANEL_LINES, Panel, outcome_pages
from poisonlab.evaluation.results import tidy_results
from poisonlab.evaluation.trials import Row, Trial
from poisonlab.figures.outcome import outcome, outcome_caption, pages_of
from poisonlab.figures.style import PAGE_HEIGHT
from poisonlab.graph.graph import Graph

ROOT = Path(__file__).resolve().parents[2]
MEASURES = (PEAK_ACCURACY, ACCURACY)


def under(attack: str, *defenses: str) -> list[Row]:
    return [(attack, "net", defense) for defense in defenses]


def test_attacks_under_one_defense_share_a_panel() -> None:
    few = [*under("a", "none"), *under("b", "none"), *under("c", "none", "jpeg")]
    panels = [Panel(tuple(few[:1]), False), Panel(tuple(few[1:2]), False), Panel(tuple(few[2:]), False)]
    assert outcome_pages(few, dict.fromkeys("abc")) == [panels]
    many = [*few, *under("d", "none")]
    first = Panel((*few[:3], *many[4:]), True)
    assert outcome_pages(many, dict.fromkeys("abcd")) == [[first, Panel(tuple(few[2:]), False)]]
    # Those that show something else do not share it.
    assert outcome_pages(many, {**dict.fromkeys("abc"), "d": "success"}) == [
        [*panels, Panel(tuple(many[4:]), False)],
    ]


def test_attacks_on_different_victims_do_not_share_a_panel() -> None:
    pairs = [(attack, victim, "none") for attack in "abc" for victim in ("small", "plain")]
    measures = dict.fromkeys("abc", MEASURES)
    (page,) = outcome_pages(pairs, dict.fromkeys("abc"))
    assert page == [Panel(tuple(pairs[::2]), True), Panel(tuple(pairs[1::2]), True)]
    figure = outcome(tidy_results(made(pairs), measures, (), None, pairs), measures)
    assert [axes.get_title(loc="left") for axes in figure.axes[::2]] == ["No defense on small", "No defense on plain"]
    assert [label.get_text() for label in figure.axes[2].get_yticklabels()] == ["a", "b", "c"]


def test_a_page_is_full_and_a_large_panel_is_split() -> None:
    rows = [row for place in range(5) for row in under(f"a{place}", *(f"d{number}" for number in range(17)))]
    kinds = dict.fromkeys(f"a{place}" for place in range(5))
    # Three panels of 17 lines, each with 2.5 of its own, are 58.5 of 61.
    assert [[panel.rows[0][0] for panel in page] for page in outcome_pages(rows, kinds)] == [
        ["a0", "a1", "a2"],
        ["a3", "a4"],
    ]
    large = under("a0", *(f"d{number}" for number in range(130)))
    split = outcome_pages(large, kinds)
    assert [len(panel.rows) for page in split for panel in page] == [58, 58, 14]
    assert [row for page in split for panel in page for row in panel.rows] == large
    assert all(sum(len(panel.rows) + PANEL_LINES for panel in page) <= PAGE_LINES for page in split)


def made(rows: list[Row]) -> list[Trial]:
    return [Trial(*row, seed, {"peak_accuracy": 0.5 + seed / 50, "accuracy": 0.4}) for row in rows for seed in (0, 1)]


@pytest.mark.parametrize("name", ["learned-faster-mini", "deep-knn-mini", "smoke"])
def test_the_graph_has_as_many_pages_as_the_table(name: str) -> None:
    study = read_study(yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text("utf-8")))
    graph = Graph(study, str(ROOT))
    rows = [(attack.name, victim.name, row.name) for attack, victim, row in graph.tables.listed]
    measures = {attack.name: attack.measures for attack in study.attacks}
    table = tidy_results([], measures, study.compare, None, rows, study.mean_over_victims)
    assert len(graph.figures.outcome) == len(pages_of(table, measures)) > 1
    drawn = [name for name in graph.figures.every() if name.startswith("outcome")]
    assert drawn == graph.figures.outcome == ["outcome", *(f"outcome-{n}" for n in range(2, len(drawn) + 1))]
    assert "page=2" in graph.job("figure", {"figure": "outcome-2"}).settings
    titles = {path.rpartition("/")[2]: title for path, (_, title) in graph._report.titles("").items()}
    assert titles["outcome-2"] == f"All defenses at a glance, page 2 of {len(drawn)}"


def test_many_attacks_are_one_panel_and_no_page_is_taller_than_paper() -> None:
    """As in the mini study: 25 attacks undefended, three of them under 17 defenses."""
    defended = {f"a{place}" for place in (3, 8, 20)}
    rows = [
        row
        for place in range(25)
        for row in under(f"a{place}", "none", *(f"d{n}" for n in range(16) if f"a{place}" in defended))
    ]
    measures = {f"a{place}": MEASURES for place in range(25)}
    table = tidy_results(made(rows), measures, ("none",), None, rows)
    pages = [outcome(table, measures, page) for page in (1, 2)]
    assert [[axes.get_title(loc="left") for axes in figure.axes[::2]] for figure in pages] == [
        ["No defense", "a3"],
        ["a8", "a20"],
    ]
    labels = [[label.get_text() for label in axes.get_yticklabels()] for axes in pages[0].axes[::2]]
    assert labels[0] == [f"a{place}" for place in range(25)]
    assert labels[1][:2] == ["No defense", "d0"]
    assert all(figure.get_figheight() <= PAGE_HEIGHT for figure in pages)
    # On tall pages every panel has numbers at its ticks.
    assert all(axes.xaxis.get_tick_params()["labelbottom"] for axes in pages[0].axes)
    told = [outcome_caption(table, measures, ("none",), page) for page in (1, 2)]
    assert [f"Page {page} of 2." in caption for page, caption in enumerate(told, 1)] == [True, True]
    # Each attack's sentence stands once, at its own panel if it has one.
    for attack in measures:
        assert [f" {attack}: No defense" in caption for caption in told] == [
            attack not in {"a8", "a20"},
            attack in {"a8", "a20"},
        ]
    with pytest.raises(DataError, match="2 pages and no page 3"):
        outcome(table, measures, 3)


def test_a_page_without_an_outcome_says_so() -> None:
    rows = [row for place in range(4) for row in under(f"a{place}", *(f"d{number}" for number in range(17)))]
    measures = {f"a{place}": MEASURES for place in range(4)}
    table = tidy_results(made(rows[:17]), measures, (), None, rows)
    assert [text.get_text() for text in outcome(table, measures, 2).texts] == ["no victim has an outcome"]
    assert outcome_caption(table, measures, (), 2) == "No victim of a3 has an outcome."
