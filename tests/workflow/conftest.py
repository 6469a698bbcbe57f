"""Finished studies to test against, made once per session and shared by all pytest-xdist workers."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Checkout, check_out, stub_environment

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A folder that all workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    # With pytest-xdist every worker has a folder of its own below the session's.
    folder = (base.parent if hasattr(request.config, "workerinput") else base) / "studies"
    folder.mkdir(exist_ok=True)
    return folder


def _once(folder: Path, make: Callable[[], object]) -> None:
    """Call ``make`` in the first process that comes here; the others wait for it."""
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder.with_suffix(".done")
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make()
            done.touch()


@pytest.fixture(scope="session")
def planned(shared: Path) -> Checkout:
    """The graph of tiny.yaml with every job done by a stub: real Snakemake records, worthless results."""
    interpreter = shared / "stub" / "bin" / "interpreter"
    study = Checkout(shared / "planned", str(interpreter))

    def make() -> None:
        shutil.rmtree(shared / "stub", ignore_errors=True)
        stub_environment(shared / "stub")
        check_out(study.path, HERE / "tiny.yaml", study.python)
        outcome = study.snakemake("--cores", "2")
        assert outcome.code == 0, outcome.output

    _once(study.path, make)
    return study


@pytest.fixture(scope="session")
def finished(shared: Path) -> Checkout:
    """The study of real.yaml, really computed."""
    study = Checkout(shared / "finished")

    def make() -> None:
        check_out(study.path, HERE / "real.yaml")
        outcome = study.snakemake("--cores", "2")
        assert outcome.code == 0, outcome.output

    _once(study.path, make)
    return study


@pytest.fixture
def copied(planned: Checkout, tmp_path: Path) -> Checkout:
    """A copy of ``planned`` to change."""
    return planned.copy(tmp_path / "study")


@pytest.fixture(scope="session")
def fresh(shared: Path) -> Checkout:
    """A checkout in which nothing was run: only read it, or copy it."""
    study = Checkout(shared / "fresh")
    _once(study.path, lambda: check_out(study.path, HERE / "tiny.yaml"))
    return study
