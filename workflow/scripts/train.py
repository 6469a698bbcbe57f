"""Train one victim under one row's defenses and measure what became of the target."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.keep_list import load_keep_list
from poisonlab.artifacts.noise import load_noise
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.artifacts.tensors import write_diverged
from poisonlab.config.stages import read_stage
from poisonlab.config.training import VictimTraining
from poisonlab.config.types import Name
from poisonlab.data.training_set import TrainingSet, fine_tuning_rows, poisoned_examples, training_set
from poisonlab.defenses.build import build_defenses
from poisonlab.determinism import prepare_torch
from poisonlab.errors import DivergedError
from poisonlab.evaluation.outcome import OUTCOMES, accuracy, attack_outcome
from poisonlab.files import write_sealed
from poisonlab.models.networks import build_normalize, build_victim, save_weights
from poisonlab.randomness import stream_seed
from poisonlab.runtime.cards import RunCard
from poisonlab.runtime.program import add_checkpoint_arguments, parser, run, settings
from poisonlab.training.job import job_checkpoint
from poisonlab.training.loop import train


class Victim(VictimTraining):
    """Settings of one victim; the defenses are the row's own, in order."""

    attack: Name
    defense: Name
    poisoned: bool


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    add_checkpoint_arguments(arguments)
    arguments.add_argument("--poisons", type=Path, required=True, help="the poison set")
    arguments.add_argument("--pretrained", type=Path, help="weights the victim begins from, unless from scratch")
    arguments.add_argument("--keep", type=Path, help="keep-list of the row's filters, if it has any")
    arguments.add_argument("--noise", type=Path, help="friendly noise, if a defense uses it")
    arguments.add_argument("--weights", type=Path, required=True, help="output: the victim (.safetensors)")
    arguments.add_argument("--metrics", type=Path, required=True, help="output: outcome and history (.json)")
    arguments.add_argument("--card", type=Path, required=True, help="output: run card (.json)")
    arguments.add_argument("--settings", help="digest of all settings that the outcome depends on, for the card")
    args = arguments.parse_args(argv)
    stage = read_stage(Victim, settings(args.spec))
    device = prepare_torch(args.device, args.threads, args.jobs_per_gpu)
    card = RunCard(device, args.spec)
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
    noise = load_noise(args.noise) if args.noise else None
    seed = stream_seed(stage.seed, "victim")
    network = build_victim(stage.model, stage.start, dataset, args.pretrained, seed=seed, device=device)
    rows = fine_tuning_rows(dataset, stage.start)
    normalize = build_normalize(dataset, device)
    used = poisons if stage.poisoned else None
    data, poisoned = training_set(dataset, used, rows), poisoned_examples(dataset, used, rows)
    everything = len(data)
    if args.keep:
        data = data.keep(load_keep_list(args.keep, everything))
    inputs = [path for path in (args.dataset, args.poisons, args.pretrained, args.keep, args.noise) if path]

    def observe(model: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
        measured = attack_outcome(model, normalize, poisons)
        measured |= {"kept": len(data), "poisons_kept": int(poisoned[data.rows.cpu()].sum())}
        if costly:
            measured["accuracy"] = accuracy(model, normalize, dataset.test_images, dataset.test_labels)
        return measured

    checkpoint = job_checkpoint(args, inputs)
    defenses = build_defenses(stage.defenses, noise=None if noise is None else noise.to(device))
    history = train(
        network,
        normalize,
        data,
        stage.recipe,
        seed=seed,
        defenses=defenses,
        observe=observe,
        checkpoint=checkpoint,
        progress=True,
    )
    final = {key: history[-1][key] for key in OUTCOMES if key in history[-1]}
    report = {key: value for defense in defenses for key, value in defense.report(stage.recipe, len(data)).items()}
    counts = _counts(everything, int(poisoned.sum()), history[-1])
    outcome = {"final": final, "examples": counts, "report": report, "history": history}
    write_sealed(args.metrics, {**_who(stage), **outcome})
    card.write(args.card, final=final, settings=args.settings)
    save_weights(args.weights, network, final)
    checkpoint.clear()


def _who(stage: Victim) -> dict[str, str | int]:
    return {"attack": stage.attack, "defense": stage.defense, "seed": stage.seed}


def _counts(everything: int, poisons: int, last: Mapping[str, float]) -> dict[str, int]:
    """What the filters and the defenses held to be clean, and what was."""
    kept, poisons_kept = int(last["kept"]), int(last["poisons_kept"])
    return {
        "poisons_dropped": poisons - poisons_kept,
        "poisons_kept": poisons_kept,
        "clean_dropped": everything - poisons - (kept - poisons_kept),
        "clean_kept": kept - poisons_kept,
    }


if __name__ == "__main__":
    run(main)
