"""The attacks written straightforwardly, as in their public releases: the lab is timed against them.

Written from a description of the releases, not from their code. If the description leaves a choice, the cheaper way is
taken: no weight gradients in the second backward pass of gradient matching, and worker processes only on request.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


def gradient_norms(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Sleeper Agent's selection: one backward pass per image; (N,) float32."""
    model.eval()
    norms = []
    for image, label in zip(inputs, labels, strict=True):
        model.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(image[None]), label[None]))
        squared = sum(parameter.grad.square().sum() for parameter in model.parameters() if parameter.grad is not None)
        norms.append(float(squared) ** 0.5)
    return torch.tensor(norms)


class _Poisons(Dataset[tuple[Tensor, Tensor, int]]):
    """The bases, converted and normalised one by one at each access."""

    def __init__(self, images: Tensor, labels: Tensor, mean: Tensor, std: Tensor) -> None:
        self.images, self.labels, self.mean, self.std = images, labels, mean, std

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor, int]:
        return (self.images[row].float() / 255 - self.mean) / self.std, self.labels[row], row


def shift_and_flip(images: Tensor, pixels: float) -> Tensor:
    """Random sub-pixel translation and mirroring by a sampling grid that every call builds again."""
    n, _, height, width = images.shape
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height, device=images.device),
        torch.linspace(-1, 1, width, device=images.device),
        indexing="ij",
    )
    grid = torch.stack([x, y], dim=-1).expand(n, height, width, 2).clone()
    shift = (torch.rand(n, 1, 1, 2, device=images.device) * 2 - 1) * pixels
    grid += shift * torch.tensor([2 / (width - 1), 2 / (height - 1)], device=images.device)
    mirrored = torch.rand(n, device=images.device) < 0.5
    grid[mirrored, ..., 0] *= -1
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def craft(
    model: nn.Module,
    goal: tuple[Tensor, ...],
    images: Tensor,
    labels: Tensor,
    start: Tensor,
    *,
    mean: Tensor,
    std: Tensor,
    device: torch.device,
    steps: int,
    shift: float,
    eps: float = 16.0,
    tau: float = 0.1,
    batch_size: int = 512,
    workers: int = 0,
) -> Tensor:
    """Steps of gradient matching; perturbation, optimiser and bounds on the CPU, a new loader for every step.

    Args:
        goal: the gradient to match.
        images: (P, C, H, W) uint8, on the CPU.
        labels: (P,) int64, on the CPU.
        start: (P, C, H, W) float, normalised, on the CPU.
        mean, std: (C, 1, 1), on the CPU.
        shift: largest translation in pixels; 0: no augmentation at all.
        workers: processes of each loader.

    Returns:
        (steps,) losses.
    """
    poisons = _Poisons(images, labels, mean, std)
    bound, lower, upper = eps / 255 / std, -mean / std, (1 - mean) / std
    bases = torch.stack([poisons[row][0] for row in range(len(poisons))])
    delta = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([delta], lr=tau * batch_size / 512)
    drops = [int(steps // part) for part in (2.667, 1.6, 1.142)]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops, 0.1)
    model.eval()
    losses = []
    for _ in range(steps):
        loss, delta.grad = _pass(
            model, goal, DataLoader(poisons, batch_size, num_workers=workers), delta, device, shift
        )
        delta.grad.sign_()
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            delta.copy_(torch.minimum(torch.maximum(delta, -bound), bound))
            delta.copy_(torch.minimum(torch.maximum(bases + delta, lower), upper) - bases)
        losses.append(loss)
    return torch.tensor(losses)


def _pass(
    model: nn.Module,
    goal: tuple[Tensor, ...],
    loader: DataLoader[tuple[Tensor, Tensor, int]],
    delta: Tensor,
    device: torch.device,
    shift: float,
) -> tuple[float, Tensor]:
    """Mean matching loss over the batches, and the gradient of delta on the CPU."""
    total, gradient = 0.0, torch.zeros_like(delta)
    for images, labels, rows in loader:
        part = delta.detach()[rows].to(device).requires_grad_(True)
        inputs = images.to(device) + part
        if shift > 0:
            inputs = shift_and_flip(inputs, shift)
        loss = F.cross_entropy(model(inputs), labels.to(device))
        ours = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
        product = our_square = goal_square = torch.zeros((), device=device)
        for g, t in zip(ours, goal, strict=True):
            product = product + (g * t).sum()
            our_square = our_square + g.square().sum()
            goal_square = goal_square + t.square().sum()
        matching = 1 - product / (our_square.sqrt() * goal_square.sqrt())
        gradient[rows] = torch.autograd.grad(matching, part)[0].cpu()
        total += matching.item() * len(rows) / len(delta)
    return total, gradient


def metapoison_gradient(
    model: nn.Module,
    first: Tensor,
    second: Tensor,
    labels: Tensor,
    poisons: int,
    target: Tensor,
    label: int,
    lr: float,
) -> Tensor:
    """Gradient of the margin, averaged over the states after two steps of SGD, with respect to the poisons' change.

    The network is copied, and the graph of their updates replaces the copy's weights. The outer backward pass also
    reaches the first weights, although their gradients are not needed.

    Args:
        first, second: (B, C, H, W), normalised; the first ``poisons`` images of ``first`` are changed.
        labels: (B,) int64, of both batches.

    Returns:
        (poisons, C, H, W).
    """
    network = copy.deepcopy(model)
    delta = torch.zeros_like(first[:poisons], requires_grad=True)
    weights, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    outer = torch.zeros((), device=first.device)
    for images in (torch.cat([first[:poisons] + delta, first[poisons:]]), second):
        network.train()
        # The backward pass reads each step's batch-norm statistics, which the next step would overwrite.
        buffers = {name: buffer.clone() for name, buffer in buffers.items()}
        loss = F.cross_entropy(torch.func.functional_call(network, {**weights, **buffers}, (images,)), labels)
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        weights = {name: w - lr * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
        network.eval()
        logits = torch.func.functional_call(network, {**weights, **buffers}, (target,))[0]
        others = torch.cat([logits[:label], logits[label + 1 :]]).max()
        outer = outer + (others - logits[label]).clamp(min=-100) / 2
    outer.backward()  # type: ignore[no-untyped-call]
    assert delta.grad is not None
    return delta.grad
