"""Friendly noise: the largest perturbation of each example that does not change the network's output.

FRIENDS (Liu, Yang, Mirzasoleiman 2022), equation 3 and algorithm 1. The paper and its released code minimise different
objectives, hence two conventions. With x the image, e the noise, p(.) the softmax output and B the batch:

    paper     per example    KL(p(x + e) || p(x)) - lambda * ||e||, SGD, then projection on |e| <= zeta and on valid
                             pixels
    released  per batch      mean over B of KL(p(x) || p(x + e)) - lambda * mean over B and pixels of e^2 (or |e|, max
                             |e|), clamped to +-zeta inside the forward pass, so that a value beyond zeta has no
                             gradient; the noise is clamped once at the end
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from poisonlab.config.defenses.friendly_noise import FriendlyNoise as Settings
from poisonlab.data.image_range import check_images
from poisonlab.data.training_set import TrainingSet, pixels
from poisonlab.errors import DataError, PoisonlabError, SettingsError
from poisonlab.models.chunks import images_at_once, in_chunks
from poisonlab.models.classifier import logits as logits_of
from poisonlab.models.evaluating import fixed
from poisonlab.models.surroundings import check_gradient, usable, weights_of_float32, with_gradients
from poisonlab.precision import passes
from poisonlab.randomness import uniform_rows
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.defense import Batch, Defense


@dataclass(frozen=True)
class FriendlyNoise(Defense):
    """Add each example's fixed noise from epoch ``start`` on.

    Attributes:
        noise: (N, C, H, W) float, indexed by ``TrainingSet.rows``, in units of the [0, 1] pixel range; None if the
            training ends before ``start``.
        start: first epoch (0-based) that trains on noisy images.

    Raises:
        DataError: the noise does not fit the training set.
        SettingsError: epoch ``start`` is reached without noise.
    """

    noise: Tensor | None
    start: int = 0

    @property
    def repeats(self) -> bool:
        return self.start == 0 and self.noise is not None

    @property
    def captured(self) -> bool:
        # Each step would copy noise from the host's memory to the GPU, which a CUDA graph cannot do.
        return self.noise is None or self.noise.is_cuda or not torch.cuda.is_available()

    def prepare(self, data: TrainingSet) -> TrainingSet:
        if self.noise is None:
            return data
        check_noise(self.noise)
        if self.noise.shape[1:] != data.images.shape[1:] or len(self.noise) <= int(data.rows.max()):
            cure = "was it made for another dataset?"
            if self.noise.shape == data.images.shape:
                cure = (
                    "was it made only for images that a filter kept? Make it for all, or number the rows anew: "
                    "TrainingSet(data.images, data.labels, torch.arange(len(data)))"
                )
            raise DataError(
                f"friendly noise of shape {tuple(self.noise.shape)} does not fit {len(data)} training images of "
                f"shape {tuple(data.images.shape[1:])} and rows up to {int(data.rows.max())}: {cure}"
            )
        return data

    def change_batch(self, batch: Batch) -> Tensor:
        if batch.epoch < self.start:
            return batch.images
        if self.noise is None:
            raise SettingsError(
                f"epoch {batch.epoch} adds friendly noise, but none was given: make it with friendly_noise and pass it "
                f"as noise, or train with until={self.start}"
            )
        noise = self.noise[batch.rows.to(self.noise.device)].to(batch.images)
        return (batch.images + noise).clamp(0, 1)


def build(settings: Settings, noise: Tensor | None = None) -> Defense:
    """The defense that ``settings`` describes; without ``noise`` it works only up to ``def_epoch``."""
    return FriendlyNoise(noise, settings.def_epoch)


def check_noise(noise: Tensor) -> None:
    """Check noise in units of the [0, 1] pixel range.

    Raises:
        DataError: ``noise`` is no float tensor of shape (N, C, H, W), or has values outside [-1, 1].
    """
    if not isinstance(noise, Tensor):
        raise DataError(f"noise is a {type(noise).__name__}: give a tensor, for example load_noise(file).values")
    if noise.ndim != 4 or not noise.is_floating_point():
        raise DataError(f"noise must be float of shape (N, C, H, W), not {noise.dtype} of {tuple(noise.shape)}")
    lowest, highest = (0.0, 0.0) if noise.numel() == 0 else map(float, torch.aminmax(noise.detach()))
    # Written so that a NaN fails as well.
    if not (lowest >= -1 and highest <= 1):
        raise DataError(
            f"noise lies in [{lowest:g}, {highest:g}], but its unit is the [0, 1] pixel range: divide levels by 255"
        )


@with_gradients()
def friendly_noise(
    model: nn.Module,
    images: Tensor,
    settings: Settings | None = None,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    chunk: int | None = None,
    precision: str = "float32",
    checkpoint: Checkpoint | None = None,
    progress: bool = False,
) -> Tensor:
    """Make friendly noise for any classifier and image tensor.

    Args:
        model: maps (B, C, H, W) float pixels in [0, 1] to logits (B, K), K >= 2; includes any normalisation. It is used
            in eval mode; its modes are restored afterwards.
        images: (N, C, H, W) uint8, or float in [0, 1]; any size and number of channels.
        settings: bound, steps, rate and convention; the defaults are FRIENDS' released ones with the paper's 20 steps.
        seed: of the noise's start.
        device: where to compute.
        chunk: images per forward pass, by default chosen by their size; bounds the memory and changes the result only
            by rounding.
        precision: ``bfloat16`` runs the network in mixed precision where the device multiplies bfloat16.
        checkpoint: where each finished part of the noise is saved in a file of its own. An interrupted call resumes
            from there with the same bits; the caller clears the checkpoint.
        progress: show a progress bar with rate and time left.

    Returns:
        (N, C, H, W) float32 on the CPU, each value within +-zeta/255. Add it and clamp to [0, 1].

    Raises:
        DataError: the images are no tensor of this shape, or floats beyond [0, 1].
        SettingsError: settings, model or precision are of another kind, ``chunk`` is below 1, there is no such device
            or the network is on another one, its weights are not float32, it gives probabilities or no logits of two or
            more classes, or its output has no gradient by the images.
        PoisonlabError: the network's output is not finite.
    """
    check_images(images)
    if images.ndim != 4:
        raise DataError(f"images are of shape {tuple(images.shape)}, not (N, C, H, W): give one image as images[None]")
    if not isinstance(model, nn.Module):
        raise SettingsError(f"the model is a {type(model).__name__}: give a torch.nn.Module")
    settings = settings or Settings()
    if not isinstance(settings, Settings):
        raise SettingsError(
            f"settings are a {type(settings).__name__}: pass FriendlyNoise(zeta=16) of "
            "poisonlab.config.defenses.friendly_noise, with the keys that you set"
        )
    if chunk is not None and chunk < 1:
        raise SettingsError(f"chunk is {chunk}: give 1 image or more, or leave it out")
    device = usable(device)
    where = next((weight.device for weight in model.parameters()), device)
    if where.type != device.type:
        raise SettingsError(f"the network is on {where}, but device is {device}: pass device={str(where)!r}")
    if len(images) == 0:
        return torch.empty(images.shape)
    noise = torch.empty(images.shape, dtype=torch.float32)
    parts = _Parts(noise, checkpoint)
    begun = parts.made

    def made(part: slice) -> Tensor:
        first = begun + part.start
        inputs = pixels(images[first : begun + part.stop].to(device))
        begin = _start(inputs, first, seed, settings)
        return _optimise(model, inputs, begin, settings, precision).cpu()

    bar = tqdm(total=len(images), initial=begun, unit="image", desc="friendly noise", disable=not progress)
    with fixed(model), bar:
        at_once, left = chunk or images_at_once(images, 512), len(images) - begun
        for some in in_chunks(made, left, at_once, "images to make noise for") if left else ():
            parts.add(some)
            bar.update(len(some))
    if not bool(torch.isfinite(noise).all()):
        raise PoisonlabError("the friendly noise is not finite: lower its lr")
    return noise


class _Parts:
    """The noise in the making; each save writes the new part to a file of its own.

    Attributes:
        noise: (N, C, H, W) float32, to be filled.
        made: number of images, from the first, that have noise.
    """

    def __init__(self, noise: Tensor, checkpoint: Checkpoint | None) -> None:
        self.noise, self.made = noise, 0
        self._checkpoint, self._number = checkpoint, 0
        if checkpoint is None:
            return
        # A part that could not be saved leaves a gap; files after the gap may be older and begin at another image.
        while (saved := self._part(checkpoint).load()) is not None and saved[1]["first"] == self.made:
            self._fill(saved[0]["noise"])
            self._number += 1
        self._kept, self._next = self.made, self._part(checkpoint)

    def add(self, some: Tensor) -> None:
        """Add the noise of the next images; save it if a save is due."""
        self._fill(some)
        if self._checkpoint is not None and self._next.due():
            self._next.save({"noise": self.noise[self._kept : self.made]}, {"first": self._kept})
            self._number += 1
            self._kept, self._next = self.made, self._part(self._checkpoint)

    def _fill(self, some: Tensor) -> None:
        self.noise[self.made : self.made + len(some)] = some
        self.made += len(some)

    def _part(self, checkpoint: Checkpoint) -> Checkpoint:
        return checkpoint.part(f"noise{self._number}")


def _start(images: Tensor, first: int, seed: int, settings: Settings) -> Tensor:
    """A uniform start. An image's start depends on its number (the chunk begins at ``first``), not on the chunk."""
    uniform = uniform_rows(tuple(images.shape), first, seed, "friendly-noise").to(images.device)
    return (uniform * 2 - 1) * (settings.init / 255)


def _optimise(model: nn.Module, images: Tensor, noise: Tensor, settings: Settings, precision: str) -> Tensor:
    """Run the SGD of algorithm 1 on one chunk; (B, C, H, W) float32 in, the clamped noise out."""
    zeta = settings.zeta / 255
    with torch.no_grad(), weights_of_float32(model):
        # A copy: the network's first layer may work in place.
        logits = _logits(model, images.clone(), precision)
    # One image alone may have such logits by chance.
    if len(logits) > 1 and bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-5).all()):
        raise SettingsError("the network gives probabilities: leave out its softmax, so that it gives logits")
    clean = F.log_softmax(logits, dim=1)
    if not bool(torch.isfinite(clean).all()):
        raise PoisonlabError("the network's output on clean images is not finite: has its training diverged?")
    velocity = torch.zeros_like(noise)
    for _ in range(settings.steps):
        noise = noise.detach().requires_grad_(True)
        objective = friendly_objective(model, images, noise, clean, settings, precision)
        (gradient,) = torch.autograd.grad(objective, noise)
        with torch.no_grad():
            # SGD with Nesterov momentum, as in torch.optim.SGD.
            velocity = gradient if settings.momentum == 0 else velocity * settings.momentum + gradient
            noise = noise - settings.lr * (gradient + settings.momentum * velocity)
            if settings.convention == "paper":
                noise = (images + noise.clamp(-zeta, zeta)).clamp(0, 1) - images
    return noise.detach().clamp(-zeta, zeta)


def friendly_objective(
    model: nn.Module,
    images: Tensor,
    noise: Tensor,
    clean: Tensor,
    settings: Settings,
    precision: str = "float32",
) -> Tensor:
    """The scalar objective, summed over examples so that an example's gradient does not depend on the chunk.

    Args:
        images: (B, C, H, W) float in [0, 1].
        noise: (B, C, H, W).
        clean: (B, K) log-probabilities of the clean images.
    """
    if settings.convention == "paper":
        noisy = _log_probabilities(model, images + noise, precision)
        divergence = F.kl_div(clean, noisy, reduction="sum", log_target=True)
        return divergence - settings.lam * _norm(noise, settings.norm).sum()
    zeta = settings.zeta / 255
    clamped = noise.clamp(-zeta, zeta)
    noisy = _log_probabilities(model, (images + clamped).clamp(0, 1), precision)
    divergence = F.kl_div(noisy, clean, reduction="sum", log_target=True)
    flat = clamped.flatten(1)
    size = {
        "l1": flat.abs().mean(1),
        "l2": flat.square().mean(1),
        "linf": flat.abs().amax(1),
    }[settings.norm].sum()
    return (divergence - settings.lam * size) / settings.batch_size


def _norm(noise: Tensor, norm: str) -> Tensor:
    order = {"l1": 1.0, "l2": 2.0, "linf": float("inf")}[norm]
    length: Tensor = torch.linalg.vector_norm(noise.flatten(1), ord=order, dim=1)
    return length


def _log_probabilities(model: nn.Module, images: Tensor, precision: str) -> Tensor:
    logits = _logits(model, images, precision)
    check_gradient(images, logits)
    return F.log_softmax(logits, dim=1)


def _logits(model: nn.Module, images: Tensor, precision: str) -> Tensor:
    """(B, K) logits, float32 or float64."""
    with passes(images.device, precision):
        logits = logits_of(model(images))
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise SettingsError(
            f"the network gives {tuple(logits.shape)} for {len(images)} images, not logits of at least two classes: "
            "turn one logit z into two by torch.cat([torch.zeros_like(z), z], 1)"
        )
    # Logits of mixed precision are widened to float32; float64 logits stay float64.
    return logits if logits.dtype == torch.float64 else logits.float()
