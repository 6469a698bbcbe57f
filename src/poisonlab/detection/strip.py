"""STRIP: if an input's prediction stays the same in blends with other images, the input carries a trigger.

Gao et al. 2019, "STRIP: A Defence Against Trojan Attacks on Deep Neural Networks", section IV. Every image is blended
with ``count`` clean images. If one feature, the trigger, decides all predictions, their mean entropy is low. With n(.)
the normalisation, x the image and o a clean image, the network's input is

superimpose    n(x) + alpha * n(o)              BackdoorBench as it is run, alpha 1: not clamped, twice the contrast
blend          n((1 - alpha) * x + alpha * o)   a mixture; alpha 0.5 in the Adversarial Robustness Toolbox (ART)

The entropy is taken over the K classes of each prediction, as in the paper. ART takes it over the images of a class
instead (scipy's default axis), so its numbers cannot be compared with these.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from poisonlab.config.detection.strip import Strip as Settings
from poisonlab.data.image_range import check_images
from poisonlab.data.training_set import pixels
from poisonlab.detection.deployment import CleanImages, Deployment
from poisonlab.errors import DataError, SettingsError
from poisonlab.models.chunks import images_at_once, in_chunks
from poisonlab.models.classifier import Normalize
from poisonlab.models.evaluating import evaluating
from poisonlab.randomness import generator

Convention = Literal["superimpose", "blend"]
Fit = Literal["quantile", "gaussian"]


@torch.no_grad()
def entropies(
    model: nn.Module,
    normalize: Normalize,
    images: Tensor,
    overlays: Tensor,
    stream: torch.Generator,
    *,
    count: int = 100,
    convention: Convention = "superimpose",
    alpha: float = 1.0,
    chunk: int | None = None,
) -> Tensor:
    """Mean entropy of the predictions of each image blended with clean images.

    Args:
        model: maps normalised images (B, C, H, W) to logits (B, K); used in eval mode; its modes are restored.
        normalize: on the model's device, where everything is computed.
        images: (N, C, H, W) uint8, or float in [0, 1]: the inputs under test.
        overlays: (M, C, H, W) uint8, or float in [0, 1]: clean images.
        stream: draws the overlays of each image independently and with replacement.
        count: overlays per image, N in the paper; 100 in the paper and in BackdoorBench, 20 in ART.
        convention: how image and overlay are combined; see the module's text.
        alpha: weight of the overlay, at least 0; in a ``blend`` below 1, or nothing would be left of the image.
        chunk: blended images in memory at a time, by default chosen by their size; changes the result only by rounding.

    Returns:
        (N,) float64 in [0, log2 K], on the model's device: bits. Divide by log2(e) for nats.

    Raises:
        DataError: images and overlays differ in shape, there is no overlay, or a prediction is not finite.
        SettingsError: a setting is impossible.
    """
    _check(images, overlays, count, convention, alpha, chunk)
    device = normalize.mean.device
    images, overlays = images.to(device), overlays.to(device)
    drawn = torch.randint(len(overlays), (len(images) * count,), generator=stream, device=stream.device).to(device)
    owner = torch.arange(len(images), device=device).repeat_interleave(count)
    with evaluating(model):

        def mixed(part: slice) -> Tensor:
            inputs = blended(normalize, images[owner[part]], overlays[drawn[part]], convention, alpha)
            return entropy(model(inputs))

        found = torch.cat(list(in_chunks(mixed, len(owner), chunk or images_at_once(images), "blended images")))
    if not bool(torch.isfinite(found).all()):
        raise DataError("a prediction is not finite: has the network's training diverged?")
    return found.view(-1, count).mean(1)


def blended(normalize: Normalize, images: Tensor, overlays: Tensor, convention: Convention, alpha: float) -> Tensor:
    """Network inputs (B, C, H, W) float32 of ``images`` and ``overlays``, (B, C, H, W) uint8 or float in [0, 1]."""
    image, overlay = normalize(pixels(images)), normalize(pixels(overlays))
    # Normalising is affine, so it commutes with mixing.
    kept = 1 - alpha if convention == "blend" else 1.0
    mixed: Tensor = kept * image + alpha * overlay
    return mixed


def entropy(logits: Tensor) -> Tensor:
    """Entropies (B,) float64, in bits, of the softmax over the classes of ``logits`` (B, K)."""
    nats: Tensor = torch.special.entr(logits.double().softmax(1)).sum(1)
    return nats / math.log(2)


def threshold(clean_entropies: Tensor, far: float = 0.1, fit: Fit = "quantile") -> float:
    """The entropy below which an input is flagged as carrying a trigger.

    Args:
        clean_entropies: (N,) floating: of clean images that are not among the overlays.
        far: rate of false alarms, the fraction of clean inputs below the threshold, in (0, 1): 0.1 in BackdoorBench,
            0.01 in ART. The paper calls it the false rejection rate.
        fit: "quantile": the ``far`` quantile of the entropies, interpolated at position far * (N - 1) in their order;
            "gaussian": that of a normal distribution with their mean and (population) standard deviation, as in the
            paper and in ART. The latter may be below 0, where it flags nothing.

    Raises:
        DataError: there are no entropies, or one is not finite.
        SettingsError: ``far`` or ``fit`` is impossible.
    """
    if not 0 < far < 1:
        raise SettingsError(f"a rate of false alarms of {far}: give one between 0 and 1")
    if fit not in get_args(Fit):
        raise SettingsError(f"unknown fit {fit!r}: use one of {', '.join(get_args(Fit))}")
    if clean_entropies.ndim != 1 or len(clean_entropies) == 0 or not bool(torch.isfinite(clean_entropies).all()):
        raise DataError("a threshold needs the finite entropies, (N,), of at least one clean image")
    values = clean_entropies.double().cpu()
    if fit == "quantile":
        return float(values.quantile(far))
    deviations = torch.special.ndtri(torch.tensor(far, dtype=torch.float64))
    return float(values.mean() + deviations * values.std(correction=0))


def flagged(input_entropies: Tensor, limit: float) -> Tensor:
    """(N,) bool: which of ``input_entropies`` (N,) are below ``limit``, so that the input is flagged."""
    return input_entropies < limit


def _check(images: Tensor, overlays: Tensor, count: int, convention: str, alpha: float, chunk: int | None) -> None:
    if images.ndim != 4 or images.shape[1:] != overlays.shape[1:] or len(overlays) == 0:
        raise DataError(
            f"images of shape {tuple(images.shape)} and overlays of shape {tuple(overlays.shape)}: both must be "
            "(N, C, H, W) with the same C, H and W, and there must be an overlay"
        )
    check_images(images)
    check_images(overlays, "overlays")
    if convention not in get_args(Convention):
        raise SettingsError(f"unknown convention {convention!r}: use one of {', '.join(get_args(Convention))}")
    if count < 1 or (chunk is not None and chunk < 1):
        raise SettingsError(f"{count} overlays per image and {chunk} images at a time: both must be at least 1")
    if alpha < 0 or (convention == "blend" and alpha >= 1):
        raise SettingsError(f"an overlay weight of {alpha}: it must be at least 0, and of a blend below 1")


def deploy(
    settings: Settings, network: nn.Module, normalize: Normalize, clean: CleanImages, *, seed: int
) -> Deployment:
    """Let STRIP reject inputs of the network: half of the clean images are overlays, the other half set the
    threshold."""
    overlays, held_out = clean.images[::2], clean.images[1::2]

    def of(images: Tensor, what: str) -> Tensor:
        stream = generator("cpu", seed, "strip", what)
        return entropies(
            network,
            normalize,
            images,
            overlays,
            stream,
            count=settings.count,
            convention=settings.convention,
            alpha=settings.alpha,
        )

    calm = of(held_out, "threshold")
    # A negative threshold flags nothing, like 0, but is no entropy.
    limit = max(0.0, threshold(calm, settings.far, settings.fit))
    return Deployment(
        network,
        rejects=lambda images: flagged(of(images, "input"), limit).cpu(),
        tensors={"clean_entropies": calm},
        facts={"threshold_bits": limit},
    )
