"""Accuracy against seconds of one core: clean victims of a study, trained for several numbers of epochs.

    python benchmarks/fast_cifar.py [--configfile config/cifar10-fast.yaml config/overlays/cifar10-parquet.yaml]
                                    [--config KEY=VALUE ...] [--victim NAME] [--epochs 4 8] [--seeds 0]
                                    [--device cpu|cuda] [--threads 1] [--json FILE]

Seconds are processor time of this process on a CPU, which other processes hardly change, and clock time on a GPU;
measuring the accuracy is not counted. Operations are those of convolutions and matrix products, forward and backward.
The share is relative to a product of large matrices, in bfloat16 where the device multiplies it. If the number of
epochs is not the recipe's, the schedule is stretched, with warm-up and milestones.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from contest import add_machine_arguments, counted, device_name, markdown, write
from peaks import matmul
from torch import nn

from poisonlab.config.merging import add_config_arguments, merged_config
from poisonlab.config.recipe import Recipe
from poisonlab.config.study import read_study
from poisonlab.config.victims import Victim
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.sources import load_dataset
from poisonlab.data.training_set import TrainingSet, training_set
from poisonlab.determinism import prepare_torch
from poisonlab.models.networks import build_network, build_normalize
from poisonlab.models.outputs import accuracy
from poisonlab.precision import computed, passes
from poisonlab.training.loop import train

STUDY = ["config/cifar10-fast.yaml"]


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        seconds: of training, without measuring.
        flops: operations per second.
        share: of the peak.
    """

    epochs: int
    seed: int
    accuracy: float
    seconds: float
    images_per_second: float
    flops: float
    share: float


def stretched(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with another number of epochs and the same shape of its schedule."""
    factor = epochs / recipe.epochs
    moved = None
    if recipe.milestones is not None:
        moved = tuple(sorted({max(1, round(milestone * factor)) for milestone in recipe.milestones}))
    changes = {"epochs": epochs, "warmup_epochs": recipe.warmup_epochs * factor, "milestones": moved}
    return Recipe.model_validate({**recipe.model_dump(exclude={"base"}), **changes, "evaluate_every": epochs})


def operations(network: nn.Module, dataset: ImageDataset, recipe: Recipe, device: torch.device) -> float:
    """Operations of one image in training: forward and backward."""
    count = 8
    inputs = torch.zeros(count, *dataset.image_shape, device=device)
    labels = torch.zeros(count, dtype=torch.int64, device=device)

    def step() -> None:
        with passes(device, recipe.precision):
            loss = F.cross_entropy(network(inputs).float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]

    return counted(step) / count


def measured(
    dataset: ImageDataset, victim: Victim, epochs: int, seed: int, device: torch.device, peak: float
) -> Training:
    recipe, normalize = stretched(victim.recipe, epochs), build_normalize(dataset, device)
    assert victim.model is not None
    work = operations(build_network(victim.model, dataset, seed=seed, device=device), dataset, recipe, device)
    network = build_network(victim.model, dataset, seed=seed, device=device)
    data = training_set(dataset)
    begun, last = clock(device), [0.0]

    def observe(model: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
        if not costly:
            return {}
        last[0] = clock(device) - begun
        return {"accuracy": accuracy(model, normalize, dataset.test_images, dataset.test_labels)}

    capture = device.type == "cuda"
    found = train(network, normalize, data, recipe, seed=seed, observe=observe, capture=capture).observed["accuracy"]
    rate = epochs * len(data) / last[0]
    return Training(epochs, seed, found, last[0], rate, rate * work, rate * work / peak)


def clock(device: torch.device) -> float:
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def table(trainings: Sequence[Training]) -> str:
    """One line for each number of epochs, with means over the seeds."""
    rows = []
    for epochs in dict.fromkeys(training.epochs for training in trainings):
        some = [training for training in trainings if training.epochs == epochs]
        accuracies = [training.accuracy for training in some]
        spread = f" ± {statistics.stdev(accuracies):.2%}" if len(some) > 1 else ""
        seconds, rate, flops, share = (
            statistics.mean(getattr(training, name) for training in some)
            for name in ("seconds", "images_per_second", "flops", "share")
        )
        rows.append(
            [
                str(epochs),
                f"{statistics.mean(accuracies):.2%}{spread}",
                str(len(some)),
                f"{seconds:.0f}",
                f"{rate:.0f}",
                f"{flops * seconds:.2g}",
                f"{flops / 1e9:.0f}",
                f"{share:.0%}",
            ]
        )
    return markdown(["epochs", "accuracy", "n", "seconds", "images/s", "operations", "GFLOP/s", "of the peak"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(arguments)
    arguments.add_argument("--victim", help="victim of the study; the first if not given")
    arguments.add_argument("--epochs", type=int, nargs="+", help="the recipe's own if not given")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0])
    add_machine_arguments(arguments)
    options = arguments.parse_args(argv)
    device = prepare_torch(options.device, options.threads)
    study = read_study(merged_config(options.configfile or STUDY, options.config))
    victim = next((each for each in study.victims if each.name == (options.victim or study.victims[0].name)), None)
    if victim is None:
        raise SystemExit(f"--victim must be one of the study's: {', '.join(each.name for each in study.victims)}")
    dataset = load_dataset(study.dataset)
    peak = matmul(device, "bfloat16", 2048)
    name = device_name(device, options.threads)
    trainings = [
        measured(dataset, victim, epochs, seed, device, peak)
        for epochs in options.epochs or [victim.recipe.epochs]
        for seed in options.seeds
    ]
    print(
        f"{name}, torch {torch.__version__}, peak {peak / 1e9:.0f} GFLOP/s in {computed(device, 'bfloat16')}",
        end="\n\n",
    )
    print(table(trainings))
    if options.json is not None:
        write(options.json, machine=name, peak=peak, trainings=[asdict(training) for training in trainings])


if __name__ == "__main__":
    main()
