"""Strong augmentation: mixup, CutMix or cutout of each batch, and maxup on top of any of them.

Borgnia et al. 2021, "Strong data augmentation sanitizes poisoning and backdoor attacks without an accuracy tradeoff",
with the parameters of the toolbox of Witches' Brew. FRIENDS' table 2 has a row of this name, from the same authors'
"DP-InstaHide", and does not say which of these augmentations it is. All act on normalised, augmented images x_i with
labels y_i, and draw once per batch:

    mixup    sum_j w_j x_p_j(i), labels sum_j w_j y_p_j(i);  w ~ Dirichlet(alpha), p_1 the identity, the other p_j
             random permutations (Zhang et al. 2018)
    cutmix   in half of the batches a box of x_p(i) in x_i, labels in proportion to the visible pixels; the box has a
             share ~ Beta(alpha, alpha) of the area (Yun et al. 2019)
    cutout   0, the mean colour, in a box of a share 1 - 0.66 alpha of the area; labels unchanged (DeVries and Taylor
             2017)
    maxup    the mean over i of the largest loss of several such versions of x_i (Gong et al. 2020)

A box is centred on a uniformly drawn pixel and cut off at the border. Its sides are the image's times the root of its
share, rounded down (in the release to an even number).

The release also permutes p_1. This only reorders the batch, but then the copies of maxup have no image in common. The
release never takes a maximum: its maxup fails for mixup and CutMix, and is the mean for cutout. Before maxup begins, it
leaves images unchanged; here they are mixed from the first epoch on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.config.defenses.strong_augmentation import CUTOUT
from poisonlab.config.defenses.strong_augmentation import StrongAugmentation as Settings
from poisonlab.defenses.signed_adam import uncompiled
from poisonlab.models.classifier import Classifier
from poisonlab.models.evaluating import evaluating
from poisonlab.training.defense import Batch, Defense


@dataclass(frozen=True)
class StrongAugmentation(Defense):
    """Mix or cut every batch, and train on the worst copy of each image if there are several."""

    settings: Settings

    @property
    def captured(self) -> bool:
        return True

    def change_inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Copies (copies * B, C, H, W), one whole batch after the other, and their labels. Mixup and CutMix return
        labels as probabilities (copies * B, K) of the images' type; cutout keeps the labels' type."""
        labels = batch.labels if self.settings.kind == "cutout" else probabilities(batch)
        copies = [self._copy(batch.images, labels, batch.generator) for _ in range(self._copies(batch.epoch))]
        images, mixed = zip(*copies, strict=True)
        return torch.cat(images), torch.cat(mixed)

    def loss(self, logits: Tensor, labels: Tensor, epoch: int) -> Tensor | None:
        if (copies := self._copies(epoch)) == 1:
            return None
        losses = F.cross_entropy(logits, labels, reduction="none")
        return losses.view(copies, -1).max(0).values.mean()

    def _copies(self, epoch: int) -> int:
        return self.settings.copies if epoch >= self.settings.warmup_epochs else 1

    def _copy(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        alpha = self.settings.alpha
        if self.settings.kind == "mixup":
            return mixup(images, labels, dirichlet(alpha, self.settings.ways, generator), generator)
        if self.settings.kind == "cutmix":
            active = torch.rand((), generator=generator, device=generator.device) < 0.5
            return cutmix(images, labels, dirichlet(alpha, 2, generator)[0] * active, generator)
        share = torch.full((), 1 - CUTOUT * alpha, dtype=torch.float64, device=images.device)
        return images.masked_fill(box(images, share, generator), 0), labels


def mixup(images: Tensor, labels: Tensor, weights: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weighted sums of each image and random other images of its batch.

    Args:
        images: (B, C, H, W) float.
        labels: (B, K) probabilities.
        weights: (ways,) float; the first is the weight of the image itself.
        generator: on the images' device.

    Returns:
        Images (B, C, H, W) and labels (B, K), mixed with the same weights, of unchanged types.
    """
    own, *others = weights
    mixed, shares = own * images, own * labels
    for weight in others:
        order = torch.randperm(len(images), generator=generator, device=images.device)
        mixed, shares = mixed + weight * images[order], shares + weight * labels[order]
    return mixed, shares


def cutmix(images: Tensor, labels: Tensor, share: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Fill a box, at the same place in all images, from a random other image of the batch.

    Args:
        images: (B, C, H, W) float.
        labels: (B, K) probabilities.
        share: scalar; the box's share of the area before the border cuts it off.
        generator: on the images' device.

    Returns:
        Images (B, C, H, W) and labels (B, K), mixed in proportion to the visible pixels, of unchanged types.
    """
    order = torch.randperm(len(images), generator=generator, device=images.device)
    filled = box(images, share, generator)
    seen = filled.double().mean()
    return torch.where(filled, images[order], images), (1 - seen) * labels + seen * labels[order]


def box(images: Tensor, share: Tensor, generator: torch.Generator) -> Tensor:
    """(H, W) bool: a random box with this share (a scalar) of the area of images (B, C, H, W), cut off at the
    border."""
    rows, columns = (_interval(size, share.sqrt(), generator) for size in images.shape[2:])
    return rows[:, None] & columns


def _interval(size: int, part: Tensor, generator: torch.Generator) -> Tensor:
    places = torch.arange(size, device=part.device)
    centre = torch.randint(size, (), generator=generator, device=part.device)
    length = (part * size).long()
    start = centre - length // 2
    return (places >= start) & (places < start + length)


def dirichlet(alpha: float, ways: int, generator: torch.Generator) -> Tensor:
    """Weights (ways,) float64 from a symmetric Dirichlet distribution, on the generator's device; two weights are each
    Beta(alpha, alpha)."""
    concentration = torch.full((ways,), alpha + 1, dtype=torch.float64, device=generator.device)
    # torch.distributions takes no generator. Gamma(alpha) is Gamma(alpha + 1) * exp(-exponential / alpha); logarithms,
    # because for a small alpha all values would underflow to 0.
    gamma = torch._standard_gamma(concentration, generator)
    exponential = torch.empty_like(gamma).exponential_(generator=generator)
    return torch.softmax(gamma.log() - exponential / alpha, dim=0)


def probabilities(batch: Batch) -> Tensor:
    """The labels of a batch as (B, K) probabilities; int64 classes become one-hot rows of the images' type."""
    if batch.labels.ndim == 2:
        return batch.labels
    classes = torch.arange(class_count(batch.model, batch.images), device=batch.labels.device)
    return (batch.labels[:, None] == classes).to(batch.images.dtype)


def class_count(model: nn.Module, images: Tensor) -> int:
    """The number of a network's classes; a network that is no ``Classifier`` is run on one of ``images``."""
    model = uncompiled(model)
    if isinstance(model, Classifier):
        return model.head.out_features
    with evaluating(model), torch.no_grad():
        return int(model(images[:1]).shape[1])


def build(settings: Settings, noise: Tensor | None = None) -> StrongAugmentation:
    """The defense that ``settings`` describes."""
    return StrongAugmentation(settings)
