"""A study that is killed at random moments ends complete, and in the bytes of one that nobody disturbed."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from harness import Checkout, check_out
from killing import METHODS, Assault, lasting_content, undisturbed

pytestmark = pytest.mark.workflow

HERE = Path(__file__).parent

MANY = Counter(
    dataset=1, pretrain=3, craft=2, train=3, filter=1, noise=3, detect=2, landscape_victims=1, output_std=1
) + Counter(trials=1, tables=1, report=1)  # fmt: skip
"""Twenty kills over all stages, most where a training can go on from a save."""


def in_order(study: Checkout, calm: Checkout) -> None:
    """Nothing is missing, left over or other than it should be."""
    ours, theirs = lasting_content(study), lasting_content(calm)
    assert ours.keys() == theirs.keys()
    assert {name for name in ours if ours[name] != theirs[name]} == set()


def test_a_study_that_is_killed_ends_in_the_same_bytes(finished: Checkout, tmp_path: Path) -> None:
    """The poisons of one seed and what follows, killed in three stages."""
    study = finished.copy(tmp_path / "study")
    for stage in ("poisons", "noise", "victims"):
        for path in (study.path / "results" / stage).rglob("seed0.*"):
            path.unlink()
    aims = Counter(craft=1, noise=1, train=1)
    assault = Assault(study, "victims", aims, {}, random.Random(1))
    assault.run()
    assert len(assault.kills) == 3, assault.kills
    assert {kill.stage for kill in assault.kills} == {"craft", "noise", "train"}
    in_order(study, finished)
    assert "Nothing to be done" in study.snakemake("victims", "--cores", "1").output


def test_twenty_kills_over_all_stages(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """``make test-faults`` runs this one; it takes some minutes."""
    if not request.config.getoption("--many-kills"):
        pytest.skip("takes minutes: make test-faults")
    calm = check_out(tmp_path / "calm", HERE / "faults.yaml")
    lasting = undisturbed(calm, "all")
    study = check_out(tmp_path / "study", HERE / "faults.yaml")
    assault = Assault(study, "all", Counter(MANY), lasting, random.Random(20))
    assault.run()
    for kill in assault.kills:
        print(f"{kill.method:18} {kill.stage:18} after {kill.after:.2f} s{', saved' if kill.saved else ''}")
    print(f"{len(assault.kills)} kills, {assault.calls} calls")
    assert len(assault.kills) == MANY.total() == 20
    hit = Counter(kill.stage for kill in assault.kills)
    # On a busy machine a short job may end before its moment comes; its kill is then another one's.
    assert len(MANY.keys() & hit.keys()) >= len(MANY) - 2, hit
    assert {"pretrain", "craft", "noise", "train"} <= hit.keys()
    assert {kill.method for kill in assault.kills} == set(METHODS)
    # A training had something to go on from.
    assert any(kill.saved for kill in assault.kills)
    in_order(study, calm)
    assert "Nothing to be done" in study.snakemake("all", "--cores", "1").output
