"""workflow/scripts/paper_table.py: what stands below a table of the paper, and in which order."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
from loading import program

from poisonlab.evaluation.trials import Trial, write_trials
from poisonlab.provenance import spec

REFERENCE = Path(__file__).resolve().parents[2] / "reference"

paper_table_script = program("paper_table")


def line(defense: str) -> dict[str, Any]:
    settings = f"settings of {defense}"
    return {"attack": "gm", "defense": defense, "control": False, "seeds": [0, 1, 2, 3], "settings": settings,
            "called": defense}  # fmt: skip


def trials(defense: str, successes: int, accuracy: float) -> list[Trial]:
    settings = f"settings of {defense}"
    return [
        Trial("gm", defense, seed, float(seed < successes), 0.5, accuracy, 1.0, settings=settings) for seed in range(4)
    ]


def run(folder: Path, *some: Trial, **changes: Any) -> dict[str, str]:
    write_trials(folder / "own.csv", some, [{}] * len(some))
    values: dict[str, Any] = {
        "description": "Made up.",
        "scale": ["Data: few.", "Victims: small."],
        "lines": [line("none"), line("friends-bernoulli")],
        "claims": [{"attack": "gm", "table": 4}],
    }
    outputs = {kind: folder / f"table.{kind}" for kind in ("csv", "md", "tex")}
    paper_table_script.main(
        [
            *("--spec", *spec(**{**values, **changes})),
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
    # FRIENDS, table 4: 75 % at 93.5 % and 0 % at 91.52 %; of four seeds 3 and 4 successes.
    assert notes(texts)[:5] == [
        "FRIENDS, table 4. Ours: Made up.",
        "Finding: 1 of 2 published successes lie in our intervals.",
        "Finding: 1 of 2 published accuracies lie in our intervals.",
        "Data: few.",
        "Victims: small.",
    ]
    table = pd.read_csv(StringIO(texts["csv"])).set_index("defense")
    # One seed differs.
    assert table.loc["none", "p_best_holm"] == 1


def test_without_results_there_is_nothing_to_find(tmp_path: Path) -> None:
    found = notes(run(tmp_path))
    assert not [note for note in found if note.startswith("Finding")]
    assert "Not run yet: 8 of 8 victims." in found


def test_scale_may_be_left_out(tmp_path: Path) -> None:
    found = notes(run(tmp_path, *trials("none", 3, 0.9), scale=[]))
    assert not [note for note in found if note.startswith(("Data", "Victims"))]
