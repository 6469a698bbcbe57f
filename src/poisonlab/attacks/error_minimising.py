"""Error-minimising poisons, or unlearnable examples (Huang et al. 2021; Sandoval-Segura et al. 2022, section 3.2).

Noise and network alternately minimise the same loss, until the network errs on almost no poison:

    min over theta   min over |delta| <= eps   mean_i L(f(x_i + delta_i; theta), y_i)

In each round the network, in train mode, takes a few steps of SGD on the current poisons. Then, with the network in
eval mode, every image's noise takes steps against the sign of its gradient. Class-wise noise becomes the mean over the
class's images in each batch. As released, only a part of each class makes it, and the network is trained on all images.
A network that is trained on the poisons learns nothing from the images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.shipping import ship
from poisonlab.attacks.whole_set import poisoned_rows, with_class_noise
from poisonlab.config.attacks.error_minimising import ErrorMinimising as Settings
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import pixels
from poisonlab.errors import PoisonlabError
from poisonlab.models.chunks import memory_for, shape_of
from poisonlab.precision import passes
from poisonlab.randomness import generator, stream_seed
from poisonlab.training.checkpoint import named
from poisonlab.training.sgd import sgd_of


def craft(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, *, seed: int, progress: bool = False
) -> PoisonSet:
    """Make noise for each image that ``seed`` draws (all if the budget is 1), or for each of their classes.

    Args:
        dataset: clean data.
        attacker: ``fresh`` builds the network; the recipe sets its optimiser, batch size and precision.
        settings: noise, steps, bound, budget.
        seed: of the poisoned rows, the network, its batches, and the subset for which class-wise noise is made.
        progress: show rounds and the training error.

    Returns:
        Poisons without a goal, with the labels of their bases. ``diagnostics["errors"]`` is (rounds,) float64, the
        share of the poisons, class-wise of those that make the noise, that the network gets wrong after each round.

    Raises:
        PoisonlabError: the error does not fall to ``stop_error`` within ``rounds``, or the loss is not finite.
        TooLittleMemoryError: memory does not suffice for a batch.
    """
    rows = poisoned_rows(dataset, attacker, settings.budget, seed, "error-minimising")
    class_wise = settings.noise == "class-wise"
    making = _Making(dataset, rows, attacker, settings, seed)
    errors = making.run(progress)
    noise = making.noise.cpu() * 255
    if settings.application == "drop_negative":
        noise = noise.clamp(min=0)
    if class_wise:
        poisons = with_class_noise(dataset, rows, noise.round().to(torch.int16), settings.eps)
        poisons.diagnostics["errors"] = errors
        return poisons
    bases = dataset.train_images[rows]
    parts = zip(torch.split(bases, 1000), torch.split(noise, 1000), strict=True)
    images = torch.cat([ship(some, change, settings.eps, "uint8") for some, change in parts])
    return PoisonSet(rows, images, dataset.train_labels[rows], bases, diagnostics={"errors": errors})


def descend(
    logits_of: Callable[[Tensor], Tensor],
    clean: Tensor,
    noise: Tensor,
    labels: Tensor,
    settings: Settings,
) -> Tensor:
    """The noise after its steps against the sign of the gradient of the cross-entropy.

    Args:
        logits_of: images (B, C, H, W) in [0, 1] to logits (B, K).
        clean: (B, C, H, W) in [0, 1].
        noise: (B, C, H, W), in units of the [0, 1] range.
        labels: (B,) int64.
        settings: steps and bound.

    Returns:
        (B, C, H, W) within the bound. Images with this noise may leave [0, 1]. They are cut after the noise is added,
        so that class-wise noise is averaged uncut.
    """
    bound = settings.eps / 255
    for _ in range(settings.steps_each):
        poisons = (clean + noise).clamp(0, 1).requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits_of(poisons), labels, reduction="sum"), [poisons])
        noise = (poisons.detach() - settings.step / 255 * gradient.sign() - clean).clamp(-bound, bound)
    return noise


def _subset(labels: Tensor, share: float, seed: int) -> Tensor:
    """(S,) int64 sorted: positions of ``share`` of the ``labels`` (P,) of every class, at least one."""
    chosen = []
    for label in torch.unique(labels):
        own = (labels == label).nonzero()[:, 0]
        stream = generator("cpu", seed, "error-minimising", "subset", int(label))
        chosen.append(own[torch.randperm(len(own), generator=stream)[: max(1, round(share * len(own)))]])
    return torch.cat(chosen).sort().values


class _Making:
    """The network and the noise while they are optimised.

    Attributes:
        images, labels: (P, C, H, W) uint8 and (P,) int64, on the device.
        used: (S,) int64 on the CPU, positions of the images that make the noise: all, or a subset if it is class-wise.
        noise: (P, C, H, W), one per image, or (K, C, H, W), one per class, in units of the [0, 1] range.
    """

    def __init__(self, dataset: ImageDataset, rows: Tensor, attacker: Attacker, settings: Settings, seed: int) -> None:
        self.attacker, self.settings, self.seed = attacker, settings, seed
        self.class_wise = settings.noise == "class-wise"
        device, kind = attacker.device, attacker.normalize.mean.dtype
        self.images, labels = dataset.train_images[rows].to(device), dataset.train_labels[rows]
        self.labels = labels.to(device)
        self.used = _subset(labels, settings.subset, seed) if self.class_wise else torch.arange(len(rows))
        count = dataset.num_classes if self.class_wise else len(rows)
        self.noise = torch.zeros(count, *dataset.image_shape, device=device, dtype=kind)
        self.model = attacker.network(stream_seed(seed, "error-minimising", "network"))
        self.optimizer = sgd_of(self.model, attacker.recipe)
        self.optimizer.rate = attacker.recipe.lr
        self.errors: list[float] = []

    def run(self, progress: bool) -> Tensor:
        """Run rounds until the error is at most ``stop_error``; returns the errors after each, (rounds,)."""
        checkpoint, first, inner, trained = self.attacker.checkpoint, 0, 0, False
        if checkpoint is not None and (saved := checkpoint.load()) is not None:
            first, inner = self._restore(*saved)
            trained = True
        most = self.settings.rounds
        bar = tqdm(range(first, most), initial=first, total=most, unit="round", disable=not progress)
        for number in bar:
            if not trained:
                self._train(number)
            parts = self._parts(number)
            for place in range(inner, len(parts)):
                if checkpoint is not None and checkpoint.due():
                    checkpoint.save(*self._state(number, place))
                self._move(parts[place])
            inner, trained = 0, False
            self.errors.append(self._error())
            bar.set_postfix(error=f"{self.errors[-1]:.3f}")
            if self.errors[-1] <= self.settings.stop_error:
                return torch.tensor(self.errors, dtype=torch.float64)
        raise PoisonlabError(
            f"after {most} rounds of error-minimising noise the network still errs on {100 * self.errors[-1]:.3g} % of "
            f"the poisons, more than stop_error {self.settings.stop_error:g}: raise rounds, stop_error or eps"
        )

    def _state(self, number: int, place: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state before the noise of batch ``place`` moves in round ``number``."""
        tensors = {"noise": self.noise} | {f"model.{name}": each for name, each in self.model.state_dict().items()}
        tensors |= self.optimizer.tensors(self.model)
        return tensors, {"round": number, "place": place, "errors": self.errors}

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> tuple[int, int]:
        """Restore what ``_state`` returned; returns round and batch."""
        self.noise.copy_(tensors["noise"])
        self.model.load_state_dict(named("model.", tensors))
        self.optimizer.restore(self.model, tensors)
        self.errors = list(facts["errors"])
        return int(facts["round"]), int(facts["place"])

    def _train(self, number: int) -> None:
        """Train the network on the batches of a round, drawn from all images. Shuffled epochs continue across rounds,
        and the smaller last batch of an epoch is left out."""
        recipe = self.attacker.recipe
        size = min(recipe.batch_size, len(self.labels))
        each = len(self.labels) // size
        self.model.train()
        for step in range(number * self.settings.batches, (number + 1) * self.settings.batches):
            stream = generator("cpu", self.seed, "error-minimising", "order", step // each)
            order = torch.randperm(len(self.labels), generator=stream)
            chosen = order[step % each * size :][:size].to(self.labels.device)
            torch.manual_seed(stream_seed(self.seed, "error-minimising", "dropout", step))
            with memory_for(f"batches of {size} images of {shape_of(self.images)}", "lower the recipe's batch_size"):
                logits = self._logits(self._poisons(chosen))
                loss = F.cross_entropy(logits, self.labels[chosen], label_smoothing=recipe.label_smoothing)
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
            if not math.isfinite(loss.item()):
                raise PoisonlabError(f"the loss of the network is {loss.item()} in round {number}: lower its lr")
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
            self.optimizer.step()
        self.model.eval()

    def _parts(self, number: int) -> list[Tensor]:
        """Positions of the images of each batch of a round; shuffled if the noise is class-wise."""
        order = self.used
        if self.class_wise:
            stream = generator("cpu", self.seed, "error-minimising", "parts", number)
            order = order[torch.randperm(len(order), generator=stream)]
        return list(torch.split(order.to(self.labels.device), self.settings.batch_size))

    def _move(self, chosen: Tensor) -> None:
        self.model.eval()
        labels, clean = self.labels[chosen], self._clean(chosen)
        with memory_for(f"{len(chosen)} poisons of {shape_of(self.images)} at once", "lower the attack's batch_size"):
            moved = descend(self._logits, clean, self._noise(chosen), labels, self.settings)
        if not self.class_wise:
            self.noise[chosen] = moved
            return
        bound = self.settings.eps / 255
        for label in torch.unique(labels).tolist():
            self.noise[label] = moved[labels == label].mean(0).clamp(-bound, bound)

    @torch.no_grad()
    def _error(self) -> float:
        """The share of the poisons ``used`` that the network gets wrong, in eval mode."""
        wrong = 0
        for chosen in torch.split(self.used.to(self.labels.device), self.settings.batch_size):
            wrong += int((self._logits(self._poisons(chosen)).argmax(1) != self.labels[chosen]).sum())
        return wrong / len(self.used)

    def _clean(self, chosen: Tensor) -> Tensor:
        return pixels(self.images[chosen]).to(self.noise.dtype)

    def _noise(self, chosen: Tensor) -> Tensor:
        return self.noise[self.labels[chosen] if self.class_wise else chosen]

    def _poisons(self, chosen: Tensor) -> Tensor:
        return (self._clean(chosen) + self._noise(chosen)).clamp(0, 1)

    def _logits(self, images: Tensor) -> Tensor:
        with passes(images.device, self.attacker.recipe.precision):
            logits: Tensor = self.model(self.attacker.normalize(images))
        return logits.to(self.noise.dtype)
