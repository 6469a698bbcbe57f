"""The published numbers of the deep k-NN paper agree with the counts that they were made from."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from poisonlab.evaluation.published import published, read_paper

REFERENCE = Path(__file__).parents[2] / "reference" / "deep-knn"
# Successes of 50 targets, undefended (poison sets of the authors' release).
SUCCESSES = {
    "DPN92": 18,
    "GoogLeNet": 13,
    "MobileNetV2": 10,
    "ResNet50": 19,
    "ResNeXt29": 13,
    "SENet18": 10,
    "DenseNet121": 9,
    "ResNet18": 10,
}
FILTERS = ["deep-knn", "l2-centroid", "one-class-svm", "random-filter"]


@pytest.fixture(scope="module")
def numbers() -> pd.DataFrame:
    return published(REFERENCE)


def of(numbers: pd.DataFrame, table: int, defense: str, measure: str) -> pd.Series:
    chosen = (numbers["table"] == table) & (numbers["defense"] == defense) & (numbers["measure"] == measure)
    return numbers[chosen].set_index("row")["value"]


def test_every_cell_is_there(numbers: pd.DataFrame) -> None:
    assert numbers.groupby("table").size().to_dict() == {1: 16, 2: 16, 3: 43, 4: 3}
    assert set(read_paper(REFERENCE).tables) == {1, 2, 3, 4}
    for table in (1, 2):
        assert list(numbers[numbers["table"] == table]["defense"].unique()) == FILTERS
    assert set(numbers[numbers["table"] == 3]["row"]) == set(SUCCESSES)


@pytest.mark.parametrize(("table", "poisons"), [(1, 16 * 50), (2, 5 * sum(SUCCESSES.values()))])
def test_shares_of_poisons_are_the_printed_counts(numbers: pd.DataFrame, table: int, poisons: int) -> None:
    for defense in FILTERS:
        key = (numbers["table"] == table) & (numbers["defense"] == defense) & (numbers["measure"] == "poisons_found")
        (line,) = numbers[key].to_dict("records")
        found, whole = line["note"].removeprefix("printed as ").split("/")
        assert int(whole) == poisons
        assert line["value"] * poisons == pytest.approx(int(found), abs=0.01)


def test_table_1_s_success_rates_are_of_16_targets(numbers: pd.DataFrame) -> None:
    """One decimal, and 50 without: 0, 8, 10 and 14 of 16."""
    rates = [of(numbers, 1, defense, "success").item() for defense in FILTERS]
    assert [round(16 * rate, 6) for rate in rates] == [0, 8, 10, 14]


def test_shares_in_the_text_are_whole_poisons_too(numbers: pd.DataFrame) -> None:
    """14 of 45 and 12 of 50, of the 114 in table 2."""
    for network, share in of(numbers, 3, "one-class-svm", "poisons_found").items():
        poisons = 5 * SUCCESSES[str(network)]
        assert share * poisons == pytest.approx(round(share * poisons), abs=0.005 * poisons)
    assert of(numbers, 3, "robust-features", "accuracy").to_dict() == {"ResNet18": pytest.approx(0.798)}


def test_figure_3_holds_whole_targets(numbers: pd.DataFrame) -> None:
    for defense in (*FILTERS, "robust-features"):
        for network, rate in of(numbers, 3, defense, "success").items():
            targets = rate * SUCCESSES[str(network)]
            assert targets == pytest.approx(round(targets), abs=0.0005 * SUCCESSES[str(network)] + 1e-9)


def test_table_2_is_the_unweighted_mean_of_figure_3(numbers: pd.DataFrame) -> None:
    for defense in FILTERS:
        by_network, printed = of(numbers, 3, defense, "success"), of(numbers, 2, defense, "success").item()
        assert by_network.mean() == pytest.approx(printed, abs=0.0006)
    # Which is not the mean over the successes.
    weights = pd.Series(SUCCESSES)
    for defense, expected in (("one-class-svm", 0.725), ("random-filter", 0.686)):
        by_network = of(numbers, 3, defense, "success")
        assert (by_network * weights).sum() / weights.sum() == pytest.approx(expected, abs=0.0006)


def test_the_share_that_l2_drops_in_table_2_is_a_tenth(numbers: pd.DataFrame) -> None:
    """Of 50 images per class, 5 each: 45 of 495 clean images elsewhere, and the 5 poisons of their class."""
    assert of(numbers, 2, "l2-centroid", "clean_dropped").item() == pytest.approx(45 / 495, abs=0.0005)
