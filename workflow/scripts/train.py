"""Train one victim under one row's defenses and measure what became of the target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.files import write_json
from poisonlab.artifacts.noise import load_noise
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.commandline import RunCard, parser, prepare_torch, run, settings
from poisonlab.config.stages import VictimTraining, read_stage
from poisonlab.config.types import Name
from poisonlab.data.training_set import TrainingSet, fine_tuning_rows, training_set
from poisonlab.defenses.build import build_defenses
from poisonlab.evaluation.outcome import OUTCOMES, accuracy, attack_outcome
from poisonlab.models.networks import build_normalize, build_victim, save_weights
from poisonlab.randomness import stream_seed
from poisonlab.training.job import add_checkpoint_arguments, job_checkpoint
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
    arguments.add_argument("--noise", type=Path, help="friendly noise, if a defense uses it")
    arguments.add_argument("--weights", type=Path, required=True, help="output: the victim (.safetensors)")
    arguments.add_argument("--metrics", type=Path, required=True, help="output: outcome and history (.json)")
    arguments.add_argument("--card", type=Path, required=True, help="output: run card (.json)")
    args = arguments.parse_args(argv)
    stage = read_stage(Victim, settings(args.spec))
    device = prepare_torch(args.device, args.threads)
    card = RunCard(device, args.spec)

    dataset = read_dataset(args.dataset)
    poisons = PoisonSet.load(args.poisons)
    noise = load_noise(args.noise) if args.noise else None
    seed = stream_seed(stage.seed, "victim")
    network = build_victim(stage.model, stage.start, dataset, args.pretrained, seed=seed, device=device)
    rows = fine_tuning_rows(dataset, stage.start)
    normalize = build_normalize(dataset, device)
    inputs = [path for path in (args.dataset, args.poisons, args.pretrained, args.noise) if path]

    def observe(model: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
        measured = attack_outcome(model, normalize, poisons)
        if costly:
            measured["accuracy"] = accuracy(model, normalize, dataset.test_images, dataset.test_labels)
        return measured

    checkpoint = job_checkpoint(args, inputs)
    history = train(
        network,
        normalize,
        training_set(dataset, poisons if stage.poisoned else None, rows),
        stage.recipe,
        seed=seed,
        defenses=build_defenses(stage.defenses, noise=None if noise is None else noise.to(device)),
        observe=observe,
        checkpoint=checkpoint,
        progress=True,
    )
    final = {key: history[-1][key] for key in OUTCOMES if key in history[-1]}
    who = {"attack": stage.attack, "defense": stage.defense, "seed": stage.seed}
    write_json(args.metrics, {**who, "final": final, "history": history})
    card.write(args.card, final=final)
    save_weights(args.weights, network, final)
    checkpoint.clear()


if __name__ == "__main__":
    run(main)
