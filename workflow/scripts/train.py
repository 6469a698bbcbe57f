"""Train one victim under one row's defenses and measure the attack's outcome."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.keep_list import load_keep_list
from poisonlab.artifacts.noise import load_noise
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.artifacts.tensors import write_diverged
from poisonlab.config.training import VictimTraining
from poisonlab.config.types import Name, PositiveFloat
from poisonlab.data.training_set import (
    TrainingSet,
    fine_tuning_rows,
    origins,
    poisoned_examples,
    split_validation,
    training_set,
)
from poisonlab.defenses.build import build_defenses
from poisonlab.errors import DivergedError, SettingsError
from poisonlab.files import write_sealed
from poisonlab.models.networks import build_normalize, build_victim, save_weights
from poisonlab.models.outputs import accuracy
from poisonlab.randomness import stream_seed
from poisonlab.runtime.cards import RunCard
from poisonlab.runtime.program import add_checkpoint_arguments, parser, run
from poisonlab.stage_program import begin
from poisonlab.training.job import job_checkpoint
from poisonlab.training.loop import train
from poisonlab.training.outcome import CLEAN_VALIDATION, goal_outcome, history_outcome


class Victim(VictimTraining):
    """Settings of one victim; the defenses are the row's own, in order."""

    attack: Name
    victim: Name
    defense: Name
    poisoned: bool
    low_loss: PositiveFloat | None = None
    """Level of the training loss for ``first_epoch``; needed if the attack has no goal."""


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    add_checkpoint_arguments(arguments)
    arguments.add_argument("--poisons", type=Path, required=True, help="the poison set")
    arguments.add_argument("--pretrained", type=Path, help="weights from which the victim starts, unless from scratch")
    arguments.add_argument("--keep", type=Path, help="keep-list of the row's filters, if it has any")
    arguments.add_argument("--noise", type=Path, help="friendly noise, if a defense uses it")
    arguments.add_argument("--weights", type=Path, required=True, help="output: the victim (.safetensors)")
    arguments.add_argument("--metrics", type=Path, required=True, help="output: outcome and history (.json)")
    arguments.add_argument("--card", type=Path, required=True, help="output: run card (.json)")
    arguments.add_argument("--settings", help="digest of all settings that the outcome depends on, for the card")
    args, stage, device, card = begin(arguments, argv, Victim)
    try:
        _train(args, stage, device, card)
    except DivergedError as error:
        write_sealed(args.metrics, {**_who(stage), "failed": error.facts()})
        card.write_failed(args.card, error, settings=args.settings)
        write_diverged(args.weights, error)
        args.checkpoint.unlink(missing_ok=True)


def _train(args: argparse.Namespace, stage: Victim, device: torch.device, card: RunCard) -> None:
    dataset = read_dataset(args.dataset)
    poisons = PoisonSet.load(args.poisons)
    if poisons.goal is None and stage.low_loss is None:
        raise SettingsError(f"--spec low_loss: {args.poisons} has no goal, so a level of the training loss is needed")
    noise = load_noise(args.noise) if args.noise else None
    seed = stream_seed(stage.seed, "victim")
    network = build_victim(stage.model, stage.start, dataset, args.pretrained, seed=seed, device=device)
    rows = fine_tuning_rows(dataset, stage.start)
    normalize = build_normalize(dataset, device)
    used = poisons if stage.poisoned else None
    data, validation = split_validation(dataset, training_set(dataset, used, rows))
    originals = None
    if validation is not None and dataset.validation is not None and dataset.validation.poisoned and used is not None:
        # An appended poison has no original.
        originals = origins(dataset, used, rows)[validation.rows]
        originals = originals[originals >= 0]
    before, poisoned = data, poisoned_examples(dataset, used, rows)
    if args.keep:
        data = data.keep(load_keep_list(args.keep, len(data)))
    inputs = [path for path in (args.dataset, args.poisons, args.pretrained, args.keep, args.noise) if path]

    def observe(model: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
        measured = {} if poisons.goal is None else goal_outcome(model, normalize, poisons.goal)
        measured["poisons"] = int(poisoned[data.rows.cpu()].sum())
        if costly:
            measured["accuracy"] = accuracy(model, normalize, dataset.test_images, dataset.test_labels)
        if originals is not None and stage.low_loss is not None:
            clean = dataset.train_images[originals], dataset.train_labels[originals]
            measured[CLEAN_VALIDATION] = accuracy(model, normalize, *clean)
        return measured

    checkpoint = job_checkpoint(args, inputs)
    defenses = build_defenses(stage.defenses, noise=None if noise is None else noise.to(device))
    trained = train(
        network,
        normalize,
        data,
        stage.recipe,
        seed=seed,
        defenses=defenses,
        validation=validation,
        observe=observe,
        checkpoint=checkpoint,
        capture=args.capture == "auto",
        progress=True,
    )
    measures = {name: value for name, value in trained.observed.items() if name not in ("poisons", CLEAN_VALIDATION)}
    if stage.low_loss is not None and poisons.goal is None:
        measures |= history_outcome(trained.history, stage.low_loss, poisoned_validation=originals is not None)
    for defense in defenses:
        measures |= defense.report(stage.recipe, len(data), trained.history)
    outcome = {
        "measures": measures,
        "targets": None if poisons.goal is None else len(poisons.goal),
        "classes": poisons.classes(dataset.class_names, dataset.train_labels),
        "examples": _counts(poisoned, before.rows, trained.data.rows.cpu()),
        "history": trained.history,
    }
    write_sealed(args.metrics, {**_who(stage), **outcome})
    card.write(args.card, measures=measures, settings=args.settings)
    save_weights(args.weights, network, measures)
    checkpoint.clear()


def _who(stage: Victim) -> dict[str, str | int]:
    return {"attack": stage.attack, "victim": stage.victim, "defense": stage.defense, "seed": stage.seed}


def _counts(poisoned: Tensor, before: Tensor, after: Tensor) -> dict[str, int]:
    """Examples that filters and defenses dropped or kept, by rows before and after them; ``poisoned`` is by row."""
    poisons, kept = int(poisoned[before].sum()), int(poisoned[after].sum())
    return {
        "poisons_dropped": poisons - kept,
        "poisons_kept": kept,
        "clean_dropped": len(before) - poisons - (len(after) - kept),
        "clean_kept": len(after) - kept,
    }


if __name__ == "__main__":
    run(main)
