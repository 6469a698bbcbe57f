"""workflow/scripts/ablation.py: from trials to the table of one ablation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from loading import program
from made import VICTIM, put, told, trial
from made import line as line_of

from poisonlab.errors import DataError, SettingsError
from poisonlab.evaluation.trials import Trial
from poisonlab.provenance import spec

ablation_script = program("ablation")

SEEDS = (0, 1, 2, 3)
TITLES = ("Poison success", "Adversarial confidence", "Test accuracy")


def line(defense: str, attack: str = "gm") -> dict[str, Any]:
    return line_of(attack, defense, SEEDS, settings=f"settings of {defense}")


LINES = [line("none"), line("friends"), line("lr-10"), line("lr-50")]
SPEC: dict[str, Any] = {
    **told(LINES, ["none"]),
    "scale": ["Data: few.", "Victims: small."],
    "name": "lr",
    "title": "How fast.",
    "defense": "friends",
    "method": "friendly-noise",
    "settings": ["lr"],
    "variants": [
        {"row": "lr-10", "values": {"lr": 10.0}, "own": False},
        {"row": "friends", "values": {"lr": 100.0}, "own": True},
        {"row": "lr-50", "values": {"lr": 50.0}, "own": False},
    ],
}


def trials(defense: str, successes: Sequence[float], accuracy: float = 0.9, **more: Any) -> list[Trial]:
    settings = more.pop("settings", f"settings of {defense}")
    attack = more.get("attack", "gm")
    return [
        trial(attack, defense, seed, success, accuracy, settings=settings) for seed, success in enumerate(successes)
    ]


ALL = [*trials("none", [1, 1, 1, 1]), *trials("friends", [0, 0, 0, 0], 0.85), *trials("lr-10", [1, 1, 0, 0], 0.8)]
LAST = trials("lr-50", [1, 0, 0, 0], 0.75)


def run(folder: Path, files: Sequence[Path], **changes: Any) -> dict[str, str]:
    outputs = {kind: folder / f"out.{kind}" for kind in ("csv", "md", "tex", "json")}
    options = [part for kind, path in outputs.items() for part in (f"--{kind}", str(path))]
    ablation_script.main(["--spec", *spec(**{**SPEC, **changes}), "--trials", *map(str, files), *options])
    return {kind: path.read_text("utf-8") for kind, path in outputs.items()}


def cells(text: str) -> list[list[str]]:
    lines = [part for part in text.splitlines() if part.startswith("|") and set(part) - set("|:- ")]
    return [[cell.strip() for cell in part.strip("|").split("|")] for part in lines]


def notes(text: str) -> list[str]:
    return [part[2:] for part in text.splitlines() if part.startswith("- ")]


def test_the_table_of_an_ablation(tmp_path: Path) -> None:
    texts = run(tmp_path, [put(tmp_path / "own.csv", [*ALL, *LAST])])
    table = pd.read_csv(StringIO(texts["csv"]), dtype=str, keep_default_na=False)
    assert table["row"].tolist() == ["none", "lr-10", "friends", "lr-50"]
    assert table["lr"].tolist() == ["", "10.0", "100.0", "50.0"]
    assert table["own"].tolist() == ["False", "False", "True", "False"]
    assert table["success"].astype(float).tolist() == [1, 0.5, 0, 0.25]
    assert table["n"].tolist() == ["4"] * 4
    # Against friends 4, 2 and 1 of the seeds differ, all one way: 2 / 2^k, of which Holm triples the smallest.
    assert table["p"].tolist() == [str(2 / 16), str(2 / 4), "", str(2 / 2)]
    assert table["p_holm"].tolist() == [str(6 / 16), "1.0", "", "1.0"]
    (told_to_report,) = json.loads(texts["json"])["tables"]
    assert told_to_report["victims"] == [[["gm", VICTIM, row]] for row in table["row"]]
    shown = cells(texts["md"])
    assert shown[0] == ["lr", "n", *(f"{title} [95 % CI]" for title in TITLES), "p (Holm)", ""]
    assert [each[0] for each in shown[1:]] == ["(no defense)", "10", "100", "50"]
    assert [each[4:] for each in shown[1:]] == [
        ["90.0", "0.375", ""],
        ["80.0", "1.000", ""],
        ["85.0", "", "the study's"],
        ["75.0", "1.000", ""],
    ]


def test_notes_say_what_it_is_what_it_shows_and_at_what_scale(tmp_path: Path) -> None:
    texts = run(tmp_path, [put(tmp_path / "own.csv", [*ALL, *LAST])])
    assert notes(texts["md"])[:6] == [
        "Finding: gm: poison success from 0.0 % (lr 100) to 50.0 % (lr 10), test accuracy from 75.0 % (lr 50) to "
        "85.0 % (lr 100); smallest corrected p of poison success against the study's own row 1.000.",
        "Finding: gm: change against the study's own row, paired by seed, in points: of adversarial confidence, "
        "lr 10 +25.0 (n = 4, p 1.000), lr 50 +12.5 (n = 4, p 1.000); of test accuracy, lr 10 -5.0 (n = 4), "
        "lr 50 -10.0 (n = 4).",
        "How fast.",
        "Made up.",
        "Data: few.",
        "Victims: small.",
    ]
    assert not [note for note in notes(texts["md"]) if "Not run" in note or "Refused" in note]
    for note in notes(texts["md"]):
        assert f"% {note}" in texts["tex"].splitlines()
    body = [part for part in texts["tex"].splitlines() if part.endswith(r"\\")]
    assert len(body) == 5
    assert {part.replace(r"\&", "").count("&") for part in body} == {6}


def test_without_a_title_the_table_says_what_varies(tmp_path: Path) -> None:
    path = put(tmp_path / "own.csv", ALL)
    assert notes(run(tmp_path, [path], title="")["md"])[2] == "friendly-noise of row friends with other lr."


def test_missing_and_refused_trials_are_noted_and_lines_have_their_own_n(tmp_path: Path) -> None:
    own = put(tmp_path / "own.csv", [*ALL, *trials("lr-50", [1, 1], settings="older"), *trials("other", [1])])
    texts = run(tmp_path, [own])
    table = cells(texts["md"])
    assert [each[:2] for each in table[1:]] == [["(no defense)", "4"], ["10", "4"], ["100", "4"], ["50", "0"]]
    assert table[4][2:5] == ["–"] * 3
    assert notes(texts["md"])[-2:] == [
        "Not run yet: 4 of 16 victims.",
        f"Refused, because made with other settings than this study's: gm/lr-50 of {own} (seeds 0, 1).",
    ]
    assert "nan" not in texts["md"] + texts["tex"]


def test_merged_trials_count_where_there_are_no_own_ones(tmp_path: Path) -> None:
    own = put(tmp_path / "own.csv", [*ALL, *LAST[:1]])
    there = put(tmp_path / "there.csv", trials("lr-50", [0, 1, 1], 0.95))
    table = pd.read_csv(StringIO(run(tmp_path, [own, there])["csv"])).set_index("row")
    assert table.loc["lr-50", "n"] == 3
    assert table.loc["lr-50", "success"] == 1
    assert table.loc["lr-50", "accuracy"] == pytest.approx((0.75 + 0.95 + 0.95) / 3)


def test_an_ablation_that_nobody_has_run_is_a_table_of_dashes(tmp_path: Path) -> None:
    texts = run(tmp_path, [put(tmp_path / "own.csv", [])])
    assert [each[:5] for each in cells(texts["md"])[1:]] == [
        [value, "0", "–", "–", "–"] for value in ("(no defense)", "10", "100", "50")
    ]
    assert not [note for note in notes(texts["md"]) if note.startswith("Finding")]
    assert "Not run yet: 16 of 16 victims." in notes(texts["md"])


def test_several_attacks_have_a_table_each(tmp_path: Path) -> None:
    lines = told([*LINES, line("friends", "bp"), line("lr-10", "bp")], ["none"])
    more = [*trials("friends", [1, 1, 1, 1], attack="bp"), *trials("lr-10", [0, 0, 0, 0], attack="bp")]
    text = run(tmp_path, [put(tmp_path / "own.csv", [*ALL, *LAST, *more])], **lines)["md"]
    first, second = text.split("### ")[1:]
    assert [first.split("\n")[0], second.split("\n")[0]] == ["gm", "bp"]
    assert [each[0] for each in cells(second)[1:]] == ["10", "100"]
    assert len([note for note in notes(text) if note.startswith("Finding: ")]) == 4


def of_attack() -> dict[str, Any]:
    """The spec of an ablation of attack gm, which lines of attack bp stand for a variant of."""
    lines = [line(row, attack) for attack in ("gm", "bp") for row in ("none", "friends")]
    values = {"settings": ["eps"], "attack": "gm", "method": "gradient-matching", **told(lines, ["none"])}
    named = (("bp", 4.0, False), ("gm", 8.0, True))
    variants = [{"row": row, "values": {"eps": value}, "own": own} for row, value, own in named]
    return {**{key: value for key, value in SPEC.items() if key != "defense"}, **values, "variants": variants}


def test_the_table_of_an_ablation_of_an_attack(tmp_path: Path) -> None:
    own = [*trials("none", [1, 1, 1, 1]), *trials("friends", [1, 1, 1, 0])]
    more = [*trials("none", [1, 0, 0, 0], attack="bp"), *trials("friends", [0, 0, 0], attack="bp")]
    outputs = {kind: tmp_path / f"out.{kind}" for kind in ("csv", "md", "tex", "json")}
    options = [part for kind, path in outputs.items() for part in (f"--{kind}", str(path))]
    path = put(tmp_path / "own.csv", [*own, *more])
    ablation_script.main(["--spec", *spec(**{**of_attack(), "title": ""}), "--trials", str(path), *options])
    table = pd.read_csv(outputs["csv"])
    assert list(table.columns)[:4] == ["defense", "victim", "attack", "eps"]
    assert list(zip(table["defense"], table["attack"], table["eps"], table["own"], strict=True)) == [
        ("none", "bp", 4.0, False),
        ("none", "gm", 8.0, True),
        ("friends", "bp", 4.0, False),
        ("friends", "gm", 8.0, True),
    ]
    # Three seeds differ under each row, all one way.
    assert table["p_holm"].tolist() == pytest.approx([2 / 8, float("nan"), 2 / 8, float("nan")], nan_ok=True)
    text = outputs["md"].read_text("utf-8")
    assert [part.split("\n")[0] for part in text.split("### ")[1:]] == ["none", "friends"]
    assert notes(text)[:5] == [
        "Finding: none: poison success from 25.0 % (eps 4) to 100.0 % (eps 8), test accuracy 90.0 % throughout; "
        "smallest corrected p of poison success against the study's own attack 0.250.",
        "Finding: friends: poison success from 0.0 % (eps 4, n = 3) to 75.0 % (eps 8), test accuracy 90.0 % "
        "throughout; smallest corrected p of poison success against the study's own attack 0.250.",
        *(
            f"Finding: {row}: change against the study's own attack, paired by seed, in points: of adversarial "
            f"confidence, eps 4 {change} (n = {n}, p 0.250); of test accuracy, eps 4 +0.0 (n = {n})."
            for row, change, n in (("none", "-37.5", 4), ("friends", "-50.0", 3))
        ),
        "Attack gm with other eps.",
    ]
    assert "paired test against the study's own attack on the same seeds" in text
    told_to_report = json.loads(outputs["json"].read_text("utf-8"))["tables"]
    assert [part["victims"] for part in told_to_report] == [
        [[["bp", VICTIM, row]], [["gm", VICTIM, row]]] for row in ("none", "friends")
    ]
    assert "Not run yet: 1 of 16 victims." in notes(text)


def test_the_same_trials_give_the_same_bytes(tmp_path: Path) -> None:
    path = put(tmp_path / "own.csv", [*ALL, *LAST])
    turned = put(tmp_path / "turned.csv", [*LAST, *ALL][::-1])
    assert run(tmp_path, [path]) == run(tmp_path, [path]) == run(tmp_path, [turned])


def test_a_broken_file_of_trials_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    path = put(tmp_path / "own.csv", ALL)
    path.write_text(path.read_text("utf-8").replace("0.85", "high"), encoding="utf-8")
    with pytest.raises(DataError, match=r"own\.csv is damaged \(line 6 is not a trial") as caught:
        run(tmp_path, [path])
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"gone\.csv: cannot be read"):
        run(tmp_path, [tmp_path / "gone.csv"])
    assert [each.name for each in tmp_path.iterdir()] == ["own.csv"]


@pytest.mark.parametrize(
    ("change", "place"),
    [({"settings": []}, "settings"), ({"variants": []}, "variants"), ({"name": "A b"}, "name"), ({"no": 1}, "no")],
)
def test_a_malformed_spec_is_one_line(tmp_path: Path, change: dict[str, Any], place: str) -> None:
    with pytest.raises(SettingsError, match=f"^--spec {place}: [^\n]+$"):
        run(tmp_path, [put(tmp_path / "own.csv", ALL)], **change)
