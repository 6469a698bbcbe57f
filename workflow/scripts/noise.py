"""Make one seed's friendly noise: train for the first epochs with the defense's random noise, then optimise.

FRIENDS, algorithm 1. The network that makes the noise is trained as the victim will be, with the same seed. With the
same architecture, it equals the victim at that epoch, bit for bit. If the row squeezes its training images (JPEG,
gray), noise is made for the squeezed images, because the victim adds it to these.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.keep_list import load_keep_list
from poisonlab.artifacts.noise import save_noise
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.artifacts.tensors import write_diverged
from poisonlab.config.defenses.friendly_noise import FriendlyNoise as FriendlyNoiseSettings
from poisonlab.config.stages import read_stage
from poisonlab.config.start import Start
from poisonlab.config.training import VictimTraining
from poisonlab.data.training_set import fine_tuning_rows, origins, split_validation, training_set
from poisonlab.defenses.build import build_defenses
from poisonlab.defenses.friendly_noise import friendly_noise
from poisonlab.errors import DivergedError
from poisonlab.models.networks import build_normalize, build_victim
from poisonlab.randomness import stream_seed
from poisonlab.runtime.cards import RunCard
from poisonlab.runtime.program import add_checkpoint_arguments, parser, run
from poisonlab.stage_program import begin
from poisonlab.training.defense import Defense
from poisonlab.training.job import job_checkpoint
from poisonlab.training.loop import train


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    add_checkpoint_arguments(arguments)
    arguments.add_argument("--poisons", type=Path, help="the poison set; clean data if not given")
    arguments.add_argument("--pretrained", type=Path, help="weights from which the victim starts, unless from scratch")
    arguments.add_argument("--keep", type=Path, help="keep-list of the row's filters, if it has any")
    arguments.add_argument("--noise", type=Path, required=True, help="output: the friendly noise (.safetensors)")
    arguments.add_argument("--card", type=Path, required=True, help="output: run card (.json)")
    args, stage, device, card = begin(arguments, argv, VictimTraining)
    (friendly,) = (defense for defense in stage.defenses if defense.get("method") == "friendly-noise")
    chosen = read_stage(FriendlyNoiseSettings, friendly)
    try:
        _make(args, stage, chosen, device, card)
    except DivergedError as error:
        card.write_failed(args.card, error, cost_seconds=card.seconds())
        write_diverged(args.noise, error)
        args.checkpoint.unlink(missing_ok=True)


def _make(
    args: argparse.Namespace, stage: VictimTraining, chosen: FriendlyNoiseSettings, device: torch.device, card: RunCard
) -> None:
    dataset = read_dataset(args.dataset)
    poisons = PoisonSet.load(args.poisons) if args.poisons else None
    rows = fine_tuning_rows(dataset, stage.start)
    whole = training_set(dataset, poisons, rows)
    data, validation = split_validation(dataset, whole)
    if args.keep:
        data = data.keep(load_keep_list(args.keep, len(data)))
    defenses = build_defenses(stage.defenses, noise=None)
    for defense in defenses:
        data = defense.prepare(data) if defense.squeezes else data
    # Squeezing is done. Idle defenses take these places, because places decide the other defenses' random numbers.
    defenses = [Defense() if defense.squeezes else defense for defense in defenses]
    seed = stream_seed(stage.seed, "victim")
    # A donor of another architecture has no pretrained weights to begin from.
    start = Start(scenario="from-scratch") if chosen.donor else stage.start
    pretrained = None if chosen.donor else args.pretrained
    network = build_victim(chosen.donor or stage.model, start, dataset, pretrained, seed=seed, device=device)
    normalize = build_normalize(dataset, device)
    checkpoint = job_checkpoint(
        args, [path for path in (args.dataset, args.poisons, args.pretrained, args.keep) if path]
    )
    train(
        network,
        normalize,
        data,
        stage.recipe,
        seed=seed,
        defenses=defenses,
        validation=validation,
        until=chosen.def_epoch,
        checkpoint=checkpoint,
        capture=args.capture == "auto",
        progress=True,
    )
    trained = card.seconds()
    noise = friendly_noise(
        nn.Sequential(normalize, network),
        data.images,
        chosen,
        seed=seed,
        device=device,
        precision=stage.recipe.precision,
        checkpoint=checkpoint,
        progress=True,
    )
    levels = noise.abs() * 255
    # By row of the whole set; examples that filters dropped or that are held out need none.
    placed, made = torch.zeros(len(whole), *noise.shape[1:]), torch.zeros(len(whole), dtype=torch.bool)
    placed[data.rows], made[data.rows] = noise, True
    facts = {
        "mean_levels": round(float(levels.mean()), 4),
        "saturated": round(float((levels > 0.99 * chosen.zeta).float().mean()), 4),
    }
    card.write(args.card, cost_seconds=_cost(card.seconds(), trained, chosen), **facts)
    save_noise(args.noise, placed, origins(dataset, poisons, rows), facts, made)
    checkpoint.clear()


def _cost(total: float, trained: float, chosen: FriendlyNoiseSettings) -> float:
    """Seconds to charge to the defense: a victim that makes its own noise trains its first epochs only once."""
    return round(total if chosen.donor else total - trained, 3)


if __name__ == "__main__":
    run(main)
