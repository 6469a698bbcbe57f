"""A checkpoint is valid only for a run that computes the same."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from poisonlab.training import job
from poisonlab.training.job import job_checkpoint


def arguments(folder: Path, precision: str) -> argparse.Namespace:
    return argparse.Namespace(
        checkpoint=folder / "state.safetensors",
        checkpoint_seconds=0.0,
        spec=["recipe.epochs=2", f"recipe.precision={precision}"],
        code=["loop=1"],
        threads=1,
        device="cpu",
        capture=False,
    )


def saved_and_resumed(folder: Path, monkeypatch: pytest.MonkeyPatch, precision: str, had: bool, has: bool) -> bool:
    """Whether a run resumes what it saved on a processor that ``had`` bfloat16, on another that ``has`` it."""
    args = arguments(folder, precision)
    monkeypatch.setattr(job, "multiplies_bfloat16", lambda device: had)
    job_checkpoint(args).save({"weight": torch.ones(1)}, {"epoch": 1})
    monkeypatch.setattr(job, "multiplies_bfloat16", lambda device: has)
    return job_checkpoint(args).load() is not None


@pytest.mark.parametrize(
    ("precision", "had", "has", "resumes"),
    [
        ("bfloat16", True, True, True),
        ("bfloat16", False, False, True),
        ("bfloat16", True, False, False),
        ("bfloat16", False, True, False),
        ("float32", True, False, True),
    ],
)
def test_a_run_never_mixes_precisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, had: bool, has: bool, resumes: bool
) -> None:
    assert saved_and_resumed(tmp_path, monkeypatch, precision, had, has) is resumes


@pytest.mark.parametrize("other", [{"threads": 2}, {"code": ["loop=2"]}, {"spec": ["recipe.epochs=3"]}], ids=str)
def test_a_run_that_computes_something_else_begins_anew(tmp_path: Path, other: dict[str, object]) -> None:
    saved = arguments(tmp_path, "float32")
    job_checkpoint(saved).save({"weight": torch.ones(1)}, {"epoch": 1})
    assert job_checkpoint(saved).load() is not None
    assert job_checkpoint(argparse.Namespace(**{**vars(saved), **other})).load() is None
