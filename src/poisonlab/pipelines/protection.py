"""Friendly noise for all training images of a dataset, from a network that is trained for it or given."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from poisonlab.config.protection import Protection
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import pixels, training_set
from poisonlab.defenses.build import build_defenses
from poisonlab.defenses.friendly_noise import friendly_noise
from poisonlab.errors import DivergedError
from poisonlab.models.chunks import images_at_once, in_chunks
from poisonlab.models.classifier import Normalize
from poisonlab.models.layout import layout
from poisonlab.models.networks import build_network, build_normalize
from poisonlab.models.own_network import load_foreign, load_own
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.loop import train


def protect(
    dataset: ImageDataset,
    settings: Protection,
    *,
    device: torch.device | str = "cpu",
    checkpoint: Checkpoint | None = None,
    progress: bool = False,
) -> tuple[Tensor, dict[str, float]]:
    """Make friendly noise (FRIENDS, algorithm 1) for the training images.

    Args:
        dataset: only its training split is used.
        settings: the network, and how noise is made; its ``dataset`` is ignored.
        device: where to compute.
        checkpoint: saves training and noise, so that an interrupted call resumes and ends in the same bits. The caller
            clears it once the noise is saved.
        progress: show progress bars.

    Returns:
        The noise, (N, C, H, W) float32 on the CPU, in units of the [0, 1] pixel range; and facts about it: ``fitted``,
        the share of images that the network gives their label; ``mean_levels``, the mean size; ``saturated``, the
        share of values at the bound; ``unchanged``, the share of images whose prediction the noise does not change.

    Raises:
        DivergedError: the training diverged.
        DataError, SettingsError: weights or network cannot be loaded.
    """
    try:
        classifier = _classifier(dataset, settings, torch.device(device), checkpoint, progress)
    except DivergedError:
        # A resumed training would diverge again.
        if checkpoint is not None:
            checkpoint.clear()
        raise
    images = dataset.train_images
    precision = "float32" if settings.weights is not None else settings.recipe.precision
    noise = friendly_noise(
        classifier,
        images,
        settings.friendly,
        seed=settings.seed,
        device=device,
        precision=precision,
        checkpoint=checkpoint,
        progress=progress,
    )
    facts = _facts(classifier, dataset, noise, settings.friendly.zeta, torch.device(device))
    return noise, facts


def _classifier(
    dataset: ImageDataset, settings: Protection, device: torch.device, checkpoint: Checkpoint | None, progress: bool
) -> nn.Module:
    """A network from pixels in [0, 1] to logits, in eval mode."""
    if settings.network is not None:
        return load_own(settings.network, Path(str(settings.weights)), dataset.image_shape, dataset.num_classes, device)
    network = build_network(settings.model, dataset, seed=settings.seed, device=device)
    normalize = build_normalize(dataset, device)
    if settings.weights is not None:
        load_foreign(Path(settings.weights), network)
    else:
        _train(network, normalize, dataset, settings, checkpoint, progress)
    return nn.Sequential(normalize, network).eval()


def _train(
    network: nn.Module,
    normalize: Normalize,
    dataset: ImageDataset,
    settings: Protection,
    checkpoint: Checkpoint | None,
    progress: bool,
) -> None:
    """Train the network for the epochs before the noise, unless the checkpoint holds the trained network."""
    trained = None if checkpoint is None else checkpoint.part("trained")
    if trained is not None and (saved := trained.load()) is not None:
        if settings.recipe.channels_last:
            # As after training: the layout decides the kernels, and so the last bits.
            network.to(memory_format=layout(network))
        network.load_state_dict(saved[0])
        return
    random = [] if settings.random is None else [settings.random.told()]
    train(
        network,
        normalize,
        training_set(dataset),
        settings.recipe,
        seed=settings.seed,
        defenses=build_defenses(random, noise=None),
        until=settings.friendly.def_epoch,
        checkpoint=None if checkpoint is None else checkpoint.part("training"),
        capture=True,
        progress=progress,
    )
    if trained is not None:
        trained.save(network.state_dict(), {})


@torch.no_grad()
def _facts(
    classifier: nn.Module, dataset: ImageDataset, noise: Tensor, zeta: float, device: torch.device
) -> dict[str, float]:
    """The facts of ``protect``; in parts, because a copy of the noise would take as much memory as all else."""
    images, labels = dataset.train_images, dataset.train_labels

    def sums(part: slice) -> Tensor:
        clean, added = pixels(images[part].to(device)), noise[part].to(device)
        levels = added.abs() * 255
        found = classifier(clean.clone()).argmax(1)  # its first layer may work in place
        same = found == classifier((clean + added).clamp(0, 1)).argmax(1)
        right = found.cpu() == labels[part]
        counts = (levels, levels > 0.99 * zeta, same, right)
        return torch.stack([each.double().sum().cpu() for each in counts])

    size, saturated, same, right = sum(
        in_chunks(sums, len(images), images_at_once(images, 500)), torch.zeros(4)
    ).tolist()
    return {
        "fitted": round(right / len(images), 4),
        "mean_levels": round(size / noise.numel(), 4),
        "saturated": round(saturated / noise.numel(), 4),
        "unchanged": round(same / len(images), 4),
    }
