"""Train one of the attacker's surrogates on clean data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.config.training import Pretraining
from poisonlab.data.training_set import pretraining_rows, split_validation, training_set
from poisonlab.defenses.build import build_defenses
from poisonlab.files import write_sealed
from poisonlab.models.networks import build_network, build_normalize, save_weights
from poisonlab.models.outputs import accuracy
from poisonlab.randomness import stream_seed
from poisonlab.runtime.program import add_checkpoint_arguments, parser, run
from poisonlab.stage_program import begin
from poisonlab.training.job import job_checkpoint
from poisonlab.training.loop import train


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    add_checkpoint_arguments(arguments)
    arguments.add_argument("--weights", type=Path, required=True, help="output: the surrogate (.safetensors)")
    arguments.add_argument("--metrics", type=Path, required=True, help="output: its training history (.json)")
    arguments.add_argument("--card", type=Path, required=True, help="output: run card (.json)")
    args, stage, device, card = begin(arguments, argv, Pretraining)

    dataset = read_dataset(args.dataset)
    seed = stream_seed(stage.seed, "surrogate", stage.member)
    network = build_network(stage.model, dataset, seed=seed, device=device)
    normalize = build_normalize(dataset, device)
    checkpoint = job_checkpoint(args, [args.dataset])
    rows = pretraining_rows(dataset, stage.held_out_per_class)
    data, validation = split_validation(dataset, training_set(dataset, rows=rows))
    trained = train(
        network,
        normalize,
        data,
        stage.recipe,
        seed=seed,
        defenses=build_defenses(stage.apply, noise=None),
        validation=validation,
        checkpoint=checkpoint,
        capture=args.capture == "auto",
        progress=True,
    )
    measured = accuracy(network, normalize, dataset.test_images, dataset.test_labels)
    write_sealed(args.metrics, {"seed": stage.seed, "final": {"accuracy": measured}, "history": trained.history})
    card.write(args.card)
    save_weights(args.weights, network, {"accuracy": measured})
    checkpoint.clear()


if __name__ == "__main__":
    run(main)
