"""workflow/scripts/tables.py: which published numbers stand beside an attack, and what its triggered rates need."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from poisonlab.errors import SettingsError
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


def tables(
    folder: Path,
    published: dict[str, Any],
    rows: tuple[str, ...] = ("none", "friends-bernoulli"),
    **measured: float,
) -> tuple[pd.DataFrame, str]:
    """The CSV and the Markdown of one attack ``a`` with two seeds per row."""
    cells = [
        {"attack": "a", "defense": row, "seed": seed, "control": False, "noise": None}
        for row in rows
        for seed in (0, 1)
    ]
    metrics, cards = [], []
    for place, cell in enumerate(cells):
        final = {"success": float(cell["seed"] == 0), "adversarial_confidence": 0.5, "accuracy": 0.9, **measured}
        metrics.append(folder / f"{place}.metrics.json")
        metrics[-1].write_text(json.dumps({"final": final}), encoding="utf-8")
        cards.append(folder / f"{place}.card.json")
        cards[-1].write_text(json.dumps({"seconds": 1.0}), encoding="utf-8")
    outputs = {kind: folder / f"table.{kind}" for kind in ("csv", "md", "tex", "time")}
    script.main(
        [
            *("--spec", *spec(description="Made up.", cells=cells, published=published)),
            *("--metrics", *map(str, metrics)),
            *("--cards", *map(str, cards)),
            *("--reference", str(ROOT / "reference")),
            *(part for kind, path in outputs.items() for part in (f"--{kind}", str(path))),
        ]
    )
    return pd.read_csv(outputs["csv"], index_col="defense", keep_default_na=False), outputs["md"].read_text("utf-8")


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
