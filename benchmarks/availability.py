"""How many images an availability attack moves by one step in a second, for attacks of a study that use a network.

    python benchmarks/availability.py [--configfile config/learned-faster-mini.yaml] [--config KEY=VALUE ...]
                                      [--attacks NAME ...] [--images 512] [--steps 4] [--repeats 3]
                                      [--device cpu|cuda] [--threads 1] [--json FILE]

Attacks have their own settings, except for the numbers of images, steps and restarts. Attacks that differ in nothing
else are measured once. Images are noise and networks untrained, which changes no operation, so no data are needed.
Seconds are processor time of this process on a CPU, which other processes hardly change, and clock time on a GPU.
Error-minimising noise takes one round, including a training batch and a measurement of the error.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from contest import add_machine_arguments, device_name, markdown, write
from fast_cifar import clock

from poisonlab import modules
from poisonlab.attacks.attacker import Attacker
from poisonlab.config.attacks.attack import Attack, AvailabilityAttack
from poisonlab.config.merging import add_config_arguments, merged_config
from poisonlab.config.study import Study, read_study
from poisonlab.data.dataset import ImageDataset
from poisonlab.models.networks import build_network, build_normalize
from poisonlab.randomness import generator
from training import MEAN, STD

STUDY = ["config/learned-faster-mini.yaml"]


@dataclass(frozen=True)
class Rate:
    """The speed of one attack.

    Attributes:
        rates: images times steps per second, of each repeat.
    """

    attack: str
    method: str
    surrogate: str
    batch_size: int
    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rates)


def images_of_noise(count: int) -> ImageDataset:
    if count < 10:
        raise SystemExit(f"--images is {count}, but each of the ten classes needs one: give 10 or more")
    stream = generator("cpu", 0, "benchmark", "images")
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=stream, dtype=torch.uint8)
    labels = torch.arange(count) % 10  # every class has some
    return ImageDataset(images, labels, images[:1], labels[:1], tuple("abcdefghij"), MEAN, STD)


def chosen(study: Study, names: Sequence[str] | None) -> list[Attack]:
    """The named attacks, or all attacks that craft with a network and differ in more than their steps."""
    if names:
        return [attack for attack in study.attacks if attack.name in names]
    distinct: dict[str, Attack] = {}
    for attack in study.attacks:
        if isinstance(attack, AvailabilityAttack) and attack.surrogates:
            told = attack.model_dump(exclude={"name", "steps", "published", "victims"})
            distinct.setdefault(repr(told), attack)
    return list(distinct.values())


def short(attack: Attack, steps: int) -> Attack:
    """The attack with ``steps`` steps from one start, or with one round of ``steps`` steps."""
    changes: dict[str, Any] = {"steps": steps}
    if attack.method == "error-minimising":
        changes |= {"rounds": 1, "batches": 1, "stop_error": 1.0}
    if "restarts" in type(attack).model_fields:
        changes |= {"restarts": 1}
    return attack.model_copy(update=changes)


def measured(
    study: Study, attack: Attack, dataset: ImageDataset, steps: int, repeats: int, device: torch.device
) -> Rate:
    surrogate = study.surrogate(attack.surrogates[0])
    normalize = build_normalize(dataset, device)
    network = build_network(surrogate.model, dataset, seed=0, device=device)
    attacker = Attacker(
        [network],
        normalize,
        surrogate.recipe,
        fresh=lambda seed: build_network(surrogate.model, dataset, seed=seed, device=device),
    )
    craft, settings = modules.load("attacks", attack.method).craft, short(attack, steps)
    craft(images_of_noise(16), attacker, settings, seed=0)  # the first call imports and allocates
    rates = []
    for _ in range(repeats):
        begun = clock(device)
        craft(dataset, attacker, settings, seed=0)
        rates.append(steps * len(dataset.train_labels) / (clock(device) - begun))
    return Rate(attack.name, attack.method, surrogate.name, settings.batch_size, tuple(rates))


def table(rates: Sequence[Rate]) -> str:
    rows = [
        [
            rate.attack,
            rate.method,
            rate.surrogate,
            str(rate.batch_size),
            f"{rate.median:,.0f}",
            f"{min(rate.rates):,.0f} to {max(rate.rates):,.0f}",
        ]
        for rate in rates
    ]
    return markdown(["attack", "method", "network", "images at once", "images x steps per second", "range"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(arguments)
    arguments.add_argument(
        "--attacks", nargs="+", help="attacks of the study; if not given, all that craft with a network"
    )
    arguments.add_argument("--images", type=int, default=512)
    arguments.add_argument("--steps", type=int, default=4)
    arguments.add_argument("--repeats", type=int, default=3)
    add_machine_arguments(arguments)
    options = arguments.parse_args(argv)
    torch.set_num_threads(options.threads)
    device, dataset = torch.device(options.device), images_of_noise(options.images)
    study = read_study(merged_config(options.configfile or STUDY, options.config))
    rates = [
        measured(study, attack, dataset, options.steps, options.repeats, device)
        for attack in chosen(study, options.attacks)
    ]
    name = device_name(device, options.threads)
    print(f"{name}, torch {torch.__version__}, {options.images} images, {options.steps} steps", end="\n\n")
    print(table(rates))
    if options.json is not None:
        write(options.json, machine=name, images=options.images, steps=options.steps, rates=[*map(asdict, rates)])


if __name__ == "__main__":
    main()
