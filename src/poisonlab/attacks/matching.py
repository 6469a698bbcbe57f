"""The optimisation that gradient matching and Sleeper Agent share.

Perturb images so that their gradient in a trained network points in the direction of the attacker's gradient g:

    minimise over |delta| <= eps   1 - cos(g, mean_i grad L(augment(x_i + delta_i), y_i))

by signed Adam with a step that falls tenfold three times (Witches' Brew, Geiping et al. 2021, algorithm 1). As in the
released code, pixels are normalised: a step of tau moves a pixel by tau standard deviations of its channel.

The perturbation's gradient is a mixed second derivative times a vector. With G the poisons' mean gradient, phi(G) the
matching loss above, and v = d phi / d G,

    d phi / d delta_i  =  d/ds grad_delta L(x_i + delta_i, y_i; theta + s v)  at s = 0.

``derivative: exact`` differentiates twice. ``differences`` takes the central difference of two ordinary gradients
(``poisonlab.models.differences``): one pass for G, summed over chunks, and two more for the images alone.

``sharpness: rho`` matches the gradient that the attacker's loss L_adv has at the worst weights nearby (Sharpness-Aware
Data Poisoning Attack, He et al. 2024, section 4; SAPA+GM of the release, ``worstsharp`` with ``sharpsigma``):

    g = grad L_adv(theta + rho h / |h|),   h = grad L_adv(theta),

while the poisons' gradient is still taken at theta. A step costs no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from tqdm import tqdm

from poisonlab.attacks.attacker import Attacker
from poisonlab.config.attacks.matching import MatchingAttack
from poisonlab.data.augmentation import augment
from poisonlab.data.training_set import pixels
from poisonlab.defenses.random_noise import random_noise
from poisonlab.errors import PoisonlabError
from poisonlab.models.chunks import images_at_once, in_chunks, memory_for
from poisonlab.models.differences import Loss, directional, norm
from poisonlab.models.double_backward import check_twice_differentiable, twice_differentiable
from poisonlab.models.gradient_angle import matching_loss
from poisonlab.models.layout import layout
from poisonlab.models.margins import margins
from poisonlab.precision import passes
from poisonlab.randomness import generator
from poisonlab.training.checkpoint import optimizer_state, restore_optimizer
from poisonlab.training.schedule import crafting_rate

_REFERENCE_BATCH = 512
# Images of one backward pass in the sum for a mean gradient: targets, and poisons.
_CHUNK = 500
_POISONS = 256

Gradients = tuple[Tensor, ...]


def match(surrogate: nn.Module, targets: Tensor, label: int, settings: MatchingAttack) -> Matcher:
    """The surrogate, in eval mode and with every weight trainable, and the attacker's gradient in it.

    Args:
        targets: (T, C, H, W), normalised: the attacker's images.
        label: the adversarial class.
        settings: the losses, the derivative, and the sharpness.

    Raises:
        PoisonlabError: the gradient is zero.
        SettingsError: ``derivative`` is exact, and a layer cannot be differentiated twice.
    """
    surrogate.eval().requires_grad_(True)
    labels = torch.full((len(targets),), label, device=targets.device)
    exact = settings.derivative == "exact"
    if exact:
        check_twice_differentiable(surrogate, targets[:1], surrogate(targets[:1]))
    with twice_differentiable(surrogate, targets) if exact else nullcontext():
        goal = target_gradient(surrogate, targets, labels, settings.target_criterion)
        if settings.sharpness > 0:
            with _moved(surrogate, goal, settings.sharpness):
                goal = target_gradient(surrogate, targets, labels, settings.target_criterion)
    return Matcher(
        surrogate,
        goal,
        settings.crafting_precision,
        settings.poison_criterion,
        settings.derivative,
        settings.difference,
    )


def target_gradient(model: nn.Module, target: Tensor, label: Tensor, criterion: str) -> Gradients:
    """Gradient of the adversarial loss of the unaugmented target with respect to every weight.

    Args:
        target: (T, C, H, W), input of the model.
        label: (T,) int64, the adversarial class.
        criterion: see ``adversarial_loss``.

    Raises:
        PoisonlabError: the gradient is zero.
    """
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    goal = tuple(torch.zeros_like(weight) for weight in weights)

    def gradients(part: slice) -> Gradients:
        loss = adversarial_loss(model(target[part]), label[part], criterion)
        # The logits may be independent of some weights: materialize_grads gives these zeros.
        return torch.autograd.grad(loss * (len(label[part]) / len(target)), weights, materialize_grads=True)

    at_once = images_at_once(target, _CHUNK)
    for some in in_chunks(gradients, len(target), at_once, "targets whose gradient is matched"):
        for part, gradient in zip(goal, some, strict=True):
            part += gradient
    if not any(bool(part.any()) for part in goal):
        raise PoisonlabError(
            "the target's gradient is zero, so there is nothing to match: does the surrogate already give it the "
            "adversarial label? Use target_criterion: cross-entropy"
        )
    return goal


@contextmanager
def _moved(model: nn.Module, direction: Gradients, distance: float) -> Iterator[None]:
    """Within the block, the trainable weights are moved by ``distance`` along the direction."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = [weight.detach().clone() for weight in weights]
    length = norm(direction)
    try:
        with torch.no_grad():
            for weight, part in zip(weights, direction, strict=True):
                weight.add_(part * (distance / length))
        yield
    finally:
        with torch.no_grad():
            for weight, old in zip(weights, before, strict=True):
                weight.copy_(old)


def adversarial_loss(logits: Tensor, label: Tensor, criterion: str) -> Tensor:
    """Mean cross-entropy, or mean of Carlini and Wagner's margins max_j z_j - z_label, each at least 0.

    A margin of 0 has no gradient. The loss has the precision of the ``logits`` (B, K), but at least float32. ``label``
    (B,) int64: the adversarial class of targets, or the poisons' own labels.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if criterion == "cross-entropy":
        return F.cross_entropy(logits, label)
    return (-margins(logits, label)).clamp(min=0).mean()


@dataclass(frozen=True)
class Matcher:
    """One surrogate and the gradient to match.

    Attributes:
        model: normalised images to logits.
        goal: the attacker's gradient, one tensor per trainable weight.
        precision: of the network's passes.
        criterion: the poisons' own loss, see ``adversarial_loss``.
        derivative: ``exact`` or ``differences``.
        difference: the step of ``differences`` as a share of the weights' norm.
    """

    model: nn.Module
    goal: Gradients
    precision: str = "float32"
    criterion: str = "cross-entropy"
    derivative: str = "exact"
    difference: float = 0.03

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Matching loss (scalar) of one batch of inputs (P, C, H, W), by a first derivative only."""
        return matching_loss(self._mean_gradient(inputs, labels), self.goal)

    def loss_and_gradient(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Matching loss (scalar) of one batch of inputs (P, C, H, W), and its gradient with respect to them."""
        return self._by_differences(inputs, labels) if self.derivative == "differences" else self._exact(inputs, labels)

    def _by_differences(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        # Fused kernels are faster on channels-last images, on CPUs too. This does not hold for double backward passes.
        inputs = inputs.detach().contiguous(memory_format=layout(self.model))
        weights = self._weights()
        ours = [part.requires_grad_(True) for part in self._mean_gradient(inputs, labels)]
        matching = matching_loss(ours, self.goal)
        direction = dict(zip(weights, torch.autograd.grad(matching, ours), strict=True))

        def slope(part: slice) -> Tensor:
            loss = self._poison_loss(labels[part], len(labels))
            return directional(loss, weights, inputs[part], direction, self.difference)

        slopes = in_chunks(slope, len(inputs), images_at_once(inputs, _POISONS), "poisons whose gradients differ")
        return matching.detach(), torch.cat(list(slopes))

    def _mean_gradient(self, inputs: Tensor, labels: Tensor) -> Gradients:
        """The gradient of the poisons' mean loss with respect to the weights, summed over chunks."""
        weights = {name: weight.requires_grad_(True) for name, weight in self._weights().items()}

        def gradient(part: slice) -> Gradients:
            loss = self._poison_loss(labels[part], len(labels))(weights, inputs[part])
            return torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)

        chunks = in_chunks(gradient, len(inputs), images_at_once(inputs, _POISONS), "poisons whose gradient is matched")
        # Copies, because gradients may share memory: of a single image, those of a class token and of the places do.
        mean = tuple(part.clone() for part in next(chunks))
        for some in chunks:
            for total, part in zip(mean, some, strict=True):
                total += part
        return mean

    def _poison_loss(self, labels: Tensor, count: int) -> Loss:
        """A function of weights and images (p, C, H, W) with these labels: the part that these images contribute to
        the mean loss over ``count`` poisons."""
        buffers = dict(self.model.named_buffers())

        def loss(weights: dict[str, Tensor], images: Tensor) -> Tensor:
            with passes(images.device, self.precision):
                logits = functional_call(self.model, {**weights, **buffers}, (images,))
            return adversarial_loss(logits, labels, self.criterion) * (len(labels) / count)

        return loss

    def _weights(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}

    def _exact(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        inputs = inputs.detach().requires_grad_(True)
        weights = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        with twice_differentiable(self.model, inputs):
            with passes(inputs.device, self.precision):
                logits = self.model(inputs)
            loss = adversarial_loss(logits, labels, self.criterion)
            gradients = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
            matching = matching_loss(gradients, self.goal)
            (gradient,) = torch.autograd.grad(matching, inputs)
        return matching.detach(), gradient


Refresh = Callable[[int, Tensor], list[Matcher] | None]
"""Called before every step but the first with the step's number and the current perturbation, (P, C, H, W) in levels.
Returns new matchers, or None to keep the old ones. Equal arguments give equal matchers."""

Save = Callable[[dict[str, Tensor], dict[str, Any]], None]
"""Called after every step with the tensors and facts from which the optimisation can resume."""


@dataclass(frozen=True)
class Crafting:
    """The optimisation of algorithm 1, in normalised pixel space.

    It saves its state in the attacker's checkpoint and resumes from it.

    Attributes:
        images: (P, C, H, W) uint8, the bases.
        labels: (P,) int64.
        friendly: (P, C, H, W) float or None: fixed noise that an adaptive attacker expects on the poisons, in units of
            the [0, 1] pixel range.
        stream: names the random streams.
        restarts: number of random starts.
    """

    attacker: Attacker
    settings: MatchingAttack
    images: Tensor
    labels: Tensor
    friendly: Tensor | None
    seed: int
    stream: str
    restarts: int = 1

    def run(
        self, matchers: list[Matcher], refresh: Refresh | None = None, progress: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Craft from all random starts.

        Returns:
            The perturbation (P, C, H, W) of the start with the lowest last loss, in levels of 1/255, on the CPU; and
            all losses (restarts, steps) float32.

        Raises:
            PoisonlabError: the matching loss is not finite.
        """
        checkpoint = self.attacker.checkpoint
        saved = None if checkpoint is None else checkpoint.load()
        begun = 0 if saved is None else int(saved[1]["restart"])
        losses = torch.full((self.restarts, self.settings.steps), torch.nan) if saved is None else saved[0]["losses"]
        best = None if saved is None or "best" not in saved[0] else (int(saved[1]["best"]), saved[0]["best"])

        def save(tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
            if checkpoint is not None and checkpoint.due():
                found = {} if best is None else {"best": best[1]}
                facts = {**facts, "restart": restart, "best": None if best is None else best[0]}
                checkpoint.save({**tensors, **found, "losses": losses}, facts)

        with tqdm(total=losses.numel(), initial=begun * losses.shape[1], unit="step", disable=not progress) as bar:
            for restart in range(begun, self.restarts):
                optimisation = _Optimisation(self, matchers, restart, refresh)
                if saved is not None and restart == begun:
                    bar.update(optimisation.restore(*saved))
                delta = optimisation.run(losses[restart], save, bar)
                if best is None or losses[restart, -1] < losses[best[0], -1]:
                    best = restart, delta
        assert best is not None
        return best[1], losses


class _Optimisation:
    """One restart; everything is (P, C, H, W) and in normalised pixels.

    Attributes:
        number: number of the next step.
        refreshed: the step before which the matchers were last refreshed, and the perturbation at that step.
    """

    def __init__(
        self, crafting: Crafting, matchers: list[Matcher], restart: int, refresh: Refresh | None = None
    ) -> None:
        normalize = crafting.attacker.normalize
        self.crafting, self.settings, self.matchers = crafting, crafting.settings, matchers
        self.device = crafting.attacker.device
        self.images = normalize(pixels(crafting.images.to(self.device)))
        self.labels = crafting.labels.to(self.device)
        self.friendly = None if crafting.friendly is None else crafting.friendly.to(self.device) / normalize.std
        self.std = normalize.std
        self.lower, self.upper = -normalize.mean / normalize.std, (1 - normalize.mean) / normalize.std
        self.bound = crafting.settings.eps / 255 / normalize.std
        self.streams = {name: self._stream(name, restart) for name in ("augment", "noise")}
        self.delta = self._start(restart).requires_grad_(True)
        self.step = self.settings.tau * (self.settings.batch_size / _REFERENCE_BATCH) / len(matchers)
        self.optimizer = torch.optim.Adam([self.delta], lr=self.step)
        self.refresh, self.number = refresh, 0
        self.refreshed: tuple[int, Tensor] | None = None

    def run(self, losses: Tensor, save: Save, bar: tqdm[Any]) -> Tensor:
        """Take all steps and fill ``losses`` (steps,); returns the perturbation in levels, on the CPU."""
        settings, delta, optimizer = self.settings, self.delta, self.optimizer
        for number in range(self.number, settings.steps):
            if number > 0:
                self._refresh(number, self._levels(delta))
            with memory_for(
                f"gradients of {min(settings.batch_size, len(self.images))} poisons at once",
                "lower the attack's batch_size",
            ):
                loss, delta.grad = self._loss_and_gradient(delta)
            if not bool(torch.isfinite(loss)):
                raise PoisonlabError(
                    f"the matching loss is not finite at step {number}: has the surrogate's training diverged?"
                )
            if number == 0 and settings.poison_criterion == "carlini-wagner" and not bool(delta.grad.any()):
                raise PoisonlabError(
                    "no poison's margin has a gradient at step 0, because every surrogate gives them their labels: "
                    "use poison_criterion: cross-entropy"
                )
            delta.grad.sign_()
            optimizer.param_groups[0]["lr"] = crafting_rate(self.step, number, settings.steps)
            optimizer.step()
            with torch.no_grad():
                delta.copy_(self._project(delta))
            losses[number] = loss
            self.number = number + 1
            save(*self._state())
            bar.update()
        return self._levels(delta)

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> int:
        """Restore what ``_state`` returned; returns the number of steps done."""
        if "refreshed" in tensors:
            self._refresh(int(facts["refreshed"]), tensors["refreshed"])
        with torch.no_grad():
            self.delta.copy_(tensors["delta"])
        restore_optimizer(self.optimizer, tensors)
        for name, stream in self.streams.items():
            stream.set_state(tensors[name])
        self.number = int(facts["number"])
        return self.number

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {"delta": self.delta, **optimizer_state(self.optimizer)}
        tensors |= {name: stream.get_state() for name, stream in self.streams.items()}
        if self.refreshed is not None:
            tensors["refreshed"] = self.refreshed[1]
        return tensors, {"number": self.number, "refreshed": None if self.refreshed is None else self.refreshed[0]}

    def _refresh(self, number: int, change: Tensor) -> None:
        if self.refresh is not None and (matchers := self.refresh(number, change)) is not None:
            self.matchers, self.refreshed = matchers, (number, change)

    def _stream(self, *purpose: str | int) -> torch.Generator:
        return generator(self.device, self.crafting.seed, self.crafting.stream, *purpose)

    def _levels(self, delta: Tensor) -> Tensor:
        levels: Tensor = delta.detach() * self.std * 255
        return levels.cpu()

    def _start(self, restart: int) -> Tensor:
        """A Gaussian start of standard deviation ``eps``, cut at the bound."""
        start = torch.randn(self.images.shape, generator=self._stream("start", restart), device=self.device)
        return self._project(start * self.bound)

    def _project(self, delta: Tensor) -> Tensor:
        bounded = torch.maximum(torch.minimum(delta, self.bound), -self.bound)
        inside = (self.images + bounded).clamp(self.lower, self.upper)
        return torch.sub(inside, self.images)

    def _loss_and_gradient(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """The loss (scalar) and its gradient with respect to the perturbation, computed in batches of poisons."""
        loss, gradient = torch.zeros((), device=self.device), torch.zeros_like(delta)
        count = min(self.settings.batch_size, len(self.images))
        for first in range(0, len(self.images), count):
            part = slice(first, first + count)
            value, gradient[part] = self._batch(delta[part], part)
            loss += value * (len(delta[part]) / len(self.images))
        return loss, gradient

    def _batch(self, delta: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """Loss (scalar) and gradient (p, C, H, W) of one batch, averaged over the surrogates."""
        delta = delta.detach().requires_grad_(True)
        shown = self._as_trained_on(self.images[part] + delta, part)
        augmentation = self.crafting.attacker.augmentation
        augmented = augment(shown, augmentation, self.streams["augment"], self.lower)
        inputs = augmented.detach()
        total_loss, total_gradient = torch.zeros((), device=delta.device), torch.zeros_like(inputs)
        for matcher in self.matchers:
            loss, gradient = matcher.loss_and_gradient(inputs, self.labels[part])
            total_loss += loss / len(self.matchers)
            total_gradient += gradient / len(self.matchers)
        (back,) = torch.autograd.grad(augmented, delta, total_gradient)
        return total_loss, back

    def _as_trained_on(self, images: Tensor, part: slice) -> Tensor:
        """The poisons with the noise that an adaptive attacker expects the defense to add."""
        if self.friendly is not None:
            images = (images + self.friendly[part]).clamp(self.lower, self.upper)
        adaptation = self.settings.adaptation
        if adaptation is not None and (settings := adaptation.random_noise) is not None:
            images = images + random_noise(images.shape, settings, self.streams["noise"], images.device) / self.std
            if settings.clip:
                images = images.clamp(self.lower, self.upper)
        return images
