"""Export a poison set for other people's code: the public benchmark's pickles, a folder of PNGs, tensors or arrays."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.errors import DataError
from poisonlab.interchange.benchmark import write_benchmark
from poisonlab.interchange.npz_file import write_changes, write_npz
from poisonlab.interchange.png_folder import write_png_folder
from poisonlab.interchange.tensors import write_tensors_pth
from poisonlab.runtime.program import run

FORMATS = {
    "benchmark": write_benchmark,
    "changes": write_changes,
    "npz": write_npz,
    "png": write_png_folder,
    "tensors": write_tensors_pth,
}


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--poisons", type=Path, required=True, help="a poison set (.safetensors)")
    arguments.add_argument("--format", choices=sorted(FORMATS), required=True)
    arguments.add_argument(
        "--output", type=Path, required=True, help="a new folder; for tensors a .pth file, for changes and npz a .npz"
    )
    args = arguments.parse_args(argv)
    if args.output.is_file():
        raise DataError(f"{args.output} exists already: remove it, or choose another file to export to")
    FORMATS[args.format](args.output, PoisonSet.load(args.poisons))


if __name__ == "__main__":
    run(main)
