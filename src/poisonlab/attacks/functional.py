"""Functional poisons: untargeted adversarial examples that map an image's colours and pixel positions.

FC, FCS and FCSD of Sandoval-Segura et al. 2022; ReColorAdv, Laidlaw and Feizi 2019; StAdv, Xiao et al. 2018.

Each image x of class y becomes

    x' = flow(color(x)) + delta       color: a map of CIELUV colours, interpolated on a grid
                                      flow: every pixel is fetched from a nearby place, bilinearly
                                      |delta| <= eps

and Adam minimises, over the parameters of all three,

    z_y(x') - max_{j != y} z_j(x') + smoothness of the grid + smoothness of the flow.

The margin has no floor, and the last iterate is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.color import Palette, linear_to_luv, luv_to_linear, roughness
from poisonlab.attacks.shipping import ship
from poisonlab.attacks.whole_set import Plan, frozen, optimised, poisoned_rows
from poisonlab.config.attacks.functional import Flow
from poisonlab.config.attacks.functional import Functional as Settings
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import pixels
from poisonlab.errors import SettingsError
from poisonlab.models.margins import margins
from poisonlab.precision import passes
from poisonlab.training.checkpoint import optimizer_state, restore_optimizer


def craft(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, *, seed: int, progress: bool = False
) -> PoisonSet:
    """Change every image that ``seed`` draws, or all if the budget is 1.

    Args:
        dataset: clean data.
        attacker: its surrogates. Crafting computes in their dtype.
        settings: changes, bounds, steps, budget.
        seed: of the poisoned rows; nothing else is random.
        progress: show images per second.

    Returns:
        Poisons without a goal, with the labels of their bases. ``diagnostics["losses"]`` is (1, steps) float64, the
        mean objective before each step.

    Raises:
        SettingsError: ``changes`` contains color and the images are grey.
        PoisonlabError: the loss is not finite.
        TooLittleMemoryError: memory does not suffice for a batch.
    """
    if "color" in settings.changes and dataset.image_shape[0] != 3:
        raise SettingsError("changes: color needs RGB images, and these are grey: take it away")
    rows = poisoned_rows(dataset, attacker, settings.budget, seed, "functional")
    bases, labels = dataset.train_images[rows], dataset.train_labels[rows]
    networks = frozen(attacker.surrogates)

    def begin(part: slice, restart: int) -> _Batch:
        return _Batch(bases[part], labels[part], networks, attacker, settings)

    plan = Plan(len(rows), settings.batch_size, settings.steps)
    images, losses = optimised(begin, plan, bases, attacker.checkpoint, progress)
    return PoisonSet(rows, images, labels, bases, diagnostics={"losses": losses})


class Displacement:
    """A displacement of the pixels of each image.

    Attributes:
        flow: (P, 2, H, W), along x and y, in units of half the image's side; a leaf tensor to optimise.
    """

    def __init__(self, settings: Flow, images: Tensor) -> None:
        self.settings = settings
        count, _, height, width = images.shape
        self.flow = torch.zeros(count, 2, height, width, device=images.device, dtype=images.dtype, requires_grad=True)
        # Centres of the pixels, if the image extends from -1 to 1.
        x = (2 * torch.arange(width, device=images.device, dtype=images.dtype) + 1) / width - 1
        y = (2 * torch.arange(height, device=images.device, dtype=images.dtype) + 1) / height - 1
        self.places = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])[None]

    def __call__(self, images: Tensor) -> Tensor:
        """The images (P, C, H, W), each pixel fetched from its displaced place; outside the image is black."""
        grid = (self.places + self.flow).permute(0, 2, 3, 1)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    def project(self) -> None:
        """Cut every displacement at the bound, and where it would leave the image."""
        bound = self.settings.bound
        with torch.no_grad():
            inside = (self.places + self.flow).clamp(-1, 1) - self.places
            self.flow.copy_(inside.clamp(-bound, bound))

    def roughness(self) -> Tensor:
        """Sum of the lengths of all differences between the displacements of neighbouring pixels."""
        return roughness(self.flow)


@dataclass
class _Batch:
    """The changes of one batch.

    Attributes:
        bases: (B, C, H, W) uint8.
        labels: (B,) int64, the images' own.
        networks: normalised images to logits, frozen.
    """

    bases: Tensor
    labels: Tensor
    networks: Sequence[nn.Module]
    attacker: Attacker
    settings: Settings

    def __post_init__(self) -> None:
        device, kind = self.attacker.device, self.attacker.normalize.mean.dtype
        self.clean = pixels(self.bases.to(device)).to(kind)
        self.labels = self.labels.to(device)
        changes = self.settings.changes
        self.palette = Palette(self.settings.color, len(self.bases), device) if "color" in changes else None
        if self.palette is not None:
            self.palette.grid = self.palette.grid.detach().to(kind).requires_grad_(True)
        self.displacement = Displacement(self.settings.flow, self.clean) if "flow" in changes else None
        self.delta = torch.zeros_like(self.clean, requires_grad=True) if "additive" in changes else None
        self._project()
        self.optimizer = torch.optim.Adam(list(self._parameters().values()), lr=self.settings.lr)

    def step(self, number: int) -> Tensor:
        normalize = self.attacker.normalize
        changed = self._changed()
        loss = torch.zeros((), device=changed.device, dtype=changed.dtype)
        for network in self.networks:
            with passes(changed.device, self.settings.crafting_precision):
                logits = network(normalize(changed))
            loss = loss + margins(logits.to(changed.dtype), self.labels).sum() / len(self.networks)
        for part in (self.palette, self.displacement):
            if part is not None:
                # Each pair of neighbours counts twice.
                loss = loss + 2 * part.settings.smoothness * part.roughness()
        parameters = self._parameters().values()
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, list(parameters)), strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self._project()
        return loss.detach()

    def images(self) -> Tensor:
        with torch.no_grad():
            change = self._changed().cpu() * 255 - self.bases
        return ship(self.bases, change, 255.0 if self.settings.bound is None else self.settings.bound, "uint8")

    def state(self) -> dict[str, Tensor]:
        return {**self._parameters(), **optimizer_state(self.optimizer)}

    def restore(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters().items():
                parameter.copy_(state[name])
        restore_optimizer(self.optimizer, state)

    def _parameters(self) -> dict[str, Tensor]:
        named = {
            "grid": None if self.palette is None else self.palette.grid,
            "flow": None if self.displacement is None else self.displacement.flow,
            "delta": self.delta,
        }
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def _changed(self) -> Tensor:
        """(B, C, H, W) in [0, 1] up to rounding: the images with all changes. Cuts the noise to valid pixels."""
        images = self.clean
        if self.palette is not None:
            images = self.palette(images)
        if self.displacement is not None:
            images = self.displacement(images)
        if self.delta is not None:
            with torch.no_grad():
                # Cut the noise, not the image: a cut pixel has no gradient, so its noise would never come back.
                self.delta.copy_((images + self.delta).clamp(0, 1) - images)
            images = images + self.delta
        return images

    def _project(self) -> None:
        if self.palette is not None and self.settings.color.gamut:
            cut_to_gamut(self.palette.grid)
        for part in (self.palette, self.displacement):
            if part is not None:
                part.project()
        if self.delta is not None:
            bound = self.settings.eps / 255
            with torch.no_grad():
                self.delta.clamp_(-bound, bound)


@torch.no_grad()
def cut_to_gamut(grid: Tensor) -> None:
    """Change displacements in place, so that every point of the grid moves to a colour within sRGB.

    Args:
        grid: (P, 3, v, u, L), see ``Palette``; its points are spaced evenly in scaled CIELUV, [0, 1] along each axis.
    """
    axes = [torch.linspace(0, 1, size, device=grid.device, dtype=grid.dtype) for size in grid.shape[2:]]
    v, u, lightness = torch.meshgrid(*axes, indexing="ij")
    points = torch.stack([lightness, u, v])
    moved = (points + grid).clamp(0, 1)
    grid.copy_(linear_to_luv(luv_to_linear(moved)) - points)
