"""The cost of one seed of a study, part by part: crafting, friendly noise and training of each row.

    python benchmarks/trial.py [--configfile config/cifar10-fast.yaml] [--config KEY=VALUE ...] [--attack NAME]
                               [--rows NAME ...] [--size 50000] [--images 2048] [--repeats 3]
                               [--device cpu|cuda] [--threads 1] [--json FILE]

Each part is measured on some images of noise and extrapolated to the whole training set, so no data are needed.
Networks are untrained, which changes no operation. The parts take turns. Seconds are processor time of this process on
a CPU, which other processes hardly change, and clock time on a GPU. Surrogates that serve all seeds, filters and
measuring are not counted.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from availability import images_of_noise
from contest import add_machine_arguments, device_name, markdown, write
from fast_cifar import clock, stretched
from torch import nn

from poisonlab import modules
from poisonlab.attacks.attacker import Attacker
from poisonlab.config.attacks.gradient_matching import GradientMatching
from poisonlab.config.defenses.friendly_noise import FriendlyNoise
from poisonlab.config.defenses.random_noise import RandomNoise
from poisonlab.config.merging import add_config_arguments, merged_config
from poisonlab.config.rows import Row
from poisonlab.config.study import Study, read_study
from poisonlab.config.victims import Victim
from poisonlab.data.training_set import training_set
from poisonlab.defenses.build import build_defenses
from poisonlab.defenses.friendly_noise import friendly_noise
from poisonlab.determinism import prepare_torch
from poisonlab.models.layout import layout
from poisonlab.models.networks import build_network, build_normalize
from poisonlab.training.loop import train

STUDY = ["config/cifar10-fast.yaml"]
FEW, MORE = 1, 3
"""Crafting steps of two runs: their difference leaves out the choice of bases and other preparations."""


def chosen(study: Study, names: Sequence[str] | None) -> list[Row]:
    """The undefended row, and the named rows, or else all rows with friendly noise; exits if a row has other defenses
    than noises, or is none of the study's."""
    plain = [row for row in study.defenses if row is study.undefended]
    noisy = [row for row in study.defenses if row.friendly]
    if names:
        known = {row.name: row for row in study.defenses}
        if unknown := set(names) - set(known):
            raise SystemExit(f"the study has no row {sorted(unknown)[0]!r}: it has {', '.join(known)}")
        noisy = [known[name] for name in names if known[name] not in plain]
    rows = plain + noisy
    for row in rows:
        if not all(isinstance(each, FriendlyNoise | RandomNoise) for each in row.apply):
            raise SystemExit(f"row {row.name!r} has more than noises: name other --rows")
    return rows


def crafting(study: Study, attack: GradientMatching, size: int, device: torch.device) -> Callable[[], float]:
    """Seconds of all steps and restarts, with as many poisons as in ``size`` training images."""
    count = max(1, round(attack.budget * size))
    dataset = images_of_noise(10 * count)
    dataset = replace(dataset, test_images=dataset.train_images[:10], test_labels=dataset.train_labels[:10])
    surrogate = study.surrogate(attack.surrogates[0])
    networks = [build_network(surrogate.model, dataset, seed=each, device=device) for each in range(attack.ensemble)]
    attacker = Attacker(networks, build_normalize(dataset, device), surrogate.recipe)
    craft = modules.load("attacks", attack.method).craft

    def of(steps: int) -> float:
        told = {"steps": steps, "restarts": 1, "budget": count / len(dataset.train_labels), "target": "random"}
        begun = clock(device)
        craft(dataset, attacker, attack.model_copy(update=told), seed=0)
        return clock(device) - begun

    def measured() -> float:
        return (of(MORE) - of(FEW)) / (MORE - FEW) * attack.steps * attack.restarts

    return measured


def training(victim: Victim, row: Row, size: int, images: int, device: torch.device) -> Callable[[], float]:
    """Seconds of the victim's training under the row; friendly noise is added from its epoch on."""
    assert victim.model is not None
    model, recipe = victim.model, victim.recipe
    dataset = images_of_noise(images)
    data, normalize = training_set(dataset), build_normalize(dataset, device)

    def seconds(noise: bool) -> float:
        told = [each.told() for each in row.apply if noise or not isinstance(each, FriendlyNoise)]
        told = [{**each, "def_epoch": 0} if each["method"] == "friendly-noise" else each for each in told]
        defenses = build_defenses(told, noise=torch.zeros(dataset.train_images.shape))
        network = build_network(model, dataset, seed=0, device=device)
        begun = clock(device)
        train(network, normalize, data, stretched(recipe, 1), seed=0, defenses=defenses, capture=device.type == "cuda")
        return (clock(device) - begun) / images * size

    def measured() -> float:
        friendly = row.friendly
        before = friendly.def_epoch if friendly else 0
        first = seconds(noise=False) * before if before else 0.0
        return first + seconds(noise=True) * (recipe.epochs - before)

    return measured


def making(victim: Victim, row: Row, size: int, images: int, device: torch.device) -> Callable[[], float]:
    """Seconds of the friendly noise, including the training epochs of its network."""
    assert victim.model is not None
    friendly = row.friendly
    assert friendly is not None
    dataset, recipe = images_of_noise(images), victim.recipe
    normalize, network = build_normalize(dataset, device), build_network(victim.model, dataset, seed=0, device=device)
    if recipe.channels_last:  # as training leaves it
        network.to(memory_format=layout(network))
    before = row.model_copy(update={"apply": tuple(each for each in row.apply if each is not friendly)})
    trained = training(victim, before, size, images, device)

    def measured() -> float:
        begun = clock(device)
        friendly_noise(
            nn.Sequential(normalize, network), dataset.train_images, friendly, device=device, precision=recipe.precision
        )
        made = (clock(device) - begun) / images * size
        return made + trained() * friendly.def_epoch / recipe.epochs

    return measured


def measured(parts: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each part, in turns; the first turn only imports and allocates."""
    turns = [{name: part() for name, part in parts.items()} for _ in range(repeats + 1)][1:]
    return {name: [turn[name] for turn in turns] for name in parts}


def table(seconds: Mapping[str, Sequence[float]], rows: Sequence[Row], sharing: int) -> str:
    """A line for each part, and two lines for each row's whole trial: with poisons for it alone, and with poisons that
    ``sharing`` rows share. Ratios are to the first row's training."""
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    unit = middle[f"training, {rows[0].name}"]
    lines = [
        [name, f"{middle[name]:.0f}", f"{min(values):.0f} to {max(values):.0f}", f"{middle[name] / unit:.2f}"]
        for name, values in seconds.items()
    ]
    for row in rows:
        own = middle.get(f"noise, {row.name}", 0.0) + middle[f"training, {row.name}"]
        whole, shared = own + middle["crafting"], own + middle["crafting"] / sharing
        lines.append([f"a trial of {row.name}", f"{whole:.0f}", "", f"{whole / unit:.2f}"])
        name = f"a trial of {row.name}, poisons shared by {sharing} rows"
        lines.append([name, f"{shared:.0f}", "", f"{shared / unit:.2f}"])
    return markdown(["part", "seconds", "range", f"of training, {rows[0].name}"], lines)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(arguments)
    arguments.add_argument("--attack", help="attack of the study; the first if not given")
    arguments.add_argument("--rows", nargs="+", help="beside the undefended row; if not given, all with friendly noise")
    arguments.add_argument("--size", type=int, default=50_000, help="training images of the study")
    arguments.add_argument("--images", type=int, default=2048, help="images that the parts are measured on")
    arguments.add_argument("--repeats", type=int, default=3)
    add_machine_arguments(arguments)
    options = arguments.parse_args(argv)
    device = prepare_torch(options.device, options.threads)
    study = read_study(merged_config(options.configfile or STUDY, options.config))
    attack = next((each for each in study.attacks if each.name == (options.attack or study.attacks[0].name)), None)
    if not isinstance(attack, GradientMatching):
        known = ", ".join(each.name for each in study.attacks if isinstance(each, GradientMatching))
        raise SystemExit(f"--attack must name one of method gradient-matching: {known or 'the study has none'}")
    victim, rows = study.victims[0], chosen(study, options.rows)
    parts: dict[str, Any] = {"crafting": crafting(study, attack, options.size, device)}
    for row in rows:
        if row.friendly:
            parts[f"noise, {row.name}"] = making(victim, row, options.size, options.images, device)
        parts[f"training, {row.name}"] = training(victim, row, options.size, options.images, device)
    seconds = measured(parts, options.repeats)
    name = device_name(device, options.threads)
    print(f"{name}, torch {torch.__version__}, {options.size} training images", end="\n\n")
    print(table(seconds, rows, sum(row.poisoned for row in study.defenses)))
    if options.json is not None:
        write(options.json, machine=name, size=options.size, seconds=seconds)


if __name__ == "__main__":
    main()
