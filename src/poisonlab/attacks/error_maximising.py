"""Error-maximising poisons: adversarial examples that keep their labels (Fowl et al. 2021; Sandoval-Segura et al. 2022,
section 3.2).

With t = (y + 1) mod K, or untargeted, each image x of class y is moved within |delta| <= eps by

    PGD      delta <- P(delta - s sign(g))
    MI-FGSM  m <- decay m + g / |g|_1,   delta <- P(delta - s sign(m))

where g is the gradient of the cross-entropy of x + delta to t (untargeted: of minus the cross-entropy to y), and P cuts
delta to the bound and x + delta to [0, 1]. A network trained on the result learns features of class t as class y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.shipping import ship
from poisonlab.attacks.whole_set import Plan, frozen, optimised, poisoned_rows
from poisonlab.config.attacks.error_maximising import ErrorMaximising as Settings
from poisonlab.data.augmentation import augment
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import pixels
from poisonlab.precision import passes
from poisonlab.randomness import generator


def craft(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, *, seed: int, progress: bool = False
) -> PoisonSet:
    """Perturb every image that ``seed`` draws, or all if the budget is 1.

    Args:
        dataset: clean data.
        attacker: its surrogates, and the augmentation of their recipe. Crafting computes in the surrogates' dtype.
        settings: algorithm, steps, bound, budget.
        seed: of the poisoned rows, the starts and the augmentation.
        progress: show images per second.

    Returns:
        Poisons without a goal, with the labels of their bases. ``diagnostics["losses"]`` is (restarts, steps) float64,
        the mean loss before each step.

    Raises:
        PoisonlabError: the loss is not finite.
        TooLittleMemoryError: memory does not suffice for a batch.
    """
    rows = poisoned_rows(dataset, attacker, settings.budget, seed, "error-maximising")
    bases, labels = dataset.train_images[rows], dataset.train_labels[rows]
    aims = (labels + 1) % dataset.num_classes if settings.aim == "next-class" else labels
    networks = frozen(attacker.surrogates)

    def begin(part: slice, restart: int) -> _Batch:
        return _Batch(bases[part], aims[part], networks, attacker, settings, seed, restart, part.start)

    plan = Plan(len(rows), settings.batch_size, settings.steps, settings.restarts)
    images, losses = optimised(begin, plan, bases, attacker.checkpoint, progress)
    return PoisonSet(rows, images, labels, bases, diagnostics={"losses": losses})


@dataclass
class _Batch:
    """The perturbation of one batch.

    Attributes:
        bases: (B, C, H, W) uint8.
        aims: (B,) int64, the classes in the loss.
        networks: normalised images to logits, frozen.
        restart, first: number of the restart and place of the first image, which name the random streams.
    """

    bases: Tensor
    aims: Tensor
    networks: Sequence[nn.Module]
    attacker: Attacker
    settings: Settings
    seed: int
    restart: int
    first: int

    def __post_init__(self) -> None:
        device, kind = self.attacker.device, self.attacker.normalize.mean.dtype
        self.clean = pixels(self.bases.to(device)).to(kind)
        self.aims = self.aims.to(device)
        self.delta = torch.zeros_like(self.clean)
        if self.settings.starts == "gaussian":
            stream = generator(device, self.seed, "error-maximising", "start", self.restart, self.first)
            drawn = torch.randn(self.clean.shape, generator=stream, device=device)
            self.delta = self._projected(drawn.to(kind) * self.settings.eps / 255)
        self.momentum = torch.zeros_like(self.clean)

    def step(self, number: int) -> Tensor:
        loss, gradient = self._gradient(number)
        if self.settings.algorithm == "mi-fgsm":
            size = gradient.abs().sum((1, 2, 3), keepdim=True)
            # An image with zero gradient keeps the direction of its momentum.
            scaled = torch.where(size > 0, gradient / size, 0)
            self.momentum = self.settings.decay * self.momentum + scaled
            gradient = self.momentum if self.settings.momentum == "textbook" else gradient
        self.delta = self._projected(self.delta - self.settings.step_length / 255 * gradient.sign())
        return loss

    def images(self) -> Tensor:
        return ship(self.bases, self.delta.cpu() * 255, self.settings.eps, "uint8")

    def state(self) -> dict[str, Tensor]:
        return {"delta": self.delta, "momentum": self.momentum}

    def restore(self, state: dict[str, Tensor]) -> None:
        device = self.attacker.device
        self.delta, self.momentum = state["delta"].to(device), state["momentum"].to(device)

    def _gradient(self, number: int) -> tuple[Tensor, Tensor]:
        """The loss, summed over the batch and averaged over networks, and its gradient with respect to ``delta``."""
        delta = self.delta.clone().requires_grad_(True)
        normalize = self.attacker.normalize
        inputs = normalize(self.clean + delta)
        if self.settings.augments:
            which = (self.restart, self.first, number)
            stream = generator(delta.device, self.seed, "error-maximising", "augment", *which)
            inputs = augment(inputs, self.attacker.augmentation, stream, normalize.black)
        loss = torch.zeros((), device=delta.device, dtype=delta.dtype)
        for network in self.networks:
            with passes(delta.device, self.settings.crafting_precision):
                logits = network(inputs)
            loss = loss + F.cross_entropy(logits.to(delta.dtype), self.aims, reduction="sum") / len(self.networks)
        if self.settings.aim == "away":
            loss = -loss
        (gradient,) = torch.autograd.grad(loss, [delta])
        return loss.detach(), gradient

    def _projected(self, delta: Tensor) -> Tensor:
        bound = self.settings.eps / 255
        return (self.clean + delta.clamp(-bound, bound)).clamp(0, 1) - self.clean
