"""Fuzz every reader and the config schema for a while, and say how many inputs were tried and what was found.

Each target runs in a process of its own (``worker.py``), so that one that dies is a finding and not the end. The exit
status is 1 if there is any finding. An input repeats: ``worker.py <target> --first <number> --inputs 1``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGETS = (
    *("poisons.pickle", "setups", "pth", "old pth", "png folder", "npz", "parquet", "image", "png", "image folder"),
    *("npz poisons", "npy poisons", "pickle of two", "backdoorbench", "class folders"),
    *("idx", "svhn", "tiny imagenet", "tiny imagenet zip", "webdataset"),
    *("cifar", "dataset", "poison set", "noise", "keep list", "weights", "metrics", "history", "json", "trials"),
    *("published", "paper", "results", "ablation", "figure arrays", "figure tensors", "config", "config file", "spec"),
)


@dataclass
class Outcome:
    """What became of one target's inputs."""

    inputs: int = 0
    read: int = 0
    faults: dict[int, str] = field(default_factory=dict)


def fuzz(targets: Sequence[str], *options: str, python: str = sys.executable) -> dict[str, Outcome]:
    """Run targets in a process of their own, which ``python`` starts."""
    outcomes = {target: Outcome() for target in targets}
    with tempfile.TemporaryDirectory() as folder:
        command = [python, str(HERE / "worker.py"), *targets, "--keep", folder, *options]
        done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)
        for line in _lines(done.stdout):
            outcome = outcomes[line["target"]]
            if "fault" in line:
                outcome.faults[line["number"]] = line["fault"]
            else:
                outcome.inputs, outcome.read = line["inputs"], line["read"]
        if done.returncode != 0:
            at = json.loads((Path(folder) / "now").read_text()) if (Path(folder) / "now").exists() else {}
            ended = f"the process ended with {done.returncode}: {done.stderr.strip()[-300:]}"
            outcomes[at.get("target", targets[0])].faults[at.get("number", -1)] = ended
    return outcomes


def _lines(output: str) -> Iterator[dict[str, Any]]:
    for line in output.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def _environment() -> dict[str, str]:
    paths = [str(ROOT / "src"), str(HERE)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def main(argv: Sequence[str]) -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=600, help="for all targets together")
    arguments.add_argument("--first", type=int, default=0, help="number of each target's first input")
    arguments.add_argument("targets", nargs="*", default=TARGETS, metavar="target", help=f"of {', '.join(TARGETS)}")
    args = arguments.parse_args(argv)
    each = str(args.seconds / len(args.targets))
    print("| Target | Inputs | Read | Refused | Faults |\n| --- | --- | --- | --- | --- |")
    outcomes = []
    for target in args.targets:
        outcome = fuzz([target], "--seconds", each, "--first", str(args.first))[target]
        refused = outcome.inputs - outcome.read - len(outcome.faults)
        print(f"| {target} | {outcome.inputs:,} | {outcome.read:,} | {refused:,} | {len(outcome.faults)} |", flush=True)
        for number, fault in list(outcome.faults.items())[:5]:
            print(f"{target} {number}: {fault}", file=sys.stderr)
        outcomes.append(outcome)
    inputs, faults = sum(each.inputs for each in outcomes), sum(len(each.faults) for each in outcomes)
    print(f"{inputs:,} inputs, {faults} faults")
    return int(any(outcome.faults for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
