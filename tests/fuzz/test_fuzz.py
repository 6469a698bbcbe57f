"""A short, repeatable part of the fuzzing: ``make fuzz`` does it for longer."""

from __future__ import annotations

import pytest
from fuzzing import TARGETS, Outcome, fuzz

INPUTS = 150


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    return fuzz(TARGETS, "--inputs", str(INPUTS))


@pytest.mark.parametrize("target", TARGETS)
def test_random_inputs_are_read_or_refused_in_one_line(outcomes: dict[str, Outcome], target: str) -> None:
    outcome = outcomes[target]
    assert outcome.faults == {}
    assert outcome.inputs == INPUTS
    # Of CIFAR a checksum refuses whatever differs by a bit.
    assert outcome.read > 0 or target == "cifar"
    assert outcome.read < INPUTS
