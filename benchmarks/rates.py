"""Measure how fast this machine does the work that `make estimate` counts; prints lines to append to rates.csv.

    python benchmarks/rates.py [--device auto|cpu|cuda] [--threads 1] [--images N] [--poisons N] [--note TEXT]
                               >> benchmarks/rates.csv

Each line is the median of three: an epoch of training on so many images through the lab's own loop, five steps of
friendly noise on half of them, and two steps of gradient matching on so many poisons, each after one that is not
counted; on ResNet-18 and on the small network of config.yaml, in float32 and bfloat16. Progress goes to standard error.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from contest import device_name, synchronise, timed

from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.matching import Crafting, Matcher, target_gradient
from poisonlab.config.architectures import ModelSettings
from poisonlab.config.attacks.gradient_matching import GradientMatching
from poisonlab.config.defenses.friendly_noise import FriendlyNoise
from poisonlab.config.models.resnet18 import ResNet18
from poisonlab.config.models.small_resnet import SmallResNet
from poisonlab.config.recipe import Recipe
from poisonlab.cost.amount import Work, passes
from poisonlab.cost.networks import MATCHING, Network, network_of
from poisonlab.cost.training import making_noise, training
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.friendly_noise import friendly_noise
from poisonlab.determinism import prepare_torch
from poisonlab.models import resnet18, small_resnet
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.training.loop import train

SHAPE, CLASSES = (3, 32, 32), 10
NOISE_STEPS, CRAFT_STEPS, REPEATS = 5, 2, 3
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """One network at one precision, and on how many images it is measured."""

    settings: ModelSettings
    build: Callable[[], Classifier]
    batch_size: int
    precision: str
    images: int
    poisons: int
    device: torch.device

    @property
    def network(self) -> Network:
        return network_of(self.settings, CLASSES, SHAPE)

    def model(self) -> Classifier:
        torch.manual_seed(0)
        return self.build().to(self.device)

    def recipe(self) -> Recipe:
        return Recipe.model_validate({"epochs": 1, "batch_size": self.batch_size, "precision": self.precision})


def training_epoch(case: Case) -> tuple[Callable[[], object], Work]:
    """An epoch of the training loop."""
    data = drawn(case.images).to(case.device)
    model, normalize, recipe = case.model(), normalisation(case.device), case.recipe()
    return lambda: train(model, normalize, data, recipe, seed=0), training(case.network, recipe, case.images)


def noise_steps(case: Case) -> tuple[Callable[[], object], Work]:
    """Some steps of friendly noise."""
    settings, images = FriendlyNoise(steps=NOISE_STEPS), drawn(case.images // 2).images
    model = torch.nn.Sequential(normalisation(case.device), case.model())
    precision = PRECISIONS[case.precision]
    return lambda: friendly_noise(model, images, settings, device=case.device, precision=precision), making_noise(
        case.network, settings, len(images)
    )


def matching_steps(case: Case) -> tuple[Callable[[], object], Work]:
    """Some steps of gradient matching."""
    model, normalize, bases = case.model().eval(), normalisation(case.device), drawn(case.poisons)
    settings = GradientMatching.model_validate(
        {"name": "rate", "surrogate": "rate", "steps": CRAFT_STEPS, "crafting_precision": case.precision}
    )
    target = normalize(torch.rand(1, *SHAPE, device=case.device))
    goal = target_gradient(model, target, torch.tensor([1], device=case.device), "cross-entropy")
    matchers = [Matcher(model, goal, case.precision)]
    crafting = Crafting(Attacker([model], normalize, case.recipe()), settings, bases.images, bases.labels, None, 0, "r")
    return lambda: crafting.run(matchers), passes("craft", case.network, MATCHING, CRAFT_STEPS * case.poisons)


MEASURED = {"train": training_epoch, "noise": noise_steps, "craft": matching_steps}


def drawn(count: int) -> TrainingSet:
    stream = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *SHAPE), generator=stream, dtype=torch.uint8)
    return TrainingSet(images, torch.arange(count) % CLASSES, torch.arange(count))


def normalisation(device: torch.device) -> Normalize:
    return Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)).to(device)


def cases(device: torch.device, images: int | None, poisons: int | None) -> Iterator[Case]:
    """Large enough to keep the device busy, small enough to end within minutes."""
    on_gpu = device.type == "cuda"
    for precision in PRECISIONS:
        large = images or (10_000 if on_gpu else 128), poisons or (500 if on_gpu else 32)
        small = images or (10_000 if on_gpu else 2_000), poisons or (500 if on_gpu else 100)
        yield Case(ResNet18(), lambda: resnet18.build(CLASSES, SHAPE), 128, precision, *large, device)
        yield Case(SmallResNet(), lambda: small_resnet.build(CLASSES, SHAPE), 32, precision, *small, device)


def seconds(call: Callable[[], object], device: torch.device) -> float:
    call()
    synchronise(device)
    return statistics.median(timed(call, device)[0] for _ in range(REPEATS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU")
    parser.add_argument("--images", type=int, help="images to train on; noise is made for half of them")
    parser.add_argument("--poisons", type=int, help="poisons to craft")
    parser.add_argument("--note", default="", help="what else there is to say of the machine, for the column source")
    options = parser.parse_args()
    device = prepare_torch(options.device, options.threads)
    lines = csv.writer(sys.stdout, lineterminator="\n")
    for case in cases(device, options.images, options.poisons):
        for kind, prepare in MEASURED.items():
            call, work = prepare(case)
            taken = seconds(call, device)
            source = f"benchmarks/rates.py: {work.flops / 1e12:.3g} TFLOP in {taken:.3g} s; torch {torch.__version__}"
            name = device_name(device, options.threads)
            rate = f"{work.flops / taken / 1e12:.4g}"
            note = f"; {options.note}" if options.note else ""
            lines.writerow([name, case.precision, case.network.name, kind, rate, source + note])
            sys.stdout.flush()
            print(f"{case.precision}, {case.network.name}, {kind}: {taken:.3g} s", file=sys.stderr)


if __name__ == "__main__":
    main()
