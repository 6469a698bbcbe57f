"""Time and memory of the attacks' inner loops, against the straightforward way of doing the same.

The last column is the largest relative difference between the results of both ways, on a small enough example.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import cast

import reference_attacks
import torch
from contest import Contest, Contests
from torch import Tensor

from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.matching import Crafting, Gradients, Matcher, target_gradient
from poisonlab.attacks.unrolling import Unrolling
from poisonlab.config.attacks.gradient_matching import GradientMatching
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.models.gradient_norms import per_sample_gradient_norms
from poisonlab.randomness import generator
from training import MEAN, STD, Task, fast, large, normalisation, small

SHIFT = 4.0


def selection(task: Task, count: int, device: torch.device, precision: str = "float32") -> Contest:
    """Sleeper Agent's selection of bases: the gradient norm of every candidate."""
    stream = generator("cpu", 0, "benchmark", "images")
    inputs = torch.randn(count, 3, 32, 32, generator=stream).to(device)
    labels = torch.randint(10, (count,), generator=stream).to(device)
    model = task.model(device).eval()

    def difference() -> float:
        return relative(
            per_sample_gradient_norms(model, inputs[:32], labels[:32], precision=precision).cpu(),
            reference_attacks.gradient_norms(model, inputs[:32], labels[:32]),
        )

    return Contest(
        reference=lambda: reference_attacks.gradient_norms(model, inputs, labels),
        ours=lambda: per_sample_gradient_norms(model, inputs, labels, precision=precision).cpu(),
        difference=lambda *_: difference(),
        unit="image",
        per_call=count,
    )


def poisons_and_goal(
    task: Task, poisons: int, device: torch.device
) -> tuple[Tensor, Tensor, Classifier, Normalize, Gradients]:
    """Base images and labels; the network, its normalisation, and the gradient of a target in it."""
    stream = generator("cpu", 0, "benchmark", "images")
    images = torch.randint(0, 256, (poisons, 3, 32, 32), generator=stream, dtype=torch.uint8)
    model = task.model(device).eval()
    target = torch.randn(1, 3, 32, 32, generator=stream).to(device)
    goal = target_gradient(model, target, torch.tensor([3], device=device), "cross-entropy")
    return images, torch.full((poisons,), 3), model, normalisation(device), goal


def matching(
    task: Task,
    poisons: int,
    steps: int,
    device: torch.device,
    *,
    workers: int = 0,
    restarts: int = 1,
    precision: str = "float32",
) -> Contest:
    """Steps of the loop of gradient matching, from ``restarts`` starts. The releases' loaders start new workers for
    every step. Both ways compute in float32 for the comparison; ours is timed in ``precision``."""
    images, labels, model, normalize, goal = poisons_and_goal(task, poisons, device)
    bases, bound = Normalize(MEAN, STD)(images / 255), 16 / 255 / torch.tensor(STD).view(3, 1, 1)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)

    def ours(augmentation: Augmentation, precision: str) -> Tensor:
        attacker = Attacker([model], normalize, Recipe(augmentation=augmentation))
        settings = GradientMatching(name="benchmark", surrogate="benchmark", steps=steps)
        crafting = Crafting(attacker, settings, images, labels, None, 0, "benchmark", restarts)
        return crafting.run([Matcher(model, goal, precision)])[1]

    def reference(shift: float) -> Tensor:
        return torch.stack([one_start(shift, restart) for restart in range(restarts)])

    def one_start(shift: float, restart: int) -> Tensor:
        # The same start as in our loop, so that without augmentation both ways take the same path.
        stream = generator(device, 0, "benchmark", "start", restart)
        drawn = torch.randn(images.shape, generator=stream, device=device).cpu()
        start = torch.minimum(torch.maximum(drawn * bound, -bound), bound)
        start = torch.minimum(torch.maximum(bases + start, -mean / std), (1 - mean) / std) - bases
        return reference_attacks.craft(
            model,
            goal,
            images,
            labels,
            start,
            mean=mean,
            std=std,
            device=device,
            steps=steps,
            shift=shift,
            workers=workers,
        )

    return Contest(
        reference=lambda: reference(SHIFT),
        ours=lambda: ours(Augmentation(kind="shift", pixels=SHIFT), precision),
        difference=lambda *_: relative(ours(Augmentation(kind="none"), "float32"), reference(0.0)),
        unit="step",
        per_call=steps * restarts,
        precision=precision,
    )


def differences(task: Task, poisons: int, steps: int, device: torch.device, *, against: str = "float32") -> Contest:
    """Steps of gradient matching by differences in bfloat16, against our double backward in the precision ``against``.
    The last column compares unaugmented losses in float32, because the gradients differ on purpose."""
    images, labels, model, normalize, goal = poisons_and_goal(task, poisons, device)
    attacker = Attacker([model], normalize, Recipe(augmentation=Augmentation(kind="crop", pixels=2)))
    settings = GradientMatching(name="benchmark", surrogate="benchmark", steps=steps)
    crafting = Crafting(attacker, settings, images, labels, None, 0, "benchmark")

    def loss(derivative: str) -> Tensor:
        some = normalize(images[:32].to(device) / 255)
        return Matcher(model, goal, derivative=derivative).loss_and_gradient(some, labels[:32].to(device))[0]

    return Contest(
        reference=lambda: crafting.run([Matcher(model, goal, against)])[1],
        ours=lambda: crafting.run([Matcher(model, goal, "bfloat16", derivative="differences")])[1],
        difference=lambda *_: relative(loss("differences"), loss("exact")),
        unit="step",
        per_call=steps,
        precision="bfloat16",
    )


def unrolling(
    task: Task,
    poisons: int,
    device: torch.device,
    *,
    batch: int = 125,
    derivative: str = "exact",
    precision: str = "float32",
) -> Contest:
    """MetaPoison's inner step: two unrolled steps of SGD on ``batch`` images, and the gradient of the poisons
    among them.

    Differences are compared in float64, with a step so short that almost no unit changes its sign.
    """
    stream = generator("cpu", 0, "benchmark", "images")
    first, second = (torch.randn(batch, 3, 32, 32, generator=stream).to(device) for _ in range(2))
    labels = torch.randint(10, (batch,), generator=stream).to(device)
    target = torch.randn(1, 3, 32, 32, generator=stream).to(device)
    model = task.model(device)

    def unrolled(model: Classifier, images: Tensor, precision: str) -> tuple[Unrolling, dict[str, Tensor]]:
        batches = [(images, labels), (second.to(images.dtype), labels)]
        weights = {name: weight.detach() for name, weight in model.named_parameters()}
        buffers = dict(model.named_buffers())
        return Unrolling(model, buffers, batches, target.to(images.dtype), 3, 0.1, precision), weights

    def exact() -> Tensor:
        delta = torch.zeros(poisons, 3, 32, 32, device=device, requires_grad=True)
        unrolling, weights = unrolled(model, torch.cat([first[:poisons] + delta, first[poisons:]]), precision)
        unrolling.loss(weights).backward()  # type: ignore[no-untyped-call]
        return cast(Tensor, delta.grad).cpu()

    def differences(model: Classifier, images: Tensor, precision: str, relative: float) -> Tensor:
        unrolling, weights = unrolled(model, images, precision)
        return unrolling.slope(weights, relative, poisons)[1].cpu()

    def reference(model: Classifier = model, dtype: torch.dtype = torch.float32) -> Tensor:
        images = [each.to(dtype) for each in (first, second, target)]
        return reference_attacks.metapoison_gradient(
            model, images[0], images[1], labels, poisons, images[2], 3, 0.1
        ).cpu()

    def difference() -> float:
        if derivative == "exact":
            ours, slow = exact(), reference()
        else:
            double = copy.deepcopy(model).double()
            ours, slow = differences(double, first.double(), "float32", 1e-10), reference(double, torch.float64)
        return float((ours - slow).norm() / slow.norm())

    return Contest(
        reference=reference,
        ours=exact if derivative == "exact" else lambda: differences(model, first, precision, 0.03),
        difference=lambda *_: difference(),
        unit="unrolling",
        per_call=1,
        precision=None if derivative == "exact" else precision,
    )


CONTESTS: Contests = {
    "small": {
        "selection, small residual network, 512 images": partial(selection, small(), 512),
        "selection in bfloat16, small residual network, 512 images": partial(
            selection, small(), 512, precision="bfloat16"
        ),
        "selection, ResNet-18, 64 images": partial(selection, large(), 64),
        "selection in bfloat16, ResNet-18, 64 images": partial(selection, large(), 64, precision="bfloat16"),
        "gradient matching, small residual network, 100 poisons": partial(matching, small(), 100, 5),
        "gradient matching, the same, 4 workers per loader": partial(matching, small(), 100, 5, workers=4),
        "gradient matching in bfloat16, small residual network, 100 poisons, 8 restarts": partial(
            matching, small(), 100, 2, restarts=8, precision="bfloat16"
        ),
        "gradient matching in bfloat16, ResNet-18, 32 poisons": partial(matching, large(), 32, 2, precision="bfloat16"),
        "differences against a double backward, fast network, 500 poisons": partial(differences, fast(), 500, 2),
        "differences against a double backward in bfloat16, fast network, 500 poisons": partial(
            differences, fast(), 500, 2, against="bfloat16"
        ),
        "differences against a double backward, small residual network, 100 poisons": partial(
            differences, small(), 100, 5
        ),
        "differences against a double backward, ResNet-18, 64 poisons": partial(differences, large(), 64, 1),
        "MetaPoison, small residual network, 12 poisons": partial(unrolling, small(), 12),
        "MetaPoison by differences in bfloat16, small residual network, 12 poisons": partial(
            unrolling, small(), 12, derivative="differences", precision="bfloat16"
        ),
    },
    "gpu": {
        "selection in bfloat16, ResNet-18, 256 images": partial(selection, large(), 256, precision="bfloat16"),
        "gradient matching, ResNet-18, 500 poisons": partial(matching, large(), 500, 5),
        "gradient matching in bfloat16, ResNet-18, 500 poisons": partial(
            matching, large(), 500, 5, precision="bfloat16"
        ),
        "differences against a double backward, fast network, 500 poisons": partial(differences, fast(), 500, 5),
        "differences against a double backward, ResNet-18, 500 poisons": partial(differences, large(), 500, 5),
        "MetaPoison, ResNet-18, 12 poisons": partial(unrolling, large(), 12),
        "MetaPoison by differences in bfloat16, ResNet-18, 12 poisons": partial(
            unrolling, large(), 12, derivative="differences", precision="bfloat16"
        ),
    },
    "tiny": {
        "selection, small residual network, 8 images": partial(selection, small(), 8),
        "gradient matching, small residual network, 4 poisons, 2 restarts": partial(
            matching, small(), 4, 2, restarts=2
        ),
        "differences against a double backward, small residual network, 4 poisons": partial(differences, small(), 4, 2),
        "MetaPoison, small residual network, 2 poisons": partial(unrolling, small(), 2, batch=16),
        "MetaPoison by differences in bfloat16, small residual network, 2 poisons": partial(
            unrolling, small(), 2, batch=16, derivative="differences", precision="bfloat16"
        ),
    },
}


def relative(first: Tensor, second: Tensor) -> float:
    return float(((first - second).abs() / second.abs()).max())
