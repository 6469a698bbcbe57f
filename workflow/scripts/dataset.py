"""Read or draw the study's dataset, once for all other jobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonlab import modules
from poisonlab.artifacts.dataset import save_dataset
from poisonlab.config.stages import read_stage
from poisonlab.config.types import Settings
from poisonlab.data.sources import load_dataset
from poisonlab.runtime.program import run, settings, spec_parser


class Reading(Settings):
    """Settings of the dataset's source, whose module checks them."""

    dataset: dict[str, object]


def main(argv: Sequence[str]) -> None:
    arguments = spec_parser(__doc__)
    arguments.add_argument("--dataset", type=Path, required=True, help="output: the dataset (.safetensors)")
    args = arguments.parse_args(argv)
    stage = read_stage(Reading, settings(args.spec))
    source = modules.load("data", str(stage.dataset.get("source")))
    save_dataset(args.dataset, load_dataset(read_stage(source.Settings, stage.dataset)))


if __name__ == "__main__":
    run(main)
