"""A short, repeatable part of the fuzzing: ``make fuzz`` does it for longer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from fuzzing import TARGETS, Outcome, fuzz
from harness import warm_environment

from poisonlab.config.data.source import FileDataset
from poisonlab.config.datasets import OneSource

INPUTS = 150
SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    python = Path(warm_environment(tmp_path_factory.mktemp("warm") / "environment")).with_name("python")
    return fuzz(TARGETS, "--inputs", str(INPUTS), python=str(python))


@pytest.mark.parametrize("target", TARGETS)
def test_random_inputs_are_read_or_refused_in_one_line(outcomes: dict[str, Outcome], target: str) -> None:
    outcome = outcomes[target]
    assert outcome.faults == {}
    assert outcome.inputs == INPUTS
    # Of CIFAR a checksum refuses whatever differs by a bit.
    assert outcome.read > 0 or target == "cifar"
    assert outcome.read < INPUTS


def test_every_source_that_reads_files_is_fuzzed() -> None:
    readers = [kind for kind in get_args(OneSource) if issubclass(kind, FileDataset)]
    assert {kind.__module__.rpartition(".")[2].replace("_", " ") for kind in readers} <= set(TARGETS)


CARELESS = """
import json, os, pickle, signal, subprocess, sys, time
from pathlib import Path
import worker
from poisonlab.errors import DataError

class Calls:
    def __reduce__(self): return os.system, ("touch canary",)

def raises(error): raise error
def swallows():
    try: os.system("touch canary")
    except BaseException: pass

signal.signal(signal.SIGALRM, worker._hang)
worker._LONGEST = 1
watch = worker.Watch()
folder = Path()
readers = {
    "pickle": lambda _: pickle.loads(pickle.dumps(Calls())),
    "system": lambda _: os.system("touch canary"),
    "program": lambda _: subprocess.Popen(["touch", "canary"]),
    "eval": lambda _: eval("1 + 1"),
    "writing": lambda _: open("canary", "w"),
    "import": lambda _: __import__("antigravity"),
    "in silence": lambda _: swallows(),
    "hang": lambda _: time.sleep(20),
    "traceback": lambda _: raises(KeyError("x")),
    "no memory": lambda _: raises(MemoryError()),
    "one line": lambda _: raises(DataError("x")),
    "fine": lambda _: 1,
}
print(json.dumps({name: worker.fault_of(read, folder, watch)[0] for name, read in readers.items()}))
"""


def test_a_careless_reader_is_found_out(tmp_path: Path) -> None:
    done = subprocess.run(
        ["env", f"PYTHONPATH={SRC}:{Path(__file__).parent}", sys.executable, "-c", CARELESS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    faults = json.loads(done.stdout)
    begins = {
        "pickle": "ran pickle.find_class",
        "system": "ran os.system",
        "in silence": "ran os.system",
        "program": "ran subprocess.Popen",
        "eval": "ran exec",
        "writing": "ran open",
        "import": "ran import antigravity",
        "hang": "hung",
        "traceback": "KeyError",
    }
    for name, begin in begins.items():
        assert faults.pop(name).startswith(begin), name
    assert faults == {"no memory": None, "one line": None, "fine": None}
    assert not list(tmp_path.iterdir())
