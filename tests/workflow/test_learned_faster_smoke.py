"""The graph of learned-faster.yaml, really computed at the scale of config/learned-faster-smoke.yaml.

Of poisons and rows that differ in a number, one is computed: tests/config/test_learned_faster_configs.py holds that the
study has all 25 poisons, and tests/evaluation/test_transfer_table.py that it has all of table 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from harness import REPOSITORY, Checkout, check_out
from PIL import Image
from test_smoke import without

pytestmark = pytest.mark.workflow

STUDY = "learned-faster-smoke"
POISONS = ("p10", "p100", "m10", "fc", "fcsd", "su", "cu", "r1", "rn", "lf8")
TRANSFERRED = ("p10", "p100", "m10", "fc", "fcsd", "rn")
OVER_ATTACKS, OF_ATTACKS = ("of 10 attacks", "Spearman's"), ("p10", "fcsd", "su", "rn", "lf8")
FIGURES = {
    "speed": OVER_ATTACKS,
    "final-accuracy": OVER_ATTACKS,
    "perturbations": OF_ATTACKS,
    "poison-curves": OF_ATTACKS,
}
"""The paper's four, and words of their captions."""


def spare(settings: Any) -> None:
    def kept(names: list[str]) -> list[str]:
        return [name for name in names if name in POISONS]

    without(settings, "attacks", {each["name"] for each in settings["attacks"]} - set(POISONS))
    without(settings, "defenses", {"friends-uniform", "jpeg-90", "jpeg-10", "dilution-20"})
    stronger = settings["poison_claims"]["stronger"]
    del stronger["mi-fgsm"]
    stronger.update({name: kept(poisons) for name, poisons in stronger.items()})
    settings["transfer"]["attacks"] = kept(settings["transfer"]["attacks"])
    for column in settings["figures"]["curves"]:
        column["attacks"] = kept(column["attacks"])


def test_every_kind_of_poison_reaches_tables_and_figures(tmp_path: Path, warm: str) -> None:
    """One test, so that one worker computes it and the other goes on."""
    study = check_out(tmp_path / "study", REPOSITORY / f"config/{STUDY}.yaml", warm)
    study.change_study(spare)
    outcome = study.snakemake("paper", "--cores", "2", timeout=1800)
    assert outcome.code == 0, outcome.output
    check_table(study)
    check_transfer(study)
    check_figures(study)
    page = (study.path / f"results/reports/{STUDY}.html").read_text(encoding="utf-8")
    trials = pd.read_csv(study.path / f"results/tables/{STUDY}-trials.csv")
    assert f"{len(trials)} of {len(trials)} victims" in page
    again = study.snakemake("paper", "--cores", "2")
    assert again.code == 0
    assert "Nothing to be done" in again.output


def check_table(study: Checkout) -> None:
    """Each poison has a peak and a final accuracy of ours beside the published ones."""
    table = pd.read_csv(study.path / f"results/tables/{STUDY}-table1.csv")
    published = pd.read_csv(REPOSITORY / "reference/learned-faster/table1.csv")
    assert sorted(table["row"]) == sorted(published["row"].unique())
    ran = table[table["our_defense"].notna()]
    assert sorted(ran["row"].str.lower()) == sorted(POISONS)
    assert (ran["n"] == 1).all()
    both = [f"{whose}{measure}" for whose in ("", "published_") for measure in ("peak_accuracy", "accuracy")]
    assert ran[both].notna().all(axis=None)
    assert (ran["peak_accuracy"] >= ran["accuracy"]).all()
    for kind in ("md", "tex"):
        text = (study.path / f"results/tables/{STUDY}-table1.{kind}").read_text(encoding="utf-8")
        assert all(row in text for row in table["row"])


def check_transfer(study: Checkout) -> None:
    """Poisons meet every clean network of the study, and their average is the mean over these."""
    table = pd.read_csv(study.path / f"results/tables/{STUDY}-transfer.csv")
    assert sorted(table["row"].str.lower()) == sorted(TRANSFERRED)
    ours = table[["transfer_resnet18", "transfer_mobilenet"]]
    assert ((ours >= 0) & (ours <= 1)).all(axis=None)
    assert np.allclose(table["transfer_average"], ours.mean(axis=1))
    assert table["published_transfer_average"].notna().all()


def check_figures(study: Checkout) -> None:
    """Every figure of the paper shows something and says it in numbers."""
    for name, words in FIGURES.items():
        path = study.path / f"results/figures/{STUDY}/{name}.png"
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert (pixels != 255).any(axis=2).mean() > 0.02, path
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        caption = path.with_suffix(".txt").read_text(encoding="utf-8")
        assert [word for word in words if word not in caption] == [], path
        assert any(letter.isdigit() for letter in caption), path
        assert "nan" not in caption.split(), path
