"""workflow/scripts/tables.py: published numbers beside an attack, what a row costs, what was dropped, the notes."""

from __future__ import annotations

import importlib.util
import json
import sys
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from poisonlab.errors import DataError, SettingsError
from poisonlab.provenance import spec

ROOT = Path(__file__).resolve().parents[2]


def load_script() -> ModuleType:
    found = importlib.util.spec_from_file_location("tables_script", ROOT / "workflow" / "scripts" / "tables.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    # Settings look their annotations up there.
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


script = load_script()


def run_script(
    folder: Path,
    cells: list[dict[str, Any]],
    metrics: list[dict[str, Any]],
    cards: list[float] | None = None,
    noise_cards: tuple[float, ...] = (),
    filter_cards: tuple[float, ...] = (),
    **more: Any,
) -> dict[str, str]:
    """The texts of the tables. ``metrics`` adds to a ``final`` that is complete; the cards hold the seconds."""
    files: dict[str, list[Path]] = {"metrics": [], "cards": [], "noise-cards": [], "filter-cards": []}

    def put(kind: str, content: dict[str, Any]) -> None:
        files[kind].append(folder / f"{kind}{len(files[kind])}.json")
        files[kind][-1].write_text(json.dumps(content), encoding="utf-8")

    for own in metrics:
        final = {"success": 0.0, "adversarial_confidence": 0.5, "accuracy": 0.9}
        put("metrics", {**own, "final": {**final, **own.get("final", {})}})
    for seconds in cards or [1.0] * len(cells):
        put("cards", {"seconds": seconds})
    for seconds in noise_cards:
        # The epochs that the victim trains anyway are not charged twice.
        put("noise-cards", {"seconds": 1000.0, "cost_seconds": seconds})
    for seconds in filter_cards:
        put("filter-cards", {"seconds": seconds})
    outputs = {kind: folder / f"table.{kind}" for kind in ("csv", "md", "tex", "time")}
    script.main(
        [
            *("--spec", *spec(**{"description": "Made up.", "cells": cells, **more})),
            *(part for kind, paths in files.items() for part in (f"--{kind}", *map(str, paths))),
            *("--reference", str(ROOT / "reference")),
            *(part for kind, path in outputs.items() for part in (f"--{kind}", str(path))),
        ]
    )
    return {kind: path.read_text("utf-8") for kind, path in outputs.items()}


def cell(defense: str, seed: int = 0, attack: str = "a", **more: Any) -> dict[str, Any]:
    return {"attack": attack, "defense": defense, "seed": seed, "control": False, **more}


def by_defense(text: str) -> pd.DataFrame:
    """A CSV, as text."""
    return pd.read_csv(StringIO(text), index_col="defense", keep_default_na=False)


def tables(
    folder: Path,
    published: dict[str, Any],
    rows: tuple[str, ...] = ("none", "friends-bernoulli"),
    aliases: dict[str, str] | None = None,
    **measured: float,
) -> tuple[pd.DataFrame, str]:
    """The CSV and the Markdown of one attack ``a`` with two seeds per row."""
    cells = [cell(row, seed) for row in rows for seed in (0, 1)]
    metrics = [{"final": {"success": float(each["seed"] == 0), **measured}} for each in cells]
    texts = run_script(folder, cells, metrics, published=published, aliases=aliases or {})
    return by_defense(texts["csv"]), texts["md"]


def published_beside(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    return {str(defense): (line["published_success"], line["published_accuracy"]) for defense, line in table.iterrows()}


def test_a_row_of_a_table_with_several_attacks(tmp_path: Path) -> None:
    table, text = tables(tmp_path, {"a": {"table": 3, "row": "Bullseye Polytope | Transfer"}})
    # FRIENDS, table 3.
    numbers = pd.read_csv(ROOT / "reference" / "friends_table3.csv", keep_default_na=False)
    own = numbers[numbers["row"] == "Bullseye Polytope | Transfer"]
    for defense in ("none", "friends-bernoulli"):
        for column, name in (("Poison Acc", "success"), ("Test Acc", "accuracy")):
            value = own[(own["defense"] == defense) & (own["column"] == column)]["value"].item()
            assert float(table.loc[defense, f"published_{name}"]) == pytest.approx(float(value) / 100)
    assert float(table.loc["friends-bernoulli", "published_accuracy"]) == pytest.approx(0.7935)
    assert "FRIENDS, table 3" in text


def test_a_table_of_one_attack_needs_no_row(tmp_path: Path) -> None:
    table, _ = tables(tmp_path, {"a": {"table": 4}})
    beside = {row: tuple(map(float, values)) for row, values in published_beside(table).items()}
    assert beside["none"] == pytest.approx((0.75, 0.935))
    assert beside["friends-bernoulli"] == pytest.approx((0, 0.9152))


def test_without_published_numbers_there_is_no_column_to_read(tmp_path: Path) -> None:
    table, text = tables(tmp_path, {})
    assert set(published_beside(table).values()) == {("", "")}
    assert "Published" not in text


@pytest.mark.parametrize(
    ("published", "words"),
    [
        ({"table": 3, "row": "Poison Frogs"}, ["'a'", "published_row 'Poison Frogs'", "'Poison Frogs | Transfer'"]),
        ({"table": 3}, ["'a'", "table 3 has several rows", "give published_row", "'Poison Frogs | Transfer'"]),
        ({"table": 6}, ["'a'", "table 6 has several rows", "give published_row", "'FRIENDS-B (ResNet18)'"]),
    ],
    ids=["unknown row", "no row, several attacks", "no row, several donors"],
)
def test_a_row_that_is_unknown_or_missing_is_one_line(
    published: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        tables(tmp_path, {"a": published})
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "table.csv").exists()


def test_success_without_the_trigger_is_shown_and_explained(tmp_path: Path) -> None:
    table, text = tables(tmp_path, {}, untriggered_success=0.125)
    assert [float(value) for value in table["untriggered_success"]] == [0.125, 0.125]
    assert "Without trigger" in text
    assert "12.5" in text
    assert "cut to [0, 100]" in text
    # Successes 1 and 0 of two seeds: Student's t would leave [0, 1].
    assert (float(table.loc["none", "success_low"]), float(table.loc["none", "success_high"])) == (0, 1)


def test_attacks_without_a_trigger_say_nothing_of_it(tmp_path: Path) -> None:
    table, text = tables(tmp_path, {})
    assert set(table["untriggered_success"]) == {""}
    assert "trigger" not in text


# --- names of the paper ---------------------------------------------------------------------------------------


def test_rows_stand_beside_what_the_paper_calls_them(tmp_path: Path) -> None:
    rows = ("none", "gradient-shaping", "dp-sgd", "mixup", "cutmix", "abl")
    aliases = {"gradient-shaping": "dp-sgd", "dp-sgd": "dp-sgd", "mixup": "strong-augmentation"}
    table, _ = tables(tmp_path, {"a": {"table": 2}}, rows, aliases)
    # FRIENDS, table 2: DP-SGD 13.14 and 70.00, strong augmentation 69.75 and 91.32.
    beside = published_beside(table)
    for name, values in (
        ("gradient-shaping", (0.1314, 0.7)),
        ("dp-sgd", (0.1314, 0.7)),
        ("mixup", (0.6975, 0.9132)),
        ("none", (0.8348, 0.9156)),
    ):
        assert tuple(map(float, beside[name])) == pytest.approx(values), name
    # Only what is called so, be it by its own name.
    assert beside["cutmix"] == ("", "")
    assert all(float(value) > 0 for value in beside["abl"])


def test_another_name_hides_the_own_one(tmp_path: Path) -> None:
    """A row with the name of a published defense that stands for another."""
    table, _ = tables(tmp_path, {"a": {"table": 4}}, ("none", "friends-bernoulli"), {"friends-bernoulli": "none"})
    assert published_beside(table)["friends-bernoulli"] == published_beside(table)["none"] != ("", "")


# --- costs ----------------------------------------------------------------------------------------------------


def test_a_row_pays_for_the_network_that_it_looks_at(tmp_path: Path) -> None:
    cells = [
        cell("strip", network=3),
        cell("none"),
        cell("first", filter=1, network=1),
        cell("second", filter=0, network=2),
        cell("friends", noise=1),
        cell("filtered-friends", noise=0, filter=2, network=4),
    ]
    own, noises, filters = [1.0, 10.0, 8.0, 7.0, 20.0, 16.0], (4.0, 5.0), (3.0, 2.0, 0.5)
    texts = run_script(tmp_path, cells, [{}] * 6, own, noises, filters)
    none, first = 10.0, 8.0 + 2.0 + 10.0
    second = 7.0 + 3.0 + first
    friends = 20.0 + 5.0
    expected = {
        "none": none,
        "first": first,
        "second": second,
        "strip": 1.0 + second,
        "friends": friends,
        "filtered-friends": 16.0 + 4.0 + 0.5 + friends,
    }
    assert by_defense(texts["csv"])["seconds"].astype(float).to_dict() == expected
    lines = {line.split("|")[2].strip(): line for line in texts["time"].splitlines() if line.startswith("| a")}
    for name, seconds in expected.items():
        assert [part.strip() for part in lines[name].split("|")[3:5]] == [f"{seconds:.1f}", f"{seconds / 10:.2f}"]
    assert "the training of the network that they look at" in texts["time"]


def test_each_seed_pays_for_its_own_network(tmp_path: Path) -> None:
    cells = [*(cell("none", seed) for seed in (0, 1)), *(cell("f", seed, filter=seed, network=seed) for seed in (0, 1))]
    texts = run_script(tmp_path, cells, [{}] * 4, [10.0, 30.0, 1.0, 2.0], filter_cards=(0.25, 0.5))
    seconds = by_defense(texts["csv"])["seconds"].astype(float)
    assert seconds["none"] == pytest.approx(20)
    assert seconds["f"] == pytest.approx((11.25 + 32.5) / 2)


@pytest.mark.parametrize(("card", "words"), [('{"second": 1}', "seconds"), ("[]", "lacks"), ("{", "damaged")])
def test_a_card_without_seconds_is_one_line(tmp_path: Path, card: str, words: str) -> None:
    cells = [cell("none"), cell("f", filter=0, network=0)]
    run_script(tmp_path, cells, [{}] * 2, filter_cards=(1.0,))
    (tmp_path / "filter-cards0.json").write_text(card, encoding="utf-8")
    (tmp_path / "table.csv").unlink()
    with pytest.raises(DataError, match=words) as caught:
        script.main(
            [
                *("--spec", *spec(description="Made up.", cells=cells)),
                *("--metrics", *(str(tmp_path / f"metrics{place}.json") for place in (0, 1))),
                *("--cards", *(str(tmp_path / f"cards{place}.json") for place in (0, 1))),
                *("--filter-cards", str(tmp_path / "filter-cards0.json"), "--reference", str(ROOT / "reference")),
                *(part for kind in ("csv", "md", "tex", "time") for part in (f"--{kind}", f"{tmp_path}/table.{kind}")),
            ]
        )
    assert "\n" not in str(caught.value)
    assert "filter-cards0.json" in str(caught.value)
    assert not (tmp_path / "table.csv").exists()


# --- what was dropped, turned away and promised ---------------------------------------------------------------


def examples(poisons_dropped: int, poisons_kept: int, clean_dropped: int, clean_kept: int) -> dict[str, Any]:
    counts = {
        "poisons_dropped": poisons_dropped,
        "poisons_kept": poisons_kept,
        "clean_dropped": clean_dropped,
        "clean_kept": clean_kept,
    }
    return {"examples": counts}


NOTES = {
    "dropped": "Poisons found, clean dropped, precision, MCC",
    "rejected": "False alarms: share of clean test images",
    "private": "differential privacy of the training",
    "triggered": "Attacks with a trigger",
}


def notes_of(text: str) -> set[str]:
    return {
        name for name, words in NOTES.items() if any(words in line for line in text.splitlines() if line[:2] == "- ")
    }


@pytest.mark.parametrize(
    ("metrics", "notes", "column"),
    [
        ({}, set(), None),
        (examples(0, 10, 0, 90), set(), None),
        (examples(8, 2, 2, 88), {"dropped"}, "Precision"),
        (examples(0, 0, 2, 98), {"dropped"}, "Clean dropped"),
        (
            {"report": {"false_alarms": 0.0, "targets_rejected": 1.0}},
            {"rejected"},
            "False alarms",
        ),
        ({"report": {"flagged_classes": []}}, set(), None),
        (
            {**examples(0, 10, 0, 90), "report": {"privacy_epsilon": 12.5, "privacy_delta": 0.01}},
            {"private"},
            "epsilon",
        ),
        ({"final": {"untriggered_success": 0.0}}, {"triggered"}, "Without trigger"),
    ],
    ids=["nothing", "nothing dropped", "dropped", "clean dropped", "alarms", "flagged", "private", "triggered"],
)
def test_a_note_stands_where_its_column_does(
    tmp_path: Path, metrics: dict[str, Any], notes: set[str], column: str | None
) -> None:
    texts = run_script(tmp_path, [cell("none"), cell("d")], [{}, metrics])
    assert notes_of(texts["md"]) == notes
    extra = {"Poisons found", "Clean dropped", "Precision", "MCC", "False alarms", "epsilon", "Without trigger"}
    (header,) = (line for line in texts["md"].splitlines() if line.startswith("| Attack"))
    shown = {part.strip() for part in header.split("|")} & extra
    assert shown == set() if column is None else column in shown
    assert "nan" not in texts["md"] + texts["tex"]


def test_what_the_metrics_say_reaches_the_table(tmp_path: Path) -> None:
    cells = [cell(defense, seed) for defense in ("filter", "strip", "dp-sgd") for seed in (0, 1)]
    metrics = [
        examples(8, 2, 2, 88),
        examples(4, 6, 16, 74),
        {"report": {"false_alarms": 0.05}},
        {"report": {"false_alarms": 0.25}},
        {"report": {"privacy_epsilon": 3.5}},
        {"report": {"privacy_epsilon": 3.0}},
    ]
    table = by_defense(run_script(tmp_path, cells, metrics)["csv"])
    numbers = {
        ("filter", "poisons_found"): (0.8 + 0.4) / 2,
        ("filter", "clean_dropped"): (2 / 90 + 16 / 90) / 2,
        ("filter", "precision"): (0.8 + 0.2) / 2,
        ("strip", "false_alarms"): 0.15,
        ("dp-sgd", "privacy_epsilon"): 3.5,
    }
    for (defense, column), value in numbers.items():
        assert float(table.loc[defense, column]) == pytest.approx(value), column
        assert [table.loc[other, column] for other in ("filter", "strip", "dp-sgd") if other != defense] == ["", ""]


def test_attacks_with_other_rows_and_seeds_have_a_table_each(tmp_path: Path) -> None:
    cells = [
        *(cell("none", seed, "b") for seed in (0, 1, 2)),
        *(cell(row, seed) for row in ("none", "filter") for seed in (1, 2)),
    ]
    text = run_script(tmp_path, cells, [{}] * 5 + [examples(8, 2, 2, 88)] * 2)["md"]
    first, second = text.split("### ")[1:]
    assert first.startswith("b\n")
    assert second.startswith("a\n")
    assert "Precision" in second
    assert "Precision" not in first
    (line,) = (line for line in first.splitlines() if "none" in line)
    assert [part.strip() for part in line.split("|")[1:3]] == ["none", "3"]
    # A header, a rule and the rows.
    assert (first.count("\n|"), second.count("\n|")) == (3, 4)
