"""Settings of MetaPoison."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from poisonlab.config.attacks.attack import TargetedAttack
from poisonlab.config.types import (
    LATER,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    PositiveLevels,
    Settings,
    WholeLevel,
)


class Recolor(Settings):
    """A smooth change of colours, the same for all pixels of one colour (ReColorAdv, Laidlaw and Feizi 2019)."""

    bound: PositiveFloat = 0.04
    """Bound on the change of each coordinate of the colour space, scaled to [0, 1]: CIELUV, or YUV where the attack's
    ``convention`` is ``released``."""
    grid: Annotated[int, Field(ge=2, le=32)] = 10
    """Points along each axis of the grid of colours."""
    smoothness: NonNegativeFloat = 1.0
    """Weight of the penalty on differences between neighbouring colours, which each unrolling adds to its outer loss:
    their mean length, summed over the poisons of its batch. ``convention: released``: the mean of squared slopes, over
    all poisons."""
    lr: PositiveFloat = 0.02
    """Step of Adam on the grid, in the units of ``bound``. The release: 200, so that the first step reaches it."""

    @property
    def points(self) -> tuple[int, int, int]:
        """Points of the grid, along L, u and v."""
        return (self.grid,) * 3


class MetaPoison(TargetedAttack):
    """MetaPoison: unroll the victim's training steps and differentiate through them (Huang et al. 2020)."""

    method: Literal["metapoison"] = "metapoison"
    ensemble: PositiveInt = 24
    """Surrogates, each at another stage of training; they are trained by the attack itself."""
    stagger: PositiveInt = 1
    """Epochs between the stages of two surrogates."""
    first_epoch: Annotated[int, Field(ge=0)] = 0
    """Epochs of training of the first surrogate, and of every surrogate that starts again."""
    steps: PositiveInt = 61
    """Crafting steps."""
    unroll: PositiveInt = 2
    """SGD steps that are differentiated through; the outer loss is averaged over the states after each."""
    batch_size: PositiveInt = 125
    """Images per unrolled step, poisons among them."""
    poisons_per_batch: PositiveInt | None = None
    """Poisons in an unrolled batch. If not given, as many as an epoch of training deals to it; batches without poisons
    are not unrolled. Clean images fill the batch so that the adversarial class keeps its share, as far as the poisons
    leave room."""
    sweep: Literal["epoch", "batch"] = "epoch"
    """``epoch``: a crafting step unrolls from every batch of the poisons in every surrogate (the paper); ``batch``:
    from one."""
    batch_norm: Literal["train", "eval"] = "train"
    """Batch norm in the unrolled steps: ``train``: by the batch, as in training (the paper); ``eval``: by the
    surrogate's statistics, so that poisons act through their own gradients only, however many of them share a batch."""
    weighting: Literal["sum", "equal"] = "sum"
    """How the gradients of the unrollings are added: unchanged (the paper), or each scaled to unit length, so that no
    stage of training outweighs the others."""
    unroll_lr: PositiveFloat = 0.1
    """Rate of the unrolled steps of SGD, which have no momentum. The surrogates themselves follow their own recipe."""
    clean_batches: PositiveInt | None = None
    """Batches of clean training between two crafting steps, each of the recipe's size; one epoch if not given."""
    lr: PositiveLevels = 200.0
    """Step of Adam, in levels of 1/255; five steps of warm-up, tenfold drops after a third and two thirds of the
    steps."""
    init: WholeLevel = 8.0
    """The perturbation starts uniform in [-init, init] levels, cut at the bound."""
    crafting_precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the networks' forward and backward passes while crafting."""
    derivative: Annotated[Literal["exact", "differences"], LATER] = "exact"
    """How the gradient goes back through the unrolled steps: through their own gradients (``exact``), or by central
    differences of gradients at moved weights, which need no second derivative and cost half."""
    difference: Annotated[PositiveFloat, LATER] = 0.03
    """Step of the differences to each side, as a share of the weights' norm."""
    convention: Annotated[Literal["ours", "released"], LATER] = "ours"
    """``released``: as MetaPoison's code. Later unrolled batches hold the poisons as well, as constants; the target is
    judged inside the next batch, by its statistics; zero is one of the logits that the margin compares; the unrolled
    rate follows the surrogate's; surrogates start again after ``first_epoch`` + ``ensemble`` x ``stagger`` epochs; the
    perturbation starts uniform in +-``eps``, whatever ``init`` is; ``recolor`` works in YUV. Unless
    ``poisons_per_batch`` or ``clean_batches`` is given, unrollings also begin at the batches of the surrogate's own
    epoch, and their clean images are that epoch's."""
    recolor: Recolor | None = None
    """Change colours as well, before the additive perturbation; ``eps`` does not bound this change."""

    @model_validator(mode="after")
    def _fits(self) -> MetaPoison:
        if self.poisons_per_batch is not None and self.poisons_per_batch > self.batch_size:
            raise ValueError(f"attack {self.name!r}: poisons_per_batch exceeds batch_size {self.batch_size}")
        return self

    def too_short(self, epochs: int) -> str | None:
        """The message if the surrogate's recipe ends before the first stage; None if it does not."""
        if self.first_epoch < epochs:
            return None
        return f"first_epoch {self.first_epoch} is not below the surrogate's {epochs} epochs: lower it or train longer"

    @property
    def pretrained_networks(self) -> int:
        """One to recognise the target, if the target must be recognised; the attack trains its crafting networks
        itself."""
        return int(self.target == "recognised")

    @property
    def bound(self) -> float | None:
        """None where colours change as well."""
        return self.eps if self.recolor is None else None

    @property
    def trains_networks(self) -> bool:
        """Always."""
        return True
