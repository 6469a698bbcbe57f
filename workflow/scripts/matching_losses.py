"""Print the matching losses of a study's gradient matching: in float32, on shipped pixels, without augmentation.

Crafting reports losses in its own precision and on moved images; here all attacks are measured alike. Each attack has a
row: the mean over the seeds, on the surrogates that the poisons were crafted on, and its change against the study's
first attack on the same seeds. Both have 95 % intervals (Student's t). Poison sets that are not made yet are left out.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.matching import Matcher, target_gradient
from poisonlab.config.attacks.gradient_matching import GradientMatching
from poisonlab.config.merging import add_config_arguments, checkout, merged_config
from poisonlab.config.study import Study, read_study
from poisonlab.data.training_set import pixels
from poisonlab.errors import SettingsError
from poisonlab.evaluation.intervals import mean_t
from poisonlab.graph.graph import Graph
from poisonlab.graph.job import Job
from poisonlab.models.networks import build_normalize, read_network
from poisonlab.runtime.program import run


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(arguments)
    args = arguments.parse_args(argv)
    study = read_study(merged_config(args.configfile, args.config))
    attacks = [attack for attack in study.every_attack if isinstance(attack, GradientMatching)]
    if not attacks:
        raise SettingsError(f"study {study.study!r} has no attack of method gradient-matching")
    torch.set_num_threads(study.threads)
    graph, base = Graph(study, checkout()), attacks[0].name
    found = {}
    for attack in attacks:
        jobs = {seed: graph.computing.craft(attack.name, seed) for seed in study.seeds_of(attack)}
        made = {seed: job for seed, job in jobs.items() if Path(job.outputs["poisons"]).exists()}
        found[attack.name] = {seed: _loss(study, attack, job) for seed, job in made.items()}
    print(f"| attack | poison sets | matching loss | 95 % interval | change against {base} | 95 % interval |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, losses in found.items():
        pairs = losses.keys() & found[base].keys() if name != base else ()
        changes = [losses[seed] - found[base][seed] for seed in sorted(pairs)]
        print(f"| {name} | {len(losses)} | {' | '.join((*_cells([*losses.values()]), *_cells(changes, '+')))} |")


def _cells(values: Sequence[float], sign: str = "") -> tuple[str, str]:
    """A mean and its interval; a single value and equal values have no interval."""
    if not values:
        return "–", "–"
    found = mean_t(values)
    interval = f"{found.low:{sign}.4f} to {found.high:{sign}.4f}" if not math.isnan(found.low) else "–"
    return f"{found.estimate:{sign}.4f}", interval


def _loss(study: Study, attack: GradientMatching, job: Job) -> float:
    """The mean matching loss over the surrogates."""
    dataset = read_dataset(Path(job.inputs["dataset"][0]))
    poisons = PoisonSet.load(Path(job.outputs["poisons"]))
    assert poisons.goal is not None
    normalize = build_normalize(dataset)
    targets, images = normalize(pixels(poisons.goal.targets)), normalize(pixels(poisons.images))
    models = [study.surrogate(name).model for name in attack.surrogates for _ in range(attack.pretrained_networks)]
    losses = []
    for weights, model in zip(job.inputs["surrogates"], models, strict=True):
        network = read_network(Path(weights), model, dataset).eval().requires_grad_(True)
        goal = target_gradient(network, targets, poisons.goal.adversarial_labels, attack.target_criterion)
        losses.append(float(Matcher(network, goal, criterion=attack.poison_criterion).loss(images, poisons.labels)))
    return sum(losses) / len(losses)


if __name__ == "__main__":
    run(main)
