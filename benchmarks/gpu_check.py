"""Check a GPU in seven minutes: whether anything breaks, whether bits repeat, and how fast it is.

    python benchmarks/gpu_check.py [--minutes 7] [--only SECTION ...] [--to FOLDER]
    python benchmarks/gpu_check.py --rehearse --to FOLDER

Writes <date>-<gpu>.md and .json anew after each section. A section that fails is recorded with its error, and the
others still run; its logs go to <date>-<gpu>.log. A section that does not fit into the time is recorded as skipped.
Exit status 1: a section failed; 2: CUDA has no GPU here.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gpu.bits import bits
from gpu.contracts import contracts
from gpu.machine import cuda_name, machine
from gpu.record import Record, logs_of
from gpu.running import asked_of_a_fork, run_all
from gpu.section import Check, Section
from gpu.timings import crafting, deep_knn, friendly_noise, training
from gpu.workflow import workflow

from poisonlab.runtime.cards import commit, processor

RECORDS = Path(__file__).with_name("records")
NO_GPU = 2
# Correctness comes before speed. Seven minutes in all.
SECTIONS = (
    Section("machine", 20, machine),
    Section("bits", 60, bits),
    Section("workflow", 145, workflow),
    Section("contracts", 65, contracts),
    Section("training", 45, training),
    Section("friendly-noise", 20, friendly_noise),
    Section("crafting", 40, crafting),
    Section("deep-knn", 25, deep_knn),
)


def main(argv: Sequence[str], sections: Sequence[Section] = SECTIONS) -> int:
    """Run the chosen sections and write the record; returns the exit status."""
    options = arguments(sections).parse_args(argv)
    if options.rehearse and options.to is None:
        print("gpu-check: a rehearsal is no record of a GPU: name a folder for it, --to FOLDER", file=sys.stderr)
        return NO_GPU
    # Set before CUDA starts: cuBLAS repeats its bits only with a workspace of fixed size.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    name = processor() if options.rehearse else asked_of_a_fork(cuda_name)
    if name is None:
        print("gpu-check: CUDA has no GPU here: --rehearse --to FOLDER runs the code on the CPU", file=sys.stderr)
        return NO_GPU
    chosen = [section for section in sections if not options.only or section.name in options.only]
    unasked = [section.name for section in sections if section not in chosen]
    record = Record(name, options.rehearse, commit(), options.minutes, [], unasked, [each.name for each in chosen])
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        check = Check("cpu" if options.rehearse else "cuda", options.rehearse, Path(folder), options.python)
        for outcome in run_all(chosen, check, options.minutes * 60):
            logs = logs_of(check.folder / outcome.section) if outcome.state == "failed" else ""
            record = record.after(outcome, logs)
            paths = record.write(options.to or RECORDS)
    for path in paths:
        print(path)
    for outcome in record.outcomes:
        print(f"{outcome.section}: {outcome.state}" + ("" if outcome.error is None else f": {outcome.error}"))
    return 1 if record.failed else 0


def arguments(sections: Sequence[Section]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [section.name for section in sections]
    parser.add_argument("--minutes", type=float, default=7.0, help="time of all sections together")
    parser.add_argument("--only", nargs="+", choices=names, default=[], metavar="SECTION", help=", ".join(names))
    parser.add_argument("--rehearse", action="store_true", help="everything at tiny sizes on the CPU")
    parser.add_argument("--to", type=Path, help="folder of the record; benchmarks/records if not given")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that starts Snakemake and pytest")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
