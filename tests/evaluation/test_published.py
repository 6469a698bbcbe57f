from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from poisonlab.errors import DataError
from poisonlab.evaluation.published import published, read_paper

REFERENCE = Path(__file__).parents[2] / "reference" / "friends"
HEADER = "table,row,defense,measure,value,plus_minus,unit,note"
GOOD = "1,DeepKNN,deep-knn,success,75.00,4.19,percent,"

DEFENSES = {
    "none",
    "friendly",
    "bernoulli",
    "gaussian",
    "uniform",
    "friends-bernoulli",
    "friends-bernoulli-alexnet",
    "friends-bernoulli-lenet",
    "friends-gaussian",
    "friends-uniform",
    "ap-0.25",
    "ap-0.5",
    "ap-0.75",
    "deep-knn",
    "adversarial-training",
    "activation-clustering",
    "dp-sgd",
    "epic-0.1",
    "epic-0.2",
    "spectral-signatures",
    "strong-augmentation",
    "strip",
    "neural-cleanse",
    "abl",
}


@pytest.fixture(scope="module")
def numbers() -> pd.DataFrame:
    return published(REFERENCE)


def test_every_cell_of_every_table_is_there(numbers: pd.DataFrame) -> None:
    assert numbers.groupby("table").size().to_dict() == {1: 36, 2: 26, 3: 24, 4: 16, 5: 12, 6: 6}
    assert numbers.groupby("table")["plus_minus"].count().to_dict() == {1: 24, 2: 26, 3: 0, 4: 0, 5: 12, 6: 0}


@pytest.mark.parametrize(
    ("table", "row", "defense", "measure", "value", "plus_minus"),
    [
        (1, "AP-0.75", "ap-0.75", "minutes", 4 * 60 + 30, None),
        (1, "AP-0.5", "ap-0.5", "minutes", 3 * 60 + 41, None),
        (1, "AP-0.25", "ap-0.25", "accuracy", 93.27, 0.00),
        (1, "EPIC-0.1", "epic-0.1", "accuracy", 90.04, 0.22),
        (1, "Diff. Priv. SGD", "dp-sgd", "accuracy", 75.70, 1.19),
        (1, "Friendly Noise", "friendly", "success", 10.00, 2.01),
        (1, "FRIENDS-B", "friends-bernoulli", "success", 0.00, 5.59),
        (1, "FRIENDS-B", "friends-bernoulli", "minutes", 37, None),
        (2, "None", "none", "success", 83.48, 7.58),
        (2, "Spectral Signatures", "spectral-signatures", "success", 37.17, 10.10),
        (2, "STRIP", "strip", "success", 62.68, 4.90),
        (2, "ABL", "abl", "accuracy", 81.33, 3.21),
        (2, "EPIC-0.2", "epic-0.2", "success", 9.10, 1.57),
        (2, "FRIENDS-G", "friends-gaussian", "accuracy", 89.87, 0.31),
        (3, "Metapoison (xi = 8) | From-scratch", "none", "accuracy", 87.61, None),
        (3, "Metapoison (xi = 8) | From-scratch", "friends-bernoulli", "success", 20.00, None),
        (3, "Bullseye Polytope | Transfer", "friends-bernoulli", "accuracy", 79.35, None),
        (3, "Sleeper Agent | From-scratch", "none", "success", 91.72, None),
        (4, "No Def.", "none", "accuracy", 93.50, None),
        (4, "Noise Only | Bernoulli", "bernoulli", "success", 5.00, None),
        (4, "Noise Only | Uniform", "uniform", "accuracy", 91.61, None),
        (4, "FRIENDS | Uniform", "friends-uniform", "accuracy", 91.91, None),
        (5, "Sleeper Agent | Bernoulli Noise", "friends-bernoulli", "success", 31.05, 9.45),
        (5, "Sleeper Agent | FRIENDS-B", "none", "accuracy", 91.62, 0.38),
        (6, "FRIENDS-B (AlexNet -> ResNet18)", "friends-bernoulli-alexnet", "accuracy", 91.27, None),
        (6, "FRIENDS-B (LeNet -> ResNet18)", "friends-bernoulli-lenet", "success", 0.0, None),
    ],
)
def test_numbers_read_off_the_paper(
    numbers: pd.DataFrame,
    table: int,
    row: str,
    defense: str,
    measure: str,
    value: float,
    plus_minus: float | None,
) -> None:
    key = pd.Series({"table": table, "row": row, "defense": defense, "measure": measure})
    [found] = numbers[(numbers[list(key.index)] == key).all(axis=1)].to_dict("records")
    assert found["value"] == (value if measure == "minutes" else pytest.approx(value / 100))
    assert found["unit"] == ("minutes" if measure == "minutes" else "percent")
    assert math.isnan(found["plus_minus"]) if plus_minus is None else found["plus_minus"] == plus_minus


def test_table_1_prints_the_variance_over_the_root_of_n(numbers: pd.DataFrame) -> None:
    rates = numbers[(numbers["table"] == 1) & (numbers["measure"] == "success")]
    assert len(rates) == 12
    for value, plus_minus in zip(rates["value"], rates["plus_minus"], strict=True):
        p = value or 0.5
        assert plus_minus == pytest.approx(100 * p * (1 - p) / math.sqrt(20), abs=0.0051)
        assert plus_minus < 100 * math.sqrt(p * (1 - p) / 20) / 1.9


def test_sleeper_agents_spreads_are_of_24_yes_or_no_trials(numbers: pd.DataFrame) -> None:
    """Of table 5, and of table 2's rows that share its runs, though a set's outcome is a rate over 1000 images."""
    rates = numbers[numbers["measure"] == "success"]
    own = (rates["table"] == 2) & rates["defense"].isin(
        ["none", "friends-bernoulli", "friends-gaussian", "friends-uniform"]
    )
    chosen = rates[own | (rates["table"] == 5)]
    assert len(chosen) == 10
    for value, plus_minus in zip(chosen["value"], chosen["plus_minus"], strict=True):
        p = value
        assert plus_minus == pytest.approx(100 * math.sqrt(p * (1 - p) / 24), abs=0.011)


def test_runs_shared_by_two_tables_agree(numbers: pd.DataFrame) -> None:
    def pair(table: int, row: str, defense: str) -> list[float]:
        here = numbers[(numbers["table"] == table) & (numbers["row"] == row) & (numbers["defense"] == defense)]
        return [float(here.loc[here["measure"] == c, "value"].iloc[0]) for c in ("success", "accuracy")]

    for letter, kind in (("U", "Uniform"), ("B", "Bernoulli"), ("G", "Gaussian")):
        defense = f"friends-{kind.lower()}"
        assert pair(1, f"FRIENDS-{letter}", defense) == pair(4, f"FRIENDS | {kind}", defense)
    assert pair(1, "Friendly Noise", "friendly") == pair(4, "Friendly Noise", "friendly")
    assert pair(4, "No Def.", "none") == pair(3, "Gradient Matching (xi = 16) | From-scratch", "none")
    for row, defense in (("None", "none"), ("FRIENDS-B", "friends-bernoulli")):
        assert pair(2, row, defense) == pair(5, "Sleeper Agent | None", defense)


def test_defenses_bear_config_names(numbers: pd.DataFrame) -> None:
    assert set(numbers["defense"]) == DEFENSES


def test_one_file_is_the_folders_part(numbers: pd.DataFrame) -> None:
    one = published(str(REFERENCE / "table5.csv"))
    expected = numbers[numbers["table"] == 5].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, expected, check_dtype=False)


def test_row_names_and_empty_fields_stay_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEADER}\n2,None,,success,1,,percent,\n", encoding="utf-8")
    [record] = published(tmp_path).to_dict("records")
    assert (record["row"], record["defense"], record["note"]) == ("None", "", "")
    assert math.isnan(record["plus_minus"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "columns"),
        (HEADER, "no numbers"),
        (f"{HEADER.replace('unit', 'units')}\n{GOOD}", "columns"),
        (f"{HEADER}\n{GOOD},extra", "9 fields"),
        (f"{HEADER}\n{GOOD}\n1,DeepKNN,deep-knn", "bad.csv:3: 3 fields"),
        (f"{HEADER}\n{GOOD.replace('percent', 'fraction')}", "unit is 'fraction'"),
        (f"{HEADER}\n{GOOD}printed as 7/10", "value is 75.0 percent, which is not 7/10; correct one of them"),
        (f"{HEADER}\n{GOOD.replace('75.00', '75 %')}", "value is '75 %'"),
        (f"{HEADER}\n{GOOD.replace('75.00', '')}", "value is ''"),
        (f"{HEADER}\n{GOOD.replace('75.00', 'nan')}", "value is 'nan'"),
        (f"{HEADER}\n{GOOD.replace('75.00', '175')}", "0 to 100"),
        (f"{HEADER}\n{GOOD.replace('4.19', '-4.19')}", "plus_minus"),
        (f"{HEADER}\n{GOOD.replace('1,', 'one,')}", "table is 'one'"),
        (f"{HEADER}\n{GOOD.replace('1,', '9' * 5000 + ',', 1)}", "table is '999"),
        (f"{HEADER.replace('unit', chr(34) + chr(10) + chr(34))}\n{GOOD}", "columns"),
        (f"{HEADER}\n{GOOD.replace('DeepKNN', ' ')}", "row is empty"),
        (f"{HEADER}\n{GOOD}\n{GOOD}", "more than once"),
        (f'{HEADER}\n"{GOOD}', "not a UTF-8 CSV"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        published(path)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no CSV file"):
        published(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        published(tmp_path / "missing.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a UTF-8"):
        published(tmp_path)


# --- what a reader must know of them --------------------------------------------------------------------------------

PAPER = """
name: Some paper
setting: CIFAR-10
tables:
  2: {setting: 40 epochs, notes: [One sentence.]}
"""


def test_a_paper_says_what_its_tables_are_from(tmp_path: Path) -> None:
    (tmp_path / "paper.yaml").write_text(PAPER, encoding="utf-8")
    paper = read_paper(tmp_path)
    assert (paper.name, paper.table(2).setting, paper.table(2).notes) == ("Some paper", "40 epochs", ("One sentence.",))
    with pytest.raises(DataError, match=r"Some paper has no table 3 here: its tables are \[2\]"):
        paper.table(3)


@pytest.mark.parametrize("folder", sorted(path for path in REFERENCE.parent.iterdir() if path.is_dir()))
def test_every_published_table_is_explained(folder: Path) -> None:
    paper, numbers = read_paper(folder), published(folder)
    assert set(numbers["table"]) == set(paper.tables)
    assert set(paper.headings) <= set(numbers["measure"])
    assert set(paper.defenses) <= set(numbers["defense"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "valid dictionary"),
        ("name: [", "damaged .no YAML"),
        (PAPER.replace("setting: CIFAR-10", ""), "setting: Field required"),
        (PAPER.replace("  2:", "  two:"), "tables.two"),
        (PAPER + "more: 1", "more: Extra inputs"),
    ],
)
def test_a_malformed_paper_is_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "paper.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=complaint) as caught:
        read_paper(tmp_path)
    assert "\n" not in str(caught.value)
    assert "paper.yaml" in str(caught.value)


def test_a_missing_paper_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"paper\.yaml is missing"):
        read_paper(tmp_path)
