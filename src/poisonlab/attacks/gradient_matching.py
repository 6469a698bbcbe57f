"""Gradient matching (Witches' Brew, Geiping et al. 2021; algorithm 1).

Perturb base images of the adversarial class so that the gradient they give a trained surrogate points where the
gradient of the target, labelled with the adversarial class, points:

    minimise over |delta| <= eps   1 - cos(grad L(x_t, y_adv), mean_i grad L(augment(x_i + delta_i), y_i))

by signed Adam with a step that falls tenfold three times, from several random starts; the start with the lowest final
loss wins. Everything happens in normalised pixel space, as in the released code: a step of tau moves a pixel by tau
standard deviations of its channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.func import grad as functional_grad
from tqdm import tqdm

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.threat import draw_threat
from poisonlab.config.attacks.gradient_matching import GradientMatching as Settings
from poisonlab.config.recipe import Augmentation
from poisonlab.data.augmentation import augment
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import pixels
from poisonlab.errors import PoisonlabError
from poisonlab.evaluation.outcome import logits_of
from poisonlab.models.classifier import Normalize
from poisonlab.randomness import generator
from poisonlab.training.schedule import step_milestones

_REFERENCE_BATCH = 512

Gradients = tuple[Tensor, ...]


def craft(
    dataset: ImageDataset,
    surrogates: Sequence[nn.Module],
    normalize: Normalize,
    augmentation: Augmentation,
    settings: Settings,
    *,
    seed: int,
    progress: bool = False,
) -> PoisonSet:
    """Craft poisons for the target and bases that ``seed`` draws.

    Args:
        dataset: clean data.
        surrogates: trained networks (normalised images to logits), on the device to compute on.
        normalize: the dataset's normalisation, on the same device.
        augmentation: what the surrogates were trained with; also applied to the poisons while crafting.
        settings: budget, bound, steps, restarts.
        seed: of the threat, the random starts and the augmentation.
        progress: show a progress bar.

    Returns:
        The poisons; ``diagnostics["matching_loss"]`` is (restarts, steps) float32.

    Raises:
        SettingsError: the budget exceeds the adversarial class, or no test image can be the target.
        PoisonlabError: the matching loss is not finite.
    """
    device = normalize.mean.device
    eligible = recognised(dataset, surrogates, normalize) if settings.target == "recognised" else None
    threat = draw_threat(dataset, settings.budget, seed, eligible)
    bases = dataset.train_images[threat.base_indices]
    labels = dataset.train_labels[threat.base_indices]
    target = dataset.test_images[threat.target_index][None]
    adversarial = torch.tensor([threat.adversarial_label], device=device)
    matchers = []
    for surrogate in surrogates:
        surrogate.eval().requires_grad_(True)
        goal = target_gradient(surrogate, normalize(pixels(target.to(device))), adversarial, settings.target_criterion)
        matchers.append(Matcher(surrogate, goal, settings.crafting_precision))
    crafting = _Crafting(
        matchers=matchers,
        images=normalize(pixels(bases.to(device))),
        labels=labels.to(device),
        lower=-normalize.mean / normalize.std,
        upper=(1 - normalize.mean) / normalize.std,
        bound=settings.eps / 255 / normalize.std,
        augmentation=augmentation,
        settings=settings,
        seed=seed,
    )
    delta, losses = crafting.run(progress)
    change = (delta * normalize.std * 255).cpu()
    return PoisonSet(
        indices=threat.base_indices,
        images=ship(bases, change, settings.eps, settings.precision),
        labels=labels,
        base_images=bases,
        targets=target,
        target_labels=torch.tensor([threat.target_label]),
        adversarial_label=threat.adversarial_label,
        diagnostics={"matching_loss": losses.cpu()},
        facts={"target_index": threat.target_index, "best_restart": int(losses[:, -1].argmin())},
    )


def recognised(dataset: ImageDataset, networks: Sequence[nn.Module], normalize: Normalize) -> Tensor:
    """(M,) bool: the test images that every network classifies correctly."""
    correct = torch.ones(len(dataset.test_labels), dtype=torch.bool)
    for network in networks:
        correct &= logits_of(network, normalize, dataset.test_images).argmax(1).cpu() == dataset.test_labels
    return correct


def ship(bases: Tensor, change: Tensor, eps: float, precision: str) -> Tensor:
    """The poisoned images as the victim receives them.

    Args:
        bases: (P, C, H, W) uint8.
        change: (P, C, H, W) float, in levels of 1/255.
        eps: the bound in levels; a fractional bound is rounded down for 8-bit images.
        precision: ``uint8`` or ``float32`` (then in [0, 1]).
    """
    if precision == "float32":
        return ((bases.float() + change).clamp(0, 255) / 255).float()
    whole = change.round().clamp(-int(eps), int(eps))
    return (bases.float() + whole).clamp(0, 255).to(torch.uint8)


def target_gradient(model: nn.Module, target: Tensor, label: Tensor, criterion: str) -> Gradients:
    """Gradient of the adversarial loss of the target, unaugmented, with respect to every weight.

    Args:
        target: (T, C, H, W), as the model takes it.
        label: (T,) int64, the adversarial class.
        criterion: see ``adversarial_loss``.

    Raises:
        PoisonlabError: the gradient is zero.
    """
    loss = adversarial_loss(model(target), label, criterion)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    goal = tuple(gradient.detach() for gradient in torch.autograd.grad(loss, weights))
    if not any(bool(part.any()) for part in goal):
        raise PoisonlabError(
            "the target's gradient is zero, so there is nothing to match: does the surrogate already give it the "
            "adversarial label? Use target_criterion: cross-entropy"
        )
    return goal


def adversarial_loss(logits: Tensor, label: Tensor, criterion: str) -> Tensor:
    """What the attacker wants small: cross-entropy, or Carlini and Wagner's margin max_j z_j - z_adv, at least 0."""
    if criterion == "cross-entropy":
        return F.cross_entropy(logits, label)
    own = logits.gather(1, label[:, None])[:, 0]
    others = logits.scatter(1, label[:, None], -torch.inf).amax(1)
    return (others - own).clamp(min=0).mean()


def matching_loss(gradients: Sequence[Tensor], goal: Sequence[Tensor]) -> Tensor:
    """1 - cosine between two gradients, each a list of tensors taken as one long vector."""
    product = sum((g * t).sum() for g, t in zip(gradients, goal, strict=True))
    lengths = sum(g.square().sum() for g in gradients), sum(t.square().sum() for t in goal)
    # Both are tensors; sum's start value 0 hides it from the type checker.
    return 1 - torch.as_tensor(product) / (torch.as_tensor(lengths[0]).sqrt() * torch.as_tensor(lengths[1]).sqrt())


@dataclass(frozen=True)
class Matcher:
    """One surrogate and the gradient to match."""

    model: nn.Module
    goal: Gradients
    precision: str = "float32"

    def loss_and_gradient(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Matching loss (scalar) of one batch of inputs (P, C, H, W), and its gradient with respect to them."""
        inputs = inputs.detach().requires_grad_(True)
        weights = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits = self.model(inputs)
        loss = F.cross_entropy(logits.float() if logits.dtype != torch.float64 else logits, labels)
        gradients = torch.autograd.grad(loss, weights, create_graph=True)
        matching = matching_loss(gradients, self.goal)
        (gradient,) = torch.autograd.grad(matching, inputs)
        return matching.detach(), gradient

    def batched_loss_and_gradient(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The same for several restarts at once: inputs (R, P, C, H, W) give losses (R,) and gradients."""
        weights = {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}
        buffers = dict(self.model.named_buffers())

        def poison_loss(weights: dict[str, Tensor], images: Tensor) -> Tensor:
            return F.cross_entropy(functional_call(self.model, {**weights, **buffers}, (images,)), labels)

        def restart_loss(images: Tensor) -> tuple[Tensor, Tensor]:
            gradients = functional_grad(poison_loss)(weights, images)
            loss = matching_loss(list(gradients.values()), self.goal)
            return loss, loss

        gradient, losses = vmap(functional_grad(restart_loss, has_aux=True), randomness="different")(inputs)
        return losses.detach(), gradient.detach()


@dataclass(frozen=True)
class _Crafting:
    """The optimisation of algorithm 1, in normalised pixel space."""

    matchers: list[Matcher]
    images: Tensor
    labels: Tensor
    lower: Tensor
    upper: Tensor
    bound: Tensor
    augmentation: Augmentation
    settings: Settings
    seed: int

    def run(self, progress: bool) -> tuple[Tensor, Tensor]:
        """The best restart's perturbation (P, C, H, W) and all losses (restarts, steps)."""
        settings, best = self.settings, None
        losses = torch.empty(settings.restarts, settings.steps)
        with tqdm(total=settings.restarts * settings.steps, unit="step", disable=not progress) as bar:
            for first in range(0, settings.restarts, settings.restarts_at_once):
                restarts = range(first, min(first + settings.restarts_at_once, settings.restarts))
                deltas = self._optimise(restarts, losses, bar)
                for restart, delta in zip(restarts, deltas, strict=True):
                    if best is None or losses[restart, -1] < losses[best[0], -1]:
                        best = restart, delta
        assert best is not None
        return best[1], losses

    def _optimise(self, restarts: range, losses: Tensor, bar: tqdm[Any]) -> Tensor:
        """Optimise some restarts side by side; (R, P, C, H, W)."""
        settings = self.settings
        delta = torch.stack([self._start(restart) for restart in restarts]).requires_grad_(True)
        count = min(settings.batch_size, len(self.images))
        step = settings.tau * (settings.batch_size / _REFERENCE_BATCH) / len(self.matchers)
        optimizer = torch.optim.Adam([delta], lr=step)
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, step_milestones(settings.steps), 0.1)
        streams = [generator(delta.device, self.seed, "gradient-matching", "augment", restart) for restart in restarts]
        for number in range(settings.steps):
            delta.grad = torch.zeros_like(delta)
            loss = torch.zeros(len(restarts), device=delta.device)
            for first in range(0, len(self.images), count):
                part = slice(first, first + count)
                value, gradient = self._gradient(delta[:, part], part, streams)
                delta.grad[:, part] = gradient
                loss += value * (gradient.shape[1] / len(self.images))
            if not bool(torch.isfinite(loss).all()):
                raise PoisonlabError(
                    f"the matching loss is not finite at step {number}: has the surrogate's training diverged?"
                )
            delta.grad.sign_()
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                delta.copy_(self._project(delta))
            losses[restarts.start : restarts.stop, number] = loss.cpu()
            bar.update(len(restarts))
        return delta.detach()

    def _start(self, restart: int) -> Tensor:
        """A standard normal start of ``eps`` times its value, cut at the bound."""
        stream = generator(self.images.device, self.seed, "gradient-matching", "start", restart)
        start = torch.randn(self.images.shape, generator=stream, device=self.images.device)
        return self._project(start * self.bound)

    def _project(self, delta: Tensor) -> Tensor:
        bounded = torch.maximum(torch.minimum(delta, self.bound), -self.bound)
        return (self.images + bounded).clamp(self.lower, self.upper) - self.images

    def _gradient(self, delta: Tensor, part: slice, streams: list[torch.Generator]) -> tuple[Tensor, Tensor]:
        """Losses (R,) and gradients (R, p, C, H, W) of one batch, averaged over the surrogates."""
        delta = delta.detach().requires_grad_(True)
        augmented = torch.stack(
            [
                augment(self.images[part] + one, self.augmentation, stream)
                for one, stream in zip(delta, streams, strict=True)
            ]
        )
        labels, inputs = self.labels[part], augmented.detach()
        total_loss, total_gradient = torch.zeros(len(delta), device=delta.device), torch.zeros_like(inputs)
        for matcher in self.matchers:
            if len(inputs) > 1:
                loss, gradient = matcher.batched_loss_and_gradient(inputs, labels)
            else:
                loss, gradient = matcher.loss_and_gradient(inputs[0], labels)
                loss, gradient = loss[None], gradient[None]
            total_loss += loss / len(self.matchers)
            total_gradient += gradient / len(self.matchers)
        (back,) = torch.autograd.grad(augmented, delta, total_gradient)
        return total_loss, back
