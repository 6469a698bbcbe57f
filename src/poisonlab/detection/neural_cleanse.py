"""Neural Cleanse: a class that an unusually small trigger reaches from everywhere is the target of a backdoor.

Wang et al. 2019, "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks". For every class a
mask m and a pattern p are sought that turn all images x into it (section IV, equations 2 and 3),

    min over m, p of the mean over x of CE(f((1 - m) * x + m * p), class) + cost * ||m||_1

with m and p in (0, 1) as tanh(.) / 2 + 1/2. The cost is raised while the trigger works and lowered while it does not.
Classes whose norm is an outlier on the small side are flagged (section IV); fine-tuning on stamped images with their
true labels removes the backdoor (section VI.C). Defaults are those of BackdoorBench, whose version of the search this
follows but for three things: the norm is that of the very mask that is kept, not a mean over the epoch that led to it;
the median of an even number of classes is the mean of the middle two, not the lower one; and a class that no epoch's
trigger reached is not flagged, however small its last mask.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.config.detection.neural_cleanse import NeuralCleanse as Settings
from poisonlab.data.image_range import check_images
from poisonlab.data.training_set import pixels
from poisonlab.detection.deployment import CleanImages, Deployment
from poisonlab.errors import DataError, PoisonlabError, SettingsError
from poisonlab.models.chunks import memory_for
from poisonlab.models.classifier import Normalize
from poisonlab.models.evaluating import evaluating
from poisonlab.models.surroundings import random_streams_kept, with_gradients
from poisonlab.randomness import generator, stream_seed

_CONSISTENCY = 1.4826
"""Makes the median absolute deviation of a normal distribution its standard deviation."""


@dataclass(frozen=True)
class Reversal:
    """How a trigger is sought.

    Attributes:
        epochs: at most, of passes over the images.
        batch_size: images per step.
        lr: of Adam.
        betas: of Adam.
        success: fraction of the images that must reach the class for a trigger to count.
        initial_cost: weight of the mask's norm at the beginning.
        raised: factor of the cost after ``patience`` epochs on end with success.
        lowered: divisor of the cost after as many without.
        patience: see ``raised``.
        improvement: a smallest norm that is not below this multiple of the one an epoch before is no progress.
        early_patience: epochs on end without progress after which the search ends, if the cost has been both raised
            and lowered by then.
    """

    epochs: int = 80
    batch_size: int = 128
    lr: float = 0.1
    betas: tuple[float, float] = (0.5, 0.9)
    success: float = 0.98
    initial_cost: float = 1e-3
    raised: float = 2.0
    lowered: float = 2.0**1.5
    patience: int = 5
    improvement: float = 0.99
    early_patience: int = 25

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.patience, self.early_patience) < 1:
            raise SettingsError("epochs, batch size and both patiences of a trigger's search must be at least 1")
        if not 0 < self.success <= 1:
            raise SettingsError(f"a success of {self.success} to reach: give one above 0 and at most 1")


@dataclass(frozen=True)
class Schedule:
    """The cost and what decides its next value: a state, of which every epoch makes a new one.

    Attributes:
        cost: weight of the mask's norm.
        successes: epochs with success on end since the cost last changed or an epoch failed.
        failures: likewise without.
        was_raised: whether the cost ever was.
        was_lowered: likewise.
    """

    cost: float
    successes: int = 0
    failures: int = 0
    was_raised: bool = False
    was_lowered: bool = False

    def after(self, succeeded: bool, settings: Reversal) -> Schedule:
        """The state after one more epoch."""
        successes, failures = (self.successes + 1, 0) if succeeded else (0, self.failures + 1)
        if successes >= settings.patience:
            return replace(self, cost=self.cost * settings.raised, successes=0, failures=0, was_raised=True)
        if failures >= settings.patience:
            return replace(self, cost=self.cost / settings.lowered, successes=0, failures=0, was_lowered=True)
        return replace(self, successes=successes, failures=failures)


@dataclass(frozen=True)
class Stagnation:
    """How long the smallest norm has not shrunk: a state, of which every epoch makes a new one.

    Attributes:
        norm: the smallest so far; inf if none counted yet.
        epochs: on end without progress; 0 as long as none counted.
    """

    norm: float = math.inf
    epochs: int = 0

    def after(self, smallest: float, settings: Reversal) -> Stagnation:
        """The state after an epoch by the end of which the smallest norm is ``smallest``."""
        still = math.isfinite(smallest) and smallest >= settings.improvement * self.norm
        return Stagnation(min(self.norm, smallest), self.epochs + 1 if still else 0)


@dataclass(frozen=True, eq=False)
class ReversedTrigger:
    """What was found for one class; tensors on the CPU.

    Attributes:
        target: the class.
        mask: (1, H, W) float32 in [0, 1], the pattern's opacity. If no epoch succeeded, the last one's.
        pattern: (C, H, W) float32 in [0, 1].
        norm: sum of the mask.
        reached: whether any epoch succeeded. Otherwise the trigger that the class needs was not found, and the class is
            never flagged; its last mask counts among the norms, as in both releases.
        success: fraction of the images that the network puts into the class under this trigger. It can lie a little
            below what an epoch's success asked for, which is counted while the mask still changes.
    """

    target: int
    mask: Tensor
    pattern: Tensor
    norm: float
    reached: bool
    success: float

    def stamp(self, images: Tensor) -> Tensor:
        """``images`` (N, C, H, W) uint8, or float in [0, 1], under the trigger: float32 in [0, 1], on their device."""
        check_images(images)
        return stamped(images, self.mask.to(images.device), self.pattern.to(images.device))


def stamped(images: Tensor, mask: Tensor, pattern: Tensor) -> Tensor:
    """(1 - mask) * images + mask * pattern as float32, for images (N, C, H, W), mask (1, H, W), pattern (C, H, W)."""
    return (1 - mask) * pixels(images) + mask * pattern


def reverse_triggers(
    model: nn.Module,
    normalize: Normalize,
    images: Tensor,
    num_classes: int,
    settings: Reversal | None = None,
    *,
    seed: int,
) -> list[ReversedTrigger]:
    """One trigger per class, 0 to ``num_classes`` - 1 in order; arguments as of ``reverse_trigger``."""
    return [reverse_trigger(model, normalize, images, k, settings, seed=seed) for k in range(num_classes)]


@with_gradients()
def reverse_trigger(
    model: nn.Module,
    normalize: Normalize,
    images: Tensor,
    target: int,
    settings: Reversal | None = None,
    *,
    seed: int,
) -> ReversedTrigger:
    """The smallest trigger found that turns the images into class ``target``.

    Args:
        model: maps normalised images (B, C, H, W) to logits (B, K); used in eval mode and handed back in its own,
            without gradients.
        normalize: its device, which is the model's, is used throughout.
        images: (N, C, H, W) uint8, or float in [0, 1]: clean ones of all classes. Those of the target's own count as
            well, as in the releases.
        target: in [0, K).
        settings: defaults if not given.
        seed: of the batches' order.

    Raises:
        DataError: there are no images.
        PoisonlabError: the mask is not finite.
    """
    if images.ndim != 4 or len(images) == 0:
        raise DataError(f"images of shape {tuple(images.shape)}: a trigger's search needs (N, C, H, W), N at least 1")
    check_images(images)
    settings = settings or Reversal()
    images = images.to(normalize.mean.device)
    order = generator("cpu", seed, "neural cleanse", target)
    with evaluating(model):
        mask, pattern, reached = _search(model, normalize, images, target, settings, order)
        success = _success(model, normalize, images, target, settings.batch_size, mask, pattern)
    if not bool(torch.isfinite(mask).all()):
        raise PoisonlabError(
            f"the trigger of class {target} is not finite: is the network? If so, lower the search's lr"
        )
    return ReversedTrigger(target, mask.cpu(), pattern.cpu(), float(mask.sum()), reached, success)


def _search(
    model: nn.Module,
    normalize: Normalize,
    images: Tensor,
    target: int,
    settings: Reversal,
    order: torch.Generator,
) -> tuple[Tensor, Tensor, bool]:
    """The smallest mask that an epoch with success ended on, else the last one; its pattern; whether any succeeded."""
    channels, height, width = images.shape[1:]
    # The mask's opacity begins at tanh(1) / 2 + 1/2 = 0.88, so nearly everything of an image is replaced.
    raw_mask = torch.ones(1, height, width, device=images.device, requires_grad=True)
    raw_pattern = torch.ones(channels, height, width, device=images.device, requires_grad=True)
    optimizer = torch.optim.Adam([raw_mask, raw_pattern], lr=settings.lr, betas=settings.betas)
    schedule, stagnation = Schedule(settings.initial_cost), Stagnation()
    best: tuple[Tensor, Tensor] | None = None
    smallest = math.inf
    for _ in range(settings.epochs):
        reached = 0
        for rows in torch.split(torch.randperm(len(images), generator=order), settings.batch_size):
            batch = images[rows.to(images.device)]
            reached += _step(model, normalize, batch, target, schedule.cost, raw_mask, raw_pattern, optimizer)
        succeeded = reached / len(images) >= settings.success
        mask, pattern = _squash(raw_mask.detach()), _squash(raw_pattern.detach())
        if succeeded and float(mask.sum()) < smallest:
            best, smallest = (mask, pattern), float(mask.sum())
        stagnation = stagnation.after(smallest, settings)
        if schedule.was_raised and schedule.was_lowered and stagnation.epochs >= settings.early_patience:
            break
        schedule = schedule.after(succeeded, settings)
    return (*(best or (mask, pattern)), best is not None)


def _step(
    model: nn.Module,
    normalize: Normalize,
    batch: Tensor,
    target: int,
    cost: float,
    raw_mask: Tensor,
    raw_pattern: Tensor,
    optimizer: torch.optim.Optimizer,
) -> int:
    """One step of the search; returns how many images of the ``batch`` were in the class before it."""
    mask = _squash(raw_mask)
    logits = model(normalize(stamped(batch, mask, _squash(raw_pattern))))
    wanted = torch.full((len(logits),), target, dtype=torch.int64, device=logits.device)
    loss = F.cross_entropy(logits, wanted) + cost * mask.sum()
    optimizer.zero_grad(set_to_none=True)
    # The network's parameters are no inputs here, so their gradients stay as they are.
    loss.backward(inputs=[raw_mask, raw_pattern])  # type: ignore[no-untyped-call]
    optimizer.step()
    return int((logits.argmax(1) == target).sum())


def _squash(raw: Tensor) -> Tensor:
    return raw.tanh() / 2 + 0.5


@torch.no_grad()
def _success(
    model: nn.Module,
    normalize: Normalize,
    images: Tensor,
    target: int,
    chunk: int,
    mask: Tensor,
    pattern: Tensor,
) -> float:
    """Fraction of ``images`` that the network puts into ``target`` under a trigger."""
    reached = 0
    for part in torch.split(images, chunk):
        reached += int((model(normalize(stamped(part, mask, pattern))).argmax(1) == target).sum())
    return reached / len(images)


def outlier_indices(norms: Tensor | Sequence[float]) -> Tensor:
    """How far each norm lies below the median: (median - norm) / (1.4826 * MAD), the anomaly index with a sign.

    Args:
        norms: (K,) finite, at least 0, K >= 3: of the classes' reversed triggers.

    Returns:
        (K,) float64; above 2 is an outlier on the small side. Where more than half of the norms are equal the MAD is 0,
        and every smaller norm has index inf, every larger one -inf and an equal one 0.

    Raises:
        DataError: a norm is negative or not finite.
        SettingsError: fewer than 3 classes; of two, neither can be an outlier.
    """
    values = torch.as_tensor(norms, dtype=torch.float64)
    _check_classes(len(values))
    if not bool((values.isfinite() & (values >= 0)).all()):
        raise DataError("the norm of a trigger is negative or not finite")
    below = _median(values) - values
    # 0 / 0 counts as 0.
    return (below / (_CONSISTENCY * _median(below.abs()))).nan_to_num(0.0, math.inf, -math.inf)


def _median(values: Tensor) -> Tensor:
    """The middle one, or the mean of the middle two, of ``values`` (K,)."""
    ordered = values.sort().values
    return (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2


def _check_classes(count: int) -> None:
    if count < 3:
        raise SettingsError(
            f"{count} classes: an outlier among their triggers needs at least 3, so drop neural-cleanse"
        )


def suspects(triggers: Sequence[ReversedTrigger], limit: float = 2.0) -> list[ReversedTrigger]:
    """The triggers, of at least 3 classes, that reach theirs with a norm whose outlier index is above ``limit``, in the
    order given."""
    indices = outlier_indices([trigger.norm for trigger in triggers]).tolist()
    return [trigger for trigger, index in zip(triggers, indices, strict=True) if trigger.reached and index > limit]


@with_gradients()
def repair(
    model: nn.Module,
    normalize: Normalize,
    images: Tensor,
    labels: Tensor,
    triggers: Sequence[ReversedTrigger],
    *,
    seed: int,
    share: float = 0.2,
    epochs: int = 1,
    lr: float = 0.01,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    batch_size: int = 128,
) -> nn.Module:
    """Unlearn the triggers: fine-tune a copy on clean images of which some are stamped, all with their true labels.

    Section VI.C of the paper, which fine-tunes for one epoch; SGD without augmentation.

    Args:
        model: as of ``reverse_trigger``; left as it is. Of the copy, parameters that require gradients are trained.
        normalize: its device, which is the model's, is used throughout.
        images: (N, C, H, W) uint8, or float in [0, 1]: clean ones.
        labels: (N,) integers, their true classes.
        triggers: of the flagged classes; the stamped images are dealt out among them evenly. If there are none the
            copy is returned as it is.
        seed: of which images are stamped, the batches' order and dropout.
        share: fraction of the images to stamp, in [0, 1]; drawn once, rounded to the nearest number of images.
        epochs: passes over the images.
        lr: constant.
        momentum: of SGD.
        weight_decay: on all parameters.
        batch_size: images per step.

    Returns:
        The copy, in eval mode.

    Raises:
        DataError: images and labels do not fit.
        SettingsError: an impossible setting.
        PoisonlabError: the loss became NaN or infinite.
    """
    if images.ndim != 4 or len(images) == 0 or labels.shape != images.shape[:1]:
        raise DataError(f"labels of shape {tuple(labels.shape)} for images of shape {tuple(images.shape)}")
    if not 0 <= share <= 1 or epochs < 0 or batch_size < 1:
        raise SettingsError(
            f"a share of {share}, {epochs} epochs, batches of {batch_size}: the share must lie in [0, 1], the epochs "
            "be 0 or more and the batches at least of 1"
        )
    check_images(images)
    repaired = copy.deepcopy(model)
    if triggers:
        device = normalize.mean.device
        inputs = partly_stamped(images.to(device), triggers, share, generator("cpu", seed, "stamped"))
        trained = [parameter for parameter in repaired.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=lr, momentum=momentum, weight_decay=weight_decay)
        with random_streams_kept(device):
            torch.manual_seed(stream_seed(seed, "dropout"))
            for epoch in range(epochs):
                order = torch.randperm(len(inputs), generator=generator("cpu", seed, "order", epoch)).to(device)
                _fine_tune(
                    repaired.train(),
                    normalize,
                    inputs,
                    labels.to(device).long(),
                    torch.split(order, batch_size),
                    optimizer,
                )
    return repaired.eval()


def partly_stamped(
    images: Tensor, triggers: Sequence[ReversedTrigger], share: float, stream: torch.Generator
) -> Tensor:
    """``images`` (N, C, H, W) as float32 in [0, 1], a random ``share`` stamped, dealt out among ``triggers``."""
    chosen = torch.randperm(len(images), generator=stream)[: round(share * len(images))].to(images.device)
    result = pixels(images).clone()
    for place, trigger in enumerate(triggers):
        rows = chosen[place :: len(triggers)]
        result[rows] = trigger.stamp(result[rows])
    return result


def _fine_tune(
    model: nn.Module,
    normalize: Normalize,
    inputs: Tensor,
    labels: Tensor,
    batches: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """One step on each of ``batches`` of rows."""
    total = torch.zeros((), device=inputs.device)
    for rows in batches:
        loss = F.cross_entropy(model(normalize(inputs[rows])), labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.detach()
    if not math.isfinite(total.item()):
        raise PoisonlabError("the repair diverged: its loss is not finite; lower its lr")


def deploy(
    settings: Settings, network: nn.Module, normalize: Normalize, clean: CleanImages, *, seed: int
) -> Deployment:
    """Search a trigger for every class and unlearn those of flagged classes; no class flagged changes nothing.

    Raises:
        SettingsError: fewer than 3 classes.
    """
    _check_classes(clean.num_classes)
    search = Reversal(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        lr=settings.lr,
        success=settings.success,
        initial_cost=settings.initial_cost,
    )
    with memory_for(f"a search on batches of {settings.batch_size} images", "lower the detector's batch_size"):
        triggers = reverse_triggers(network, normalize, clean.images, clean.num_classes, search, seed=seed)
    norms = torch.tensor([trigger.norm for trigger in triggers], dtype=torch.float64)
    found = suspects(triggers, settings.limit)
    repaired = repair(
        network,
        normalize,
        clean.images,
        clean.labels,
        found,
        seed=seed,
        share=settings.repair_share,
        epochs=settings.repair_epochs,
        lr=settings.repair_lr,
        momentum=settings.repair_momentum,
        batch_size=settings.batch_size,
    )
    return Deployment(
        repaired,
        tensors={
            "masks": torch.stack([trigger.mask for trigger in triggers]),
            "patterns": torch.stack([trigger.pattern for trigger in triggers]),
            "norms": norms,
            "reached": torch.tensor([trigger.reached for trigger in triggers]),
            "outlier_indices": outlier_indices(norms),
        },
        facts={"flagged_classes": [float(trigger.target) for trigger in found]},
    )
