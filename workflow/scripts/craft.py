"""Craft one seed's poisons with one attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from poisonlab import modules
from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.noise import load_noise
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.config.models.model import NamedModel
from poisonlab.config.recipe import Recipe
from poisonlab.config.stages import Seed, read_stage
from poisonlab.config.start import Start
from poisonlab.config.types import Settings
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import fine_tuning_rows
from poisonlab.models.classifier import Classifier
from poisonlab.models.networks import build_network, build_normalize, read_network
from poisonlab.runtime.program import add_checkpoint_arguments, parser, run
from poisonlab.stage_program import begin
from poisonlab.training.job import job_checkpoint


class SurrogateOf(Settings):
    """One of the attack's surrogates: architecture and training."""

    model: NamedModel
    recipe: Recipe


class Crafting(Settings):
    """Settings of one crafting job; the attack's module checks the attack's settings."""

    surrogates: tuple[SurrogateOf, ...] = ()
    attack: dict[str, object]
    fine_tune_per_class: int | None = None
    seed: Seed


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--surrogates",
        type=Path,
        nargs="*",
        default=[],
        help="weights, the same number for each surrogate of the settings",
    )
    arguments.add_argument("--noise", type=Path, help="friendly noise of an earlier run, for an adaptive attack")
    arguments.add_argument("--poisons", type=Path, required=True, help="output: the poison set (.safetensors)")
    arguments.add_argument("--card", type=Path, required=True, help="output: run card (.json)")
    add_checkpoint_arguments(arguments)
    args, stage, device, card = begin(arguments, argv, Crafting)
    attack = modules.load("attacks", str(stage.attack.get("method")))
    attack_settings = read_stage(attack.Settings, stage.attack)

    dataset = read_dataset(args.dataset)
    noise = [args.noise] if args.noise else []
    files = attack_settings.files(stage.seed)
    checkpoint = job_checkpoint(args, [args.dataset, *args.surrogates, *noise, *files])
    poisons: PoisonSet = attack.craft(
        dataset,
        replace(
            _attacker(stage, args.surrogates, args.noise, dataset, device),
            checkpoint=checkpoint,
            capture=args.capture == "auto",
        ),
        attack_settings,
        seed=stage.seed,
        progress=True,
    )
    poisons.check_change(dataset.train_images, dataset.train_labels)
    if attack_settings.bound is not None:
        poisons.check_bound(attack_settings.bound)
    card.write(
        args.card,
        largest_change=poisons.largest_change(),
        poisons=len(poisons.indices),
        classes=poisons.classes(dataset.class_names, dataset.train_labels),
    )
    poisons.save(args.poisons)
    checkpoint.clear()


def _attacker(
    stage: Crafting, weights: Sequence[Path], noise: Path | None, dataset: ImageDataset, device: torch.device
) -> Attacker:
    each = len(weights) // max(1, len(stage.surrogates))
    networks = [
        read_network(path, stage.surrogates[place // each].model, dataset, device) for place, path in enumerate(weights)
    ]

    def fresh(seed: int) -> Classifier:
        return build_network(stage.surrogates[0].model, dataset, seed=seed, device=device)

    return Attacker(
        networks,
        build_normalize(dataset, device),
        stage.surrogates[0].recipe if stage.surrogates else Recipe(),
        fresh if stage.surrogates else None,
        fine_tuning_rows(dataset, Start(fine_tune_per_class=stage.fine_tune_per_class)),
        None if noise is None else load_noise(noise),
    )


if __name__ == "__main__":
    run(main)
