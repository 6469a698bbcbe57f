"""Strong augmentation: mixup, CutMix or cutout of each batch, and maxup on top of any of them.

Borgnia et al. 2021, "Strong data augmentation sanitizes poisoning and backdoor attacks without an accuracy tradeoff",
with the parameters of the toolbox of Witches' Brew. FRIENDS' table 2 has a row of this name, from the same authors'
"DP-InstaHide", and does not say which of them it is. All act on normalised, augmented images x_i with labels y_i, and
draw once per batch:

    mixup    sum_j w_j x_p_j(i), labels sum_j w_j y_p_j(i);  w ~ Dirichlet(alpha), p_1 the identity, the other p_j
             random permutations (Zhang et al. 2018)
    cutmix   in half of the batches a box of x_p(i) in x_i, labels in proportion to the visible pixels; the box has a
             share ~ Beta(alpha, alpha) of the area (Yun et al. 2019)
    cutout   0, the mean colour, in a box of a share 1 - 0.66 alpha of the area; labels as they were (DeVries and
             Taylor 2017)
    maxup    the mean over i of the largest loss of several such versions of x_i (Gong et al. 2020)

A box is centred on a pixel drawn uniformly and cut off at the border. Its sides are those of the image times the root
of its share, rounded down; in the release to an even number.

The release permutes p_1 too. This only reorders the batch, but then copies of maxup have no image in common. It never
takes a maximum: maxup of mixup and CutMix fails there, and of cutout it is the mean. It also leaves images as they are
until maxup begins; here they are mixed from the first epoch on.
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
        """Copies (copies * B, C, H, W), one whole batch after the other, with labels: of mixup and CutMix
        (copies * B, K) probabilities of the images' type, of cutout of the type they were."""
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
    """Weighted sums of each image with random others of its batch.

    Args:
        images: (B, C, H, W) float.
        labels: (B, K) probabilities.
        weights: (ways,) float; the first is that of the image itself.
        generator: on the images' device.

    Returns:
        Images (B, C, H, W) and labels (B, K), mixed alike, of the types they were.
    """
    own, *others = weights
    mixed, shares = own * images, own * labels
    for weight in others:
        order = torch.randperm(len(images), generator=generator, device=images.device)
        mixed, shares = mixed + weight * images[order], shares + weight * labels[order]
    return mixed, shares


def cutmix(images: Tensor, labels: Tensor, share: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A box, at the same place in all images, is filled from a random other image of the batch.

    Args:
        images: (B, C, H, W) float.
        labels: (B, K) probabilities.
        share: scalar; the box's part of the area before the border cuts it off.
        generator: on the images' device.

    Returns:
        Images (B, C, H, W) and labels (B, K), in proportion to the pixels that are seen, of the types they were.
    """
    order = torch.randperm(len(images), generator=generator, device=images.device)
    filled = box(images, share, generator)
    seen = filled.double().mean()
    return torch.where(filled, images[order], images), (1 - seen) * labels + seen * labels[order]


def box(images: Tensor, share: Tensor, generator: torch.Generator) -> Tensor:
    """(H, W) bool: a random box with this share (a scalar) of the area of images (B, C, H, W), less what the border
    cuts off."""
    rows, columns = (_interval(size, share.sqrt(), generator) for size in images.shape[2:])
    return rows[:, None] & columns


def _interval(size: int, part: Tensor, generator: torch.Generator) -> Tensor:
    places = torch.arange(size, device=part.device)
    centre = torch.randint(size, (), generator=generator, device=part.device)
    length = (part * size).long()
    start = centre - length // 2
    return (places >= start) & (places < start + length)


def dirichlet(alpha: float, ways: int, generator: torch.Generator) -> Tensor:
    """Weights (ways,) float64 from a symmetric Dirichlet distribution, on the generator's device; for two ways each is
    from Beta(alpha, alpha)."""
    concentration = torch.full((ways,), alpha + 1, dtype=torch.float64, device=generator.device)
    # torch.distributions takes no generator. Gamma(alpha) is Gamma(alpha + 1) * exp(-exponential / alpha); in
    # logarithms, as for a small alpha all of them would be 0.
    gamma = torch._standard_gamma(concentration, generator)
    exponential = torch.empty_like(gamma).exponential_(generator=generator)
    return torch.softmax(gamma.log() - exponential / alpha, dim=0)


def probabilities(batch: Batch) -> Tensor:
    """The labels of a batch as (B, K) probabilities; classes become certainties of the images' type."""
    if batch.labels.ndim == 2:
        return batch.labels
    classes = torch.arange(class_count(batch.model, batch.images), device=batch.labels.device)
    return (batch.labels[:, None] == classes).to(batch.images.dtype)


def class_count(model: nn.Module, images: Tensor) -> int:
    """How many classes a network tells apart; a network that is no ``Classifier`` is asked about one of ``images``."""
    model = uncompiled(model)
    if isinstance(model, Classifier):
        return model.head.out_features
    with evaluating(model), torch.no_grad():
        return int(model(images[:1]).shape[1])


def build(settings: Settings, noise: Tensor | None = None) -> StrongAugmentation:
    """The defense that ``settings`` describes."""
    return StrongAugmentation(settings)
