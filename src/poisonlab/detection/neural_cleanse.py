"""Neural Cleanse: if an unusually small trigger turns all images into one class, the class is a backdoor's target.

Wang et al. 2019, "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks". For every class,
search for a mask m and a pattern p that turn all images x into it (section IV, equations 2 and 3),

    min over m, p of the mean over x of CE(f((1 - m) * x + m * p), class) + cost * ||m||_1

with m and p in (0, 1) as tanh(.) / 2 + 1/2. The cost is raised while the trigger works and lowered while it does not.
Classes whose norm is an outlier on the small side are flagged (section IV). Fine-tuning on stamped images with their
true labels removes the backdoor (section VI.C). Defaults and search follow BackdoorBench, with three differences. The
norm is that of the mask that is kept, not a mean over its epoch. The median of an even number of classes is the mean of
the middle two, not the lower one. A class that no epoch's trigger reached is never flagged, even if its last mask is
small.
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
"""The ratio of standard deviation and median absolute deviation in a normal distribution."""
_BETAS = (0.5, 0.9)
"""Of Adam in the search."""
_RAISED, _LOWERED = 2.0, 2.0**1.5
"""Factor of the cost after ``_PATIENCE`` consecutive epochs with success, and divisor after as many without."""
_PATIENCE = 5
_IMPROVEMENT = 0.99
"""An epoch makes progress if the smallest norm falls below this multiple of the previous one."""
_EARLY_PATIENCE = 25
"""The search ends after this many consecutive epochs without progress, if the cost has been both raised and lowered."""


@dataclass(frozen=True)
class Schedule:
    """The cost and the counts that decide its next value; every epoch makes a new state.

    Attributes:
        cost: weight of the mask's norm.
        successes: consecutive epochs with success since the last change of the cost.
        failures: consecutive epochs without success since the last change of the cost.
        was_raised: whether the cost has ever been raised.
        was_lowered: whether the cost has ever been lowered.
    """

    cost: float
    successes: int = 0
    failures: int = 0
    was_raised: bool = False
    was_lowered: bool = False

    def after(self, succeeded: bool) -> Schedule:
        """The state after one more epoch."""
        successes, failures = (self.successes + 1, 0) if succeeded else (0, self.failures + 1)
        if successes >= _PATIENCE:
            return replace(self, cost=self.cost * _RAISED, successes=0, failures=0, was_raised=True)
        if failures >= _PATIENCE:
            return replace(self, cost=self.cost / _LOWERED, successes=0, failures=0, was_lowered=True)
        return replace(self, successes=successes, failures=failures)


@dataclass(frozen=True)
class Stagnation:
    """The smallest norm and the epochs without progress; every epoch makes a new state.

    Attributes:
        norm: the smallest norm so far; inf before the first epoch with success.
        epochs: consecutive epochs without progress; 0 before the first epoch with success.
    """

    norm: float = math.inf
    epochs: int = 0

    def after(self, smallest: float) -> Stagnation:
        """The state after an epoch that ended with the smallest norm ``smallest``."""
        still = math.isfinite(smallest) and smallest >= _IMPROVEMENT * self.norm
        return Stagnation(min(self.norm, smallest), self.epochs + 1 if still else 0)


@dataclass(frozen=True, eq=False)
class ReversedTrigger:
    """The trigger found for one class; tensors on the CPU.

    Attributes:
        target: the class.
        mask: (1, H, W) float32 in [0, 1], the pattern's opacity; the last epoch's if no epoch succeeded.
        pattern: (C, H, W) float32 in [0, 1].
        norm: sum of the mask.
        reached: whether any epoch succeeded. If none did, the class is never flagged, but its last mask counts among
            the norms, as in both releases.
        success: fraction of the images that the network classifies as ``target`` under this trigger. It can be slightly
            below the setting ``success``, because an epoch counts its successes while the mask still changes.
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
    settings: Settings | None = None,
    *,
    seed: int,
) -> list[ReversedTrigger]:
    """One trigger per class, 0 to ``num_classes`` - 1 in order; arguments as in ``reverse_trigger``."""
    return [reverse_trigger(model, normalize, images, k, settings, seed=seed) for k in range(num_classes)]


@with_gradients()
def reverse_trigger(
    model: nn.Module,
    normalize: Normalize,
    images: Tensor,
    target: int,
    settings: Settings | None = None,
    *,
    seed: int,
) -> ReversedTrigger:
    """The smallest trigger found that turns the images into class ``target``.

    Args:
        model: maps normalised images (B, C, H, W) to logits (B, K); used in eval mode, which is restored afterwards;
            its gradients do not change.
        normalize: on the model's device, where everything is computed.
        images: (N, C, H, W) uint8, or float in [0, 1]: clean images of all classes. Images of the class ``target``
            count, too, as in the releases.
        target: in [0, K).
        settings: epochs, batch size, rate, success and cost of the search; defaults if not given.
        seed: of the batches' order.

    Raises:
        DataError: there are no images.
        PoisonlabError: the mask is not finite.
    """
    if images.ndim != 4 or len(images) == 0:
        raise DataError(f"images of shape {tuple(images.shape)}: a trigger's search needs (N, C, H, W), N at least 1")
    check_images(images)
    settings = settings or Settings()
    images = images.to(normalize.mean.device)
    order = generator("cpu", seed, "neural cleanse", target)
    with evaluating(model):
        mask, pattern, reached = _search(model, normalize, images, target, settings, order)
        success = _success(model, normalize, images, target, settings.batch_size, mask, pattern)
    if not bool(torch.isfinite(mask).all()):
        raise PoisonlabError(
            f"the trigger of class {target} is not finite: lower the search's lr, or check that the network is finite"
        )
    return ReversedTrigger(target, mask.cpu(), pattern.cpu(), float(mask.sum()), reached, success)


def _search(
    model: nn.Module,
    normalize: Normalize,
    images: Tensor,
    target: int,
    settings: Settings,
    order: torch.Generator,
) -> tuple[Tensor, Tensor, bool]:
    """The smallest mask at the end of a successful epoch, else the last mask; its pattern; whether any epoch
    succeeded."""
    channels, height, width = images.shape[1:]
    # The mask's opacity begins at tanh(1) / 2 + 1/2 = 0.88, so nearly the whole image is replaced.
    raw_mask = torch.ones(1, height, width, device=images.device, requires_grad=True)
    raw_pattern = torch.ones(channels, height, width, device=images.device, requires_grad=True)
    optimizer = torch.optim.Adam([raw_mask, raw_pattern], lr=settings.lr, betas=_BETAS)
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
        stagnation = stagnation.after(smallest)
        if schedule.was_raised and schedule.was_lowered and stagnation.epochs >= _EARLY_PATIENCE:
            break
        schedule = schedule.after(succeeded)
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
    """One step of the search; returns how many images of ``batch`` reached the class before the step."""
    mask = _squash(raw_mask)
    logits = model(normalize(stamped(batch, mask, _squash(raw_pattern))))
    wanted = torch.full((len(logits),), target, dtype=torch.int64, device=logits.device)
    loss = F.cross_entropy(logits, wanted) + cost * mask.sum()
    optimizer.zero_grad(set_to_none=True)
    # Only the mask and the pattern are inputs, so the gradients of the network's parameters do not change.
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
    """Fraction of ``images`` that the network classifies as ``target`` under a trigger."""
    reached = 0
    for part in torch.split(images, chunk):
        reached += int((model(normalize(stamped(part, mask, pattern))).argmax(1) == target).sum())
    return reached / len(images)


def outlier_indices(norms: Tensor | Sequence[float]) -> Tensor:
    """The signed anomaly index of each norm: (median - norm) / (1.4826 * MAD).

    Args:
        norms: (K,) finite, at least 0, K >= 3: norms of the classes' reversed triggers.

    Returns:
        (K,) float64; above 2 is an outlier on the small side. If more than half of the norms are equal, the MAD is 0.
        Then smaller norms have index inf, larger ones -inf, and equal ones 0.

    Raises:
        DataError: a norm is negative or not finite.
        SettingsError: there are fewer than 3 classes, so none can be an outlier.
    """
    values = torch.as_tensor(norms, dtype=torch.float64)
    _check_classes(len(values))
    if not bool((values.isfinite() & (values >= 0)).all()):
        raise DataError("the norm of a trigger is negative or not finite")
    below = _median(values) - values
    # 0 / 0 counts as 0.
    return (below / (_CONSISTENCY * _median(below.abs()))).nan_to_num(0.0, math.inf, -math.inf)


def _median(values: Tensor) -> Tensor:
    """The middle value, or the mean of the middle two, of ``values`` (K,)."""
    ordered = values.sort().values
    return (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2


def _check_classes(count: int) -> None:
    if count < 3:
        raise SettingsError(
            f"{count} classes: an outlier among their triggers needs at least 3, so drop neural-cleanse"
        )


def suspects(triggers: Sequence[ReversedTrigger], limit: float = 2.0) -> list[ReversedTrigger]:
    """The triggers, of at least 3 classes, that reach their class and whose norm's outlier index is above ``limit``, in
    the given order."""
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
    batch_size: int = 128,
) -> nn.Module:
    """Unlearn the triggers: fine-tune a copy on clean images, some of them stamped, all with their true labels.

    Section VI.C of the paper, which fine-tunes for one epoch; SGD without augmentation.

    Args:
        model: as in ``reverse_trigger``; not changed. Parameters of the copy that require gradients are trained.
        normalize: on the model's device, where everything is computed.
        images: (N, C, H, W) uint8, or float in [0, 1]: clean images.
        labels: (N,) integers, their true classes.
        triggers: of the flagged classes, each stamped on an equal part of the stamped images. Without triggers the
            copy is returned unchanged.
        seed: of the choice of stamped images, the batches' order and dropout.
        share: fraction of the images to stamp, in [0, 1]; drawn once, rounded to the nearest number of images.
        epochs: passes over the images.
        lr: constant learning rate.
        momentum: of SGD.
        batch_size: images per step.

    Returns:
        The copy, in eval mode.

    Raises:
        DataError: images and labels do not fit.
        SettingsError: an impossible setting.
        PoisonlabError: the loss became NaN or infinite.
    """
    if images.ndim != 4 or len(images) == 0 or labels.shape != images.shape[:1]:
        raise DataError(
            f"labels of shape {tuple(labels.shape)} for images of shape {tuple(images.shape)}: give one label per image"
        )
    if not 0 <= share <= 1 or epochs < 0 or batch_size < 1:
        raise SettingsError(
            f"share {share}, epochs {epochs}, batch_size {batch_size}: share must be in [0, 1], epochs at least 0 and "
            "batch_size at least 1"
        )
    check_images(images)
    repaired = copy.deepcopy(model)
    if triggers:
        device = normalize.mean.device
        inputs = partly_stamped(images.to(device), triggers, share, generator("cpu", seed, "stamped"))
        trained = [parameter for parameter in repaired.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=lr, momentum=momentum)
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
    """``images`` (N, C, H, W) as float32 in [0, 1], a random ``share`` of them stamped with ``triggers`` in turn."""
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
    """Take one step on each of ``batches``, rows of ``inputs``."""
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
    """Search for a trigger of every class and unlearn those of flagged classes; if there are none, nothing changes.

    Raises:
        SettingsError: fewer than 3 classes.
    """
    _check_classes(clean.num_classes)
    with memory_for(f"a search on batches of {settings.batch_size} images", "lower the detector's batch_size"):
        triggers = reverse_triggers(network, normalize, clean.images, clean.num_classes, settings, seed=seed)
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
