"""Craft one seed's poisons with one attack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonlab import modules
from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.commandline import RunCard, parser, prepare_torch, run, settings
from poisonlab.config.models import ModelSettings
from poisonlab.config.recipe import Augmentation
from poisonlab.config.stages import Seed, read_stage
from poisonlab.config.types import Settings
from poisonlab.models.networks import build_network, build_normalize, load_weights


class Crafting(Settings):
    """Settings of one crafting job; the attack's own are checked by its module."""

    model: ModelSettings
    augmentation: Augmentation
    attack: dict[str, object]
    seed: Seed


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--surrogates", type=Path, nargs="+", required=True, help="weights of the surrogates")
    arguments.add_argument("--poisons", type=Path, required=True, help="output: the poison set (.safetensors)")
    arguments.add_argument("--card", type=Path, required=True, help="output: run card (.json)")
    args = arguments.parse_args(argv)
    stage = read_stage(Crafting, settings(args.spec))
    attack = modules.load("attacks", str(stage.attack.get("method")))
    attack_settings = read_stage(attack.Settings, stage.attack)
    device = prepare_torch(args.device, args.threads)
    card = RunCard(device, args.spec)

    dataset = read_dataset(args.dataset)
    surrogates = []
    for path in args.surrogates:
        surrogate = build_network(stage.model, dataset, seed=0, device=device)
        load_weights(path, surrogate)
        surrogates.append(surrogate)
    poisons: PoisonSet = attack.craft(
        dataset,
        surrogates,
        build_normalize(dataset, device),
        stage.augmentation,
        attack_settings,
        seed=stage.seed,
        progress=True,
    )
    poisons.check_bound(attack_settings.eps)
    card.write(args.card, largest_change=poisons.largest_change(), poisons=len(poisons.indices))
    poisons.save(args.poisons)


if __name__ == "__main__":
    run(main)
