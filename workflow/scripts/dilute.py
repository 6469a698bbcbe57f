"""Remove a share of the poisons from a poison set: the row's defender has these images clean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.dilution import diluted
from poisonlab.config.defenses.dilution import Dilution
from poisonlab.config.stages import Seed, read_stage
from poisonlab.runtime.program import run, settings, spec_parser


class Diluting(Dilution):
    """Settings of one dilution."""

    seed: Seed


def main(argv: Sequence[str]) -> None:
    arguments = spec_parser(__doc__)
    arguments.add_argument("--poisons", type=Path, required=True, help="the poison set")
    arguments.add_argument("--diluted", type=Path, required=True, help="output: the poisons that are left")
    args = arguments.parse_args(argv)
    stage = read_stage(Diluting, settings(args.spec))
    diluted(PoisonSet.load(args.poisons), stage.share, stage.seed).save(args.diluted)


if __name__ == "__main__":
    run(main)
