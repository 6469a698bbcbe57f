"""Standard deviation of a network's output around poisons and clean images: the numbers behind FRIENDS' figure 5c.

FRIENDS (section 3.1) says only that "the model output has a very high standard deviation around the poisoned examples",
in an appendix of the proceedings. The definition used here is therefore the lab's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from poisonlab.config.figures import OutputStd
from poisonlab.data.image_range import floats
from poisonlab.models.chunks import images_at_once, in_chunks
from poisonlab.randomness import generator as generator_of


@torch.no_grad()
def output_std(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    magnitudes: Sequence[float],
    draws: int,
    generator: torch.Generator,
    chunk: int = 256,
) -> Tensor:
    """Standard deviation of the probability of each image's own label under uniform noise on its pixels.

    Each draw moves every pixel value uniformly within +-m levels, then clamps to [0, 1]. All magnitudes scale the same
    draws, and two calls with equal generators and shapes use the same draws.

    Args:
        model: [0, 1] pixels to logits, in eval mode.
        images: (P, C, H, W) uint8 or float in [0, 1].
        labels: (P,) int64, with which the network was trained.
        magnitudes: M values of m, in levels of 1/255.
        draws: K noises per image.
        generator: on the CPU, even if the images are not.
        chunk: noisy images drawn at a time, which determines the order of the draws; also the images of a forward pass,
            or fewer if they are large.

    Returns:
        (P, M) on the CPU: population standard deviation over the draws.
    """
    images = floats(images)
    per_pass = max(1, chunk // draws)
    parts = []
    for some, own in zip(torch.split(images, per_pass), torch.split(labels, per_pass), strict=True):
        noise = (2 * torch.rand(draws, *some.shape, generator=generator) - 1).to(some)
        spreads = []
        for magnitude in magnitudes:
            noisy = (some + magnitude / 255 * noise).clamp(0, 1)
            # In pieces: the draws of a single image may be too many for one pass.
            logits = _logits(model, noisy.flatten(0, 1), chunk)
            probabilities = logits.softmax(1).view(draws, len(some), -1)
            of_own = probabilities.gather(2, own.expand(draws, -1).unsqueeze(2)).squeeze(2)
            spreads.append(of_own.std(0, correction=0))
        parts.append(torch.stack(spreads, 1).cpu())
    return torch.cat(parts)


def _logits(model: nn.Module, images: Tensor, most: int) -> Tensor:
    parts = in_chunks(lambda part: model(images[part]), len(images), images_at_once(images, most), "noisy images")
    return torch.cat(list(parts))


def clean_rows(train_labels: Tensor, replaced: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Clean training rows to compare with poisons: as many of each class, drawn without replacement.

    Args:
        train_labels: (N,) int64 of the clean training split.
        replaced: (P,) int64 rows that the poisons replace, which are left out; -1 for an appended poison.
        labels: (P,) int64 of the poisons.
        generator: on the CPU.

    Returns:
        P rows, int64; fewer if a class has fewer rows that no poison replaces.
    """
    free = torch.ones(len(train_labels), dtype=torch.bool)
    free[replaced[replaced >= 0]] = False
    rows = []
    for label, count in zip(*torch.unique(labels, return_counts=True), strict=True):
        candidates = torch.nonzero(free & (train_labels == label)).flatten()
        rows.append(candidates[torch.randperm(len(candidates), generator=generator)[: int(count)]])
    return torch.cat(rows)


def groups_of(
    train_images: Tensor,
    train_labels: Tensor,
    replaced: Tensor,
    poisons: Tensor,
    bases: Tensor,
    labels: Tensor,
    seed: int,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Images and labels of the poisons, of their bases, and of clean images of the same classes (see ``clean_rows``).

    Args:
        train_images, train_labels: the clean training split.
        replaced, poisons, bases, labels: the poison set's rows, images, clean originals and labels, (P, ...) each.
        seed: of the choice of clean images.
    """
    clean = clean_rows(train_labels, replaced, labels, generator_of("cpu", seed, "output_std", "clean"))
    return {
        "poisons": (poisons, labels),
        "bases": (bases, labels),
        "clean": (train_images[clean], train_labels[clean]),
    }


def around_network(
    model: nn.Module, groups: Mapping[str, tuple[Tensor, Tensor]], settings: OutputStd, seed: int, device: torch.device
) -> Tensor:
    """``output_std`` of each group: (groups, P, M) float32; P is the largest group's size, and nan fills the others."""
    most = max(len(images) for images, _ in groups.values())
    spread = torch.full((len(groups), most, len(settings.magnitudes)), float("nan"))
    for rows, (images, labels) in zip(spread, groups.values(), strict=True):
        # Every network and group starts the stream anew, so that a poison and its base get the same noise.
        stream = generator_of("cpu", seed, "output_std")
        inputs = floats(images.to(device)), labels.to(device)
        if len(images):
            rows[: len(images)] = output_std(model, *inputs, settings.magnitudes, settings.draws, stream)
    return spread
