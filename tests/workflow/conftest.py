"""Finished studies to test against, made once per session and shared by all pytest-xdist workers."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Checkout, check_out, stub_environment, warm_environment

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--many-kills", action="store_true", help="also kill a study twenty times")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A folder that all workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    # With pytest-xdist every worker has a folder of its own below the session's.
    folder = (base.parent if hasattr(request.config, "workerinput") else base) / "studies"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment whose jobs need not load torch."""
    return warm_environment(tmp_path_factory.mktemp("warm") / "environment")


def _once(folder: Path, make: Callable[[], object]) -> None:
    """Call ``make`` in the first process that comes here; the others wait for it."""
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder.with_suffix(".done")
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make()
            done.touch()


def _planned(shared: Path, name: str) -> Checkout:
    """The graph of a study with every job done by a stub: real Snakemake records, worthless results."""
    stub = shared / "stub"
    study = Checkout(shared / f"planned-{name}", str(stub / "bin" / "interpreter"))

    def make() -> None:
        check_out(study.path, HERE / f"{name}.yaml", study.python)
        outcome = study.snakemake("--cores", "2")
        assert outcome.code == 0, outcome.output

    _once(stub, lambda: stub_environment(stub))
    _once(study.path, make)
    return study


@pytest.fixture(scope="session")
def planned(shared: Path) -> Checkout:
    """The graph of tiny.yaml, done by stubs."""
    return _planned(shared, "tiny")


@pytest.fixture(scope="session")
def planned_scenarios(shared: Path) -> Checkout:
    """The graph of scenarios.yaml, done by stubs."""
    return _planned(shared, "scenarios")


@pytest.fixture(scope="session")
def finished(shared: Path, warm: str) -> Checkout:
    """The study of real.yaml, really computed."""
    return _computed(shared / "finished", "real", warm)


@pytest.fixture(scope="session")
def rooms(shared: Path, warm: str) -> Checkout:
    """The study of rooms.yaml, really computed."""
    return _computed(shared / "rooms", "rooms", warm)


def _computed(path: Path, name: str, warm: str) -> Checkout:
    def make() -> None:
        check_out(path, HERE / f"{name}.yaml", spied=True)
        outcome = study.snakemake("--cores", "2")
        assert outcome.code == 0, outcome.output

    study = Checkout(path, warm)
    _once(path, make)
    return study


EXTENDED = (
    "results/victims/real/moved/transfer/none/seed0.safetensors",
    "results/victims/real/moved/transfer/friends-bernoulli/seed0.safetensors",
    "results/poisons/real/adaptive/seed0.safetensors",
)


@pytest.fixture(scope="session")
def extended(shared: Path, finished: Checkout, warm: str) -> Checkout:
    """``finished`` with two attacks more, really computed for one seed: one that knows the friendly noise of the first,
    and the first's poisons as if made elsewhere, for a transfer victim. Snakemake's output is in ``extended.log``."""
    study = Checkout(shared / "extended", warm)

    def extend(settings: Any) -> None:
        recipe = settings["victims"][0]["recipe"]
        settings["victims"].append(
            {"name": "transfer", "scenario": "transfer", "pretrained": "base", "recipe": recipe, "head": "fresh"}
        )
        adaptation = {"friendly_attack": "strong", "friendly_defense": "friends-bernoulli"}
        adaptive = {"name": "adaptive", "method": "sleeper-agent", "surrogate": "base", "budget": 0.05, "steps": 4}
        moved = {"name": "moved", "method": "imported", "path": "imported/{seed}.safetensors", "victims": ["transfer"]}
        settings["attacks"] += [{**adaptive, "retrain_every": 2, "adaptation": adaptation}, moved]

    def make() -> None:
        finished.copy(study.path)
        for seed in (0, 1):
            poisons = study.path / f"results/poisons/real/strong/seed{seed}.safetensors"
            shutil.copy(poisons, study.path / "imported" / f"{seed}.safetensors")
        study.change_study(extend)
        outcome = study.snakemake(*EXTENDED, "--cores", "2")
        assert outcome.code == 0, outcome.output
        (study.path / "extended.log").write_text(outcome.output, encoding="utf-8")

    _once(study.path, make)
    return study


L2 = {"method": "l2-centroid", "fraction": 0.1}
DEFENDED = [
    {"name": "filtered", "apply": [L2]},
    {
        "name": "filtered-friends-b",
        "apply": [
            L2,
            {"method": "random-filter", "fraction": 0.1},
            {"method": "friendly-noise", "steps": 2, "def_epoch": 1},
            {"method": "random-noise", "distribution": "bernoulli"},
        ],
    },
    {"name": "strip", "apply": [{"method": "strip", "count": 5, "clean_share": 0.4, "far": 0.5}]},
    {"name": "neural-cleanse", "apply": [{"method": "neural-cleanse", "epochs": 2, "clean_share": 0.4}]},
    {"name": "dp-sgd", "apply": [{"method": "dp-sgd", "noise_multiplier": 1}]},
    {
        "name": "abl",
        "apply": [
            {"method": "abl", "isolation_epochs": 1, "fine_tune_epochs": 1, "unlearn_epochs": 1, "share": 0.05},
        ],
    },
]


@pytest.fixture(scope="session")
def defended(shared: Path, finished: Checkout, warm: str) -> Checkout:
    """``finished`` with the rows of ``DEFENDED`` more, really computed up to the tables for the first seed alone.
    Snakemake's output is in ``defended.log``."""
    study = Checkout(shared / "defended", warm)

    def extend(settings: Any) -> None:
        settings["attacks"][0]["seeds"] = [0]
        settings["defenses"] += DEFENDED

    def make() -> None:
        finished.copy(study.path)
        study.change_study(extend)
        outcome = study.snakemake("results", "--cores", "2")
        assert outcome.code == 0, outcome.output
        (study.path / "defended.log").write_text(outcome.output, encoding="utf-8")

    _once(study.path, make)
    return study


@pytest.fixture
def copied(planned: Checkout, tmp_path: Path) -> Checkout:
    """A copy of ``planned`` to change."""
    return planned.copy(tmp_path / "study")


@pytest.fixture
def copied_scenarios(planned_scenarios: Checkout, tmp_path: Path) -> Checkout:
    """A copy of ``planned_scenarios`` to change."""
    return planned_scenarios.copy(tmp_path / "study")


@pytest.fixture(scope="session")
def fresh(shared: Path) -> Checkout:
    """A checkout in which nothing was run: only read it, or copy it."""
    study = Checkout(shared / "fresh")
    _once(study.path, lambda: check_out(study.path, HERE / "tiny.yaml"))
    return study
