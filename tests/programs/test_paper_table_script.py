"""workflow/scripts/paper_table.py: what stands below a table of the paper, and in which order."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from loading import program
from made import VICTIM, line, put, told, trial

from poisonlab.errors import DataError
from poisonlab.evaluation.trials import Trial
from poisonlab.provenance import spec

REFERENCE = Path(__file__).resolve().parents[2] / "reference" / "friends"
SEEDS = range(4)

paper_table_script = program("paper_table")


def trials(defense: str, successes: int, accuracy: float) -> list[Trial]:
    settings = f"settings of gm/{defense}"
    # Equal accuracies would have no interval.
    return [
        trial("gm", defense, seed, float(seed < successes), accuracy + 0.001 * (-1) ** seed, settings=settings)
        for seed in SEEDS
    ]


def run(folder: Path, *some: Trial, **changes: Any) -> dict[str, str]:
    put(folder / "own.csv", some)
    lines = [line("gm", defense, SEEDS) for defense in ("none", "friends-bernoulli")]
    claims = [{"attack": "gm", "table": 4}]
    values = {**told(lines, scale=["Data: few.", "Victims: small."], claims=claims), **changes}
    outputs = {kind: folder / f"table.{kind}" for kind in ("csv", "md", "tex", "json")}
    paper_table_script.main(
        [
            *("--spec", *spec(**values)),
            *("--trials", str(folder / "own.csv"), "--reference", str(REFERENCE)),
            *(part for kind, path in outputs.items() for part in (f"--{kind}", str(path))),
        ]
    )
    return {kind: path.read_text("utf-8") for kind, path in outputs.items()}


def notes(texts: dict[str, str]) -> list[str]:
    found = [part[2:] for part in texts["md"].splitlines() if part.startswith("- ")]
    assert all(f"% {note}" in texts["tex"].splitlines() for note in found)
    return found


def test_findings_and_scale_stand_before_what_the_numbers_are(tmp_path: Path) -> None:
    texts = run(tmp_path, *trials("none", 3, 0.9), *trials("friends-bernoulli", 4, 0.9152))
    (table,) = json.loads(texts["json"])["tables"]
    named = dict(zip((row[0] for row in table["rows"]), table["victims"], strict=True))
    assert named["No Def."] == [["gm", VICTIM, "none"]]
    assert named["Friendly Noise"] == []
    # FRIENDS, table 4: 75 % at 93.5 % and 0 % at 91.52 %; of four seeds 3 and 4 successes.
    assert notes(texts)[:5] == [
        "Finding: 1 of 2 published values of poison success lie in our intervals.",
        "Finding: 1 of 2 published values of test accuracy lie in our intervals.",
        "FRIENDS, table 4. Ours: Made up.",
        "Data: few.",
        "Victims: small.",
    ]
    table = pd.read_csv(StringIO(texts["csv"])).set_index("defense")
    # One seed differs.
    assert table.loc["none", "p_friends-bernoulli_holm"] == 1


def test_without_results_there_is_nothing_to_find(tmp_path: Path) -> None:
    found = notes(run(tmp_path))
    assert not [note for note in found if note.startswith("Finding")]
    assert "Not run yet: 8 of 8 victims." in found


def test_a_table_that_the_paper_does_not_have_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="FRIENDS has no table 9 here"):
        run(tmp_path, claims=[{"attack": "gm", "table": 9}])


def test_scale_may_be_left_out(tmp_path: Path) -> None:
    found = notes(run(tmp_path, *trials("none", 3, 0.9), scale=[]))
    assert not [note for note in found if note.startswith(("Data", "Victims"))]


def test_a_table_says_which_of_several_victims_it_counts(tmp_path: Path) -> None:
    """Two victims that differ in augmentation may have the same poisons: 15 and 69 % of one row are both ours."""
    alone = notes(run(tmp_path, *trials("none", 3, 0.9)))
    assert not [note for note in alone if note.startswith("Our numbers")]
    rows = [(victim, defense) for victim in ("plain", "other") for defense in ("none", "clean")]
    lines = [line("gm", defense, SEEDS, victim=victim) for victim, defense in rows]
    for mean, whose in ((False, "victim plain"), (True, "the mean over victims")):
        told = notes(run(tmp_path, lines=lines, mean_over_victims=mean))
        assert f"Our numbers are of {whose}; the study's own table has each victim." in told
