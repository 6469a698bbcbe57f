"""The committed tables are those that the committed trials make."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from loading import program

from poisonlab.config.merging import merged_config
from poisonlab.config.study import read_study
from poisonlab.errors import SettingsError
from poisonlab.graph.graph import Graph

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "results" / "reference"
remaking = program("committed_tables")
# results/reference/README.md says why.
AS_THEY_WERE_MADE = {
    "cifar10-fast-cpu",
    "cifar10-fast-smoothed-cpu",
    "derivative-cpu",
    "paper-mini-cpu",
}


def test_every_folder_can_be_made_anew_or_stays_as_it_was_made() -> None:
    folders = {path.name for path in REFERENCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {*remaking.RUNS} | AS_THEY_WERE_MADE
    assert not {*remaking.RUNS} & AS_THEY_WERE_MADE
    for folder, run in remaking.RUNS.items():
        assert all((REFERENCE / folder / name).is_file() for name in run.kept), folder
        assert all((ROOT / name).is_file() for name in run.configs), folder
        assert all([*(REFERENCE / other).glob("*-trials.csv")] for other in (folder, *run.also)), folder


@pytest.mark.parametrize("folder", remaking.RUNS)
def test_the_trials_of_a_folder_are_all_that_its_tables_count(folder: str) -> None:
    """A folder that needs another's trials, and does not name it, would make tables with fewer victims."""
    run = remaking.RUNS[folder]
    found = [str(path) for name in (*run.also, folder) for path in (REFERENCE / name).glob("*-trials.csv")]
    settings = merged_config([str(ROOT / name) for name in run.configs], list(run.settings))
    study = read_study({**settings, "merge": found})
    own = {row.name for row in study.defenses}
    left = [cell for cell in Graph(study).tables.local if cell.defense in own]
    pages = [path.read_text(encoding="utf-8") for path in (REFERENCE / folder).glob(f"{study.study}.md")]
    said = [int(count) for page in pages for count in re.findall(r"Not run yet: (\d+) of", page)]
    assert sum(said) == len(left)


@pytest.mark.workflow
def test_committed_tables_are_made_from_the_committed_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, copy = "cifar10-fast-float32-cpu", tmp_path / "reference"
    shutil.copytree(REFERENCE, copy)
    monkeypatch.setattr(remaking, "REFERENCE", copy)
    spoilt = copy / folder / "cifar10-fast.md"
    spoilt.write_text("87.5", encoding="utf-8")
    # All others are as they are committed.
    assert remaking.remake(folder, tmp_path) == [f"{folder}/cifar10-fast.md"]
    assert spoilt.read_bytes() == (REFERENCE / folder / "cifar10-fast.md").read_bytes()


def test_a_folder_without_such_tables_is_one_line() -> None:
    with pytest.raises(SettingsError, match=r"^derivative-cpu has no tables to make anew: name one of attacks-float32"):
        remaking.main(["derivative-cpu"])
