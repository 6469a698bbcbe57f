"""Poisons that move in feature space: the loop of Poison Frogs, convex polytope and Bullseye Polytope.

Perturb base images of the adversarial class so that their penultimate features in trained surrogates approach the
target's:

    minimise over |x - b| <= eps, 0 <= x <= 1   mean over surrogates of distance(phi(x), phi(t))

by Adam, cutting back to the bound after every step (Aghakhani et al. 2021, section IV; Zhu et al. 2019, algorithm 1).
A step of lr moves a pixel by about lr of the range or, with ``space: normalised``, by lr standard deviations of its
channel. The three attacks differ in the distance. With ``blocks`` the distance is a mean over the features of several
blocks and the penultimate ones. The authors of the latter two attacks do so against fine-tuning end to end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.shipping import ship
from poisonlab.attacks.threat import choose_threat
from poisonlab.attacks.unseen_targets import unseen_threat
from poisonlab.config.attacks.features import FeatureAttack
from poisonlab.data.augmentation import augment
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import pixels
from poisonlab.errors import PoisonlabError, SettingsError
from poisonlab.models.blocks import features_on_the_way
from poisonlab.models.chunks import memory_for
from poisonlab.models.classifier import Classifier
from poisonlab.models.evaluating import fixed
from poisonlab.randomness import generator, stream_seed
from poisonlab.training.checkpoint import optimizer_state, restore_optimizer
from poisonlab.training.schedule import crafting_rate

# One stream for all three attacks, so that equal objectives make the same poisons from the same seed.
_STREAM = "features"
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)

Distance = Callable[[Tensor], Tensor]
"""Maps the poisons' features in one surrogate, (P, D) or a block's (P, C, H, W), to a scalar; differentiable."""


@runtime_checkable
class Remembering(Protocol):
    """A distance whose call starts from the result of the last call, ``remembered`` (any shape, float64; None at
    first)."""

    remembered: Tensor | None


Blocks = int | Literal["all"]
"""The number of blocks before the last one that count; see ``features_on_the_way``."""

Measure = Callable[[Tensor], Distance]
"""Maps the target's features in one surrogate, (D,) or a block's (C, H, W), to the distance from them; called once for
every surrogate and block."""


def craft_in_features(
    dataset: ImageDataset,
    attacker: Attacker,
    settings: FeatureAttack,
    measure: Measure,
    *,
    seed: int,
    beta: float = 0.0,
    progress: bool = False,
) -> PoisonSet:
    """Craft poisons for the target and bases that ``seed`` draws; they replace their bases.

    Args:
        dataset: clean data.
        attacker: surrogates and how they were trained.
        settings: budget, bound, steps.
        measure: makes the distance to minimise.
        seed: of the threat, the random start, the augmentation and the dropout.
        beta: weight of the mean squared distance of a poison to its (watermarked) base, in [0, 1] pixel units.
        progress: show a progress bar.

    Returns:
        The poisons. ``diagnostics["feature_loss"]`` is (steps,) float32, the mean distance before each step, without
        the ``beta`` term. ``facts["final_distance"]`` is the distance of the images as shipped, unaugmented and without
        dropout, to 6 significant digits. ``facts["target_index"]`` is the target's row of the test split; with
        ``settings.unseen_target``, ``facts["target_training_row"]`` is its row of the training split.

    Raises:
        SettingsError: the budget exceeds the adversarial class, no test image can be the target, or a surrogate has
            fewer blocks.
        PoisonlabError: features or loss are not finite, or the target's features are zero and the distance is relative.
    """
    unseen = settings.unseen_target
    if unseen is None:
        threat = choose_threat(dataset, attacker, settings, seed)
    else:
        threat = unseen_threat(dataset, attacker, unseen, settings.budget, seed)
    goal = threat.goal(dataset)
    bases, target = dataset.train_images[threat.base_indices], goal.targets
    change, losses = _Crafting(attacker, settings, measure, bases, target, seed, beta).run(progress)
    images = ship(bases, change, settings.eps, settings.precision)
    distance = feature_distance(attacker, images, target, measure, settings.blocks)
    return PoisonSet(
        indices=threat.base_indices,
        images=images,
        labels=dataset.train_labels[threat.base_indices],
        base_images=bases,
        goal=goal,
        diagnostics={"feature_loss": losses},
        facts={
            "target_index" if unseen is None else "target_training_row": threat.target_index,
            "final_distance": float(f"{distance:.6g}"),
        },
    )


def mean_square(goal: Tensor) -> Distance:
    """Mean over feature dimensions of the squared difference between the poisons' mean and ``goal``."""
    return lambda features: (features.mean(0) - goal).square().mean()


def length(goal: Tensor) -> Tensor:
    """The length (scalar) of the target's features, of any shape, by which distances are divided.

    Raises:
        PoisonlabError: the length is zero.
    """
    norm: Tensor = torch.linalg.vector_norm(goal)
    if not bool(norm > 0):
        raise PoisonlabError(
            "the target's features are all zero in a surrogate, so no distance relative to them exists: train the "
            "surrogates better, leave out this seed, or use Bullseye Polytope with distance: mean-square"
        )
    return norm


def within(images: Tensor, bases: Tensor, bound: float) -> Tensor:
    """``images`` cut to ``bound`` around ``bases`` and to [0, 1]; all (P, C, H, W) or broadcast to it."""
    return torch.minimum(torch.maximum(images, bases - bound), bases + bound).clamp(0, 1)


def watermarked(bases: Tensor, target: Tensor, opacity: float, bound: float) -> Tensor:
    """Bases (P, C, H, W) in [0, 1] overlaid with a faint target (1, C, H, W), changed by at most ``bound``.

    Poison Frogs (Shafahi et al. 2018), section 4.1: opacity * t + (1 - opacity) * b.
    """
    return within(bases + opacity * (target - bases), bases, bound)


@contextmanager
def frozen(networks: Sequence[nn.Module], dropout: bool = False) -> Iterator[None]:
    """Within the block, the networks are in eval mode and their weights get no gradient; afterwards both are restored.

    Args:
        dropout: keep the dropout layers, and only these, in train mode.
    """
    with ExitStack() as states:
        for network in networks:
            states.enter_context(fixed(network))
            for module in network.modules():
                if dropout and isinstance(module, _DROPOUTS):
                    module.train()
        yield


def _have_dropout(networks: Sequence[nn.Module]) -> bool:
    return any(isinstance(module, _DROPOUTS) and module.p > 0 for network in networks for module in network.modules())


def feature_distance(attacker: Attacker, images: Tensor, target: Tensor, measure: Measure, blocks: Blocks = 0) -> float:
    """Mean over surrogates, and ``blocks``, of the distance of ``images`` to ``target``, unaugmented, in eval mode.

    Args:
        images: (P, C, H, W) uint8, or float in [0, 1].
        target: (1, C, H, W) uint8, or float in [0, 1].
    """
    inputs = attacker.normalize(pixels(images.to(attacker.device)))
    with frozen(attacker.surrogates), torch.no_grad():
        aims = aims_of(attacker, target, measure, blocks)
        return sum(float(aim.distance(inputs)) for aim in aims) / len(aims)


def features_of(network: Classifier, inputs: Tensor, blocks: Blocks = 0) -> list[Tensor]:
    """Features (B, ...) of normalised images (B, C, H, W): those of ``blocks``, then the penultimate ones.

    Raises:
        SettingsError: the network has fewer blocks, or does not say which part gives its features.
        PoisonlabError: a feature is not finite.
    """
    if not isinstance(getattr(network, "extract", None), nn.Module):
        raise SettingsError(
            f"a surrogate ({type(network).__name__}) does not say which part gives its features: wrap it, "
            "poisonlab.wrap(network, head=<name of its last layer>)"
        )
    features = features_on_the_way(network, inputs, blocks)
    if not all(bool(torch.isfinite(part).all()) for part in features):
        raise PoisonlabError("a surrogate's features are not finite: has its training diverged?")
    return features


@dataclass(frozen=True)
class Aim:
    """One surrogate with its distances to the target: in the features of ``blocks``, then in the penultimate ones."""

    network: Classifier
    distances: Sequence[Distance]
    blocks: Blocks = 0

    def distance(self, inputs: Tensor) -> Tensor:
        """Mean distance (scalar) of the normalised images ``inputs`` (P, C, H, W)."""
        features = features_of(self.network, inputs, self.blocks)
        each = [distance(part) for distance, part in zip(self.distances, features, strict=True)]
        return torch.stack(each).mean()

    def loss_and_gradient(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean distance (scalar) of the normalised images ``inputs`` (P, C, H, W), and its gradient."""
        inputs = inputs.detach().requires_grad_(True)
        loss = self.distance(inputs)
        (gradient,) = torch.autograd.grad(loss, inputs)
        return loss.detach(), gradient


def aims_of(attacker: Attacker, target: Tensor, measure: Measure, blocks: Blocks = 0) -> list[Aim]:
    """One ``Aim`` per surrogate at the unaugmented target (1, C, H, W).

    Raises:
        SettingsError: a surrogate has fewer blocks.
        PoisonlabError: the target's features are not finite, or they are zero and the distance is relative.
    """
    inputs = attacker.normalize(pixels(target.to(attacker.device)))
    with torch.no_grad():
        features = [features_of(network, inputs, blocks) for network in attacker.surrogates]
    return [
        Aim(network, [measure(goal[0]) for goal in goals], blocks)
        for network, goals in zip(attacker.surrogates, features, strict=True)
    ]


@dataclass(frozen=True)
class _Crafting:
    """The optimisation; ``bases`` (P, C, H, W) and ``target`` (1, C, H, W) are uint8."""

    attacker: Attacker
    settings: FeatureAttack
    measure: Measure
    bases: Tensor
    target: Tensor
    seed: int
    beta: float

    def run(self, progress: bool) -> tuple[Tensor, Tensor]:
        """The perturbation (P, C, H, W) in levels of 1/255 and the losses (steps,) float32, both on the CPU."""
        settings, device = self.settings, self.attacker.device
        if settings.dropout and not _have_dropout(self.attacker.surrogates):
            raise SettingsError(
                "dropout is true, but no surrogate has a dropout layer: give its model a dropout, or leave it out"
            )
        bases, target, bound = pixels(self.bases.to(device)), pixels(self.target.to(device)), settings.eps / 255
        origin = watermarked(bases, target, settings.watermark, bound)
        # Adam steps in pixels divided by ``unit``.
        unit = self._unit
        poisons = (within(self._start(origin), bases, bound) / unit).requires_grad_(True)
        optimizer = torch.optim.Adam([poisons], lr=settings.lr)
        stream, losses = generator(device, self.seed, _STREAM, "augment"), torch.full((settings.steps,), torch.nan)
        checkpoint = self.attacker.checkpoint
        with frozen(self.attacker.surrogates, settings.dropout):
            self._seed_dropout("target")
            aims = aims_of(self.attacker, self.target, self.measure, settings.blocks)
            begun = 0
            if checkpoint is not None and (saved := checkpoint.load()) is not None:
                begun = _restore(saved, poisons, optimizer, stream, losses, aims)
            steps = range(begun, settings.steps)
            for number in tqdm(steps, initial=begun, total=settings.steps, unit="step", disable=not progress):
                self._seed_dropout(number)
                with memory_for(f"features of all {len(poisons)} poisons at once", "lower the attack's budget"):
                    losses[number], poisons.grad = self._loss_and_gradient(poisons, origin, aims, stream)
                if not bool(torch.isfinite(losses[number])):
                    raise PoisonlabError(
                        f"the feature loss is not finite at step {number}: has a surrogate's training diverged?"
                    )
                if settings.optimizer == "signed-adam":
                    poisons.grad.sign_()
                    optimizer.param_groups[0]["lr"] = crafting_rate(settings.lr, number, settings.steps)
                optimizer.step()
                with torch.no_grad():
                    poisons.copy_(within(poisons * unit, bases, bound) / unit)
                if checkpoint is not None and checkpoint.due():
                    checkpoint.save(_state(poisons, optimizer, stream, losses, aims), {"steps": number + 1})
        return ((poisons.detach() * unit - bases) * 255).cpu(), losses

    @property
    def _unit(self) -> Tensor:
        """(1, C, 1, 1): the length of a step of 1, in units of the [0, 1] pixel range."""
        std = self.attacker.normalize.std
        return std if self.settings.space == "normalised" else torch.ones_like(std)

    def _start(self, origin: Tensor) -> Tensor:
        """The bases, alone or with Gaussian noise of standard deviation ``eps``; the caller cuts it at the bound."""
        if self.settings.start == "base":
            return origin
        stream = generator(origin.device, self.seed, _STREAM, "start")
        noise = torch.randn(origin.shape, generator=stream, device=origin.device)
        return origin + noise * (self.settings.eps / 255)

    def _seed_dropout(self, purpose: str | int) -> None:
        # Dropout layers draw from torch's global stream and take no generator.
        if self.settings.dropout:
            torch.manual_seed(stream_seed(self.seed, _STREAM, "dropout", purpose))

    def _loss_and_gradient(
        self, poisons: Tensor, origin: Tensor, aims: Sequence[Aim], stream: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Mean distance (scalar) over the surrogates, and the whole objective's gradient at ``poisons``, in units."""
        poisons = poisons.detach().requires_grad_(True)
        images = poisons * self._unit
        inputs = self.attacker.normalize(images)
        if self.settings.augment:
            inputs = augment(inputs, self.attacker.augmentation, stream, self.attacker.normalize.black)
        loss, gradient = torch.zeros((), device=poisons.device), torch.zeros_like(inputs)
        # One surrogate after another, so that memory holds the activations of one at a time.
        for aim in aims:
            one, toward = aim.loss_and_gradient(inputs)
            loss += one / len(aims)
            gradient += toward / len(aims)
        (back,) = torch.autograd.grad(inputs, poisons, gradient)
        if self.beta:
            back = back + 2 * self.beta / len(poisons) * (images.detach() - origin) * self._unit
        return loss, back


def _state(
    poisons: Tensor,
    optimizer: torch.optim.Optimizer,
    stream: torch.Generator,
    losses: Tensor,
    aims: Sequence[Aim],
) -> dict[str, Tensor]:
    tensors = {"poisons": poisons, "stream": stream.get_state(), "losses": losses, **optimizer_state(optimizer)}
    for place, distance in enumerate(_distances(aims)):
        if isinstance(distance, Remembering) and distance.remembered is not None:
            tensors[f"remembered.{place}"] = distance.remembered
    return tensors


def _restore(
    saved: tuple[dict[str, Tensor], dict[str, Any]],
    poisons: Tensor,
    optimizer: torch.optim.Optimizer,
    stream: torch.Generator,
    losses: Tensor,
    aims: Sequence[Aim],
) -> int:
    """Restore what ``_state`` saved; returns the number of steps done."""
    tensors, facts = saved
    with torch.no_grad():
        poisons.copy_(tensors["poisons"])
    losses.copy_(tensors["losses"])
    stream.set_state(tensors["stream"])
    restore_optimizer(optimizer, tensors)
    for place, distance in enumerate(_distances(aims)):
        if isinstance(distance, Remembering):
            distance.remembered = tensors.get(f"remembered.{place}")
    return int(facts["steps"])


def _distances(aims: Sequence[Aim]) -> list[Distance]:
    return [distance for aim in aims for distance in aim.distances]
