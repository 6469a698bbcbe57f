"""Compute figure 2: matching loss and training loss over a plane through the most effective poison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from poisonlab.artifacts.arrays import write_arrays
from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.matching import Matcher, target_gradient
from poisonlab.config.figures import Landscape
from poisonlab.config.models.model import NamedModel
from poisonlab.config.stages import Seed
from poisonlab.config.types import Settings
from poisonlab.data.training_set import pixels
from poisonlab.errors import SettingsError
from poisonlab.landscapes.around_poison import around_poison, most_effective
from poisonlab.models.networks import build_normalize, read_network
from poisonlab.runtime.program import parser, run
from poisonlab.stage_program import begin


class PoisonLandscape(Settings):
    """Settings of one landscape around a poison."""

    model: NamedModel
    landscape: Landscape
    criterion: str
    seed: Seed


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--poisons", type=Path, required=True, help="the poison set")
    arguments.add_argument("--surrogate", type=Path, required=True, help="weights of the surrogate")
    arguments.add_argument("--landscape", type=Path, required=True, help="output: the surfaces (.npz)")
    args, stage, device, _ = begin(arguments, argv, PoisonLandscape)

    dataset = read_dataset(args.dataset)
    network = read_network(args.surrogate, stage.model, dataset, device)
    model = nn.Sequential(build_normalize(dataset, device), network).eval()
    poisons = PoisonSet.load(args.poisons)
    if poisons.goal is None:
        raise SettingsError(f"{args.poisons}: its attack has no target, so there is no matching loss to draw")
    adversarial = poisons.goal.adversarial_labels[:1].to(device)
    goal = target_gradient(model, pixels(poisons.goal.targets[:1].to(device)), adversarial, stage.criterion)
    images, labels = poisons.images.to(device), poisons.labels.to(device)
    row = slice(chosen := most_effective(Matcher(model, goal), images, labels), chosen + 1)
    base = pixels(poisons.base_images[row].to(device))
    drawn = around_poison(model, base, pixels(images[row]), labels[row], goal, stage.landscape, stage.seed)
    arrays = {name: tensor.numpy() for name, tensor in drawn.items()}
    write_arrays(args.landscape, **arrays, row=poisons.indices[row].numpy())


if __name__ == "__main__":
    run(main)
