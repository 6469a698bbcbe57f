"""Training with FRIENDS written straightforwardly, as in its public release: the lab is timed against it.

Written from a description of the release, not from its code. If the description leaves a choice, the cheaper way is
taken. Values that the release computes but never uses in training (sorted probabilities) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from reference_attacks import shift_and_flip
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

Transform = Callable[[Tensor], Tensor]
"""Transform of one image (C, H, W) in [0, 1]."""

TO_TENSOR = transforms.ToTensor()


@dataclass(frozen=True)
class PerImage:
    """Bernoulli noise, normalisation, shift and flip of one image at a time.

    Attributes:
        mean, std: of each channel.
        mu: magnitude of the noise in levels of 1/255; 0: none.
        shift: largest translation in pixels; 0: neither translation nor flip.
    """

    mean: Sequence[float]
    std: Sequence[float]
    mu: float = 0.0
    shift: float = 0.0

    def __call__(self, image: Tensor) -> Tensor:
        if self.mu > 0:
            image = image + (torch.rand(image.shape) < 0.5) * (2 * self.mu / 255) - self.mu / 255
        image = transforms.Normalize(self.mean, self.std)(image)
        return shift_and_flip(image[None], self.shift)[0] if self.shift > 0 else image


class Pictures(Dataset[tuple[Tensor, int, int]]):
    """PIL images that are converted, perturbed and transformed one by one at each access.

    Attributes:
        noise: (N, C, H, W) friendly noise, once it is made.
    """

    def __init__(self, images: Tensor, labels: Tensor, transform: Transform) -> None:
        self.images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
        self.labels: list[int] = labels.tolist()
        self.transform = transform
        self.noise: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, int, int]:
        image = TO_TENSOR(self.images[row])
        if self.noise is not None:
            image = (image + self.noise[row]).clamp(0, 1)
        return self.transform(image), self.labels[row], row


def train(
    model: nn.Module,
    pictures: Pictures,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    device: torch.device,
    workers: int,
    drops: Sequence[int] = (),
    before_epoch: Callable[[int], None] | None = None,
) -> list[float]:
    """Train in float32 on batches that loader processes put together; the loss is read in every step.

    Returns:
        The mean loss of each epoch.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(drops), 0.1)
    loader = DataLoader(pictures, batch_size, shuffle=True, num_workers=workers, pin_memory=device.type == "cuda")
    losses = []
    for epoch in range(epochs):
        if before_epoch is not None:
            before_epoch(epoch)
        model.train()
        total = 0.0
        for images, labels, _ in loader:
            loss = F.cross_entropy(model(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item() * len(images)
        scheduler.step()
        losses.append(total / len(pictures))
    return losses


def friendly_noise(
    model: nn.Module,
    images: Tensor,
    start: Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    steps: int,
    lr: float,
    lam: float,
    zeta: float,
    batch_size: int = 128,
) -> Tensor:
    """Friendly noise batch by batch: with images normalised one by one, unused weight gradients, and numbers read in
    every step.

    Args:
        images: (N, C, H, W) uint8.
        start: (N, C, H, W), on the CPU.
        zeta: bound in levels of 1/255.

    Returns:
        (N, C, H, W), on the CPU.
    """
    model.eval()
    noise, bound = torch.zeros_like(start), zeta / 255

    def outputs(batch: Tensor) -> Tensor:
        normalised = [transforms.Normalize(mean, std)(image) for image in batch]
        return F.log_softmax(model(torch.stack(normalised)), dim=1)

    for rows in torch.split(torch.arange(len(images)), batch_size):
        batch = (images[rows].float() / 255).to(device)
        eps = start[rows].to(device).requires_grad_(True)
        optimizer = torch.optim.SGD([eps], lr=lr, momentum=0.9, nesterov=True)
        clean = outputs(batch).detach()
        for _ in range(steps):
            clamped = eps.clamp(-bound, bound)
            noisy = outputs((batch + clamped).clamp(0, 1))
            divergence = F.kl_div(noisy, clean, reduction="batchmean", log_target=True)
            size = clamped.square().mean()
            loss = divergence - lam * size
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            for number in (loss, divergence, size, clamped.min(), clamped.max()):
                number.item()
        noise[rows] = eps.detach().cpu().clamp(-bound, bound)
    model.zero_grad()
    return noise
