"""Settings of a training recipe, as a job receives them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from poisonlab.config.types import LATER, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, Settings

Beta = Annotated[float, Field(ge=0, lt=1)]

_RELEASED_DIVISORS = (2.667, 1.6, 1.142)


def step_milestones(length: int) -> tuple[int, ...]:
    """Floor of length / 2.667, / 1.6 and / 1.142 (released code of FRIENDS and of Witches' Brew)."""
    return tuple(int(length // divisor) for divisor in _RELEASED_DIVISORS)


class Augmentation(Settings):
    """Random augmentation of each image of a batch."""

    kind: Literal["shift", "crop", "none"] = "shift"
    """``shift``: sub-pixel bilinear translation (FRIENDS, Witches' Brew); ``crop``: by whole pixels; ``none``: images
    stay as they are, and are not mirrored either (for mirroring alone, ``pixels: 0``)."""
    pixels: Annotated[float, Field(ge=0)] = 4.0
    """Largest translation along each axis, in pixels."""
    flip: bool | Literal["alternating"] = True
    """Mirror half of the images; ``alternating``: a random half in the first epoch, then always the images that the
    previous epoch did not mirror (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", section 3.6). Attacks
    craft without epochs and mirror a random half in each step."""
    padding: Annotated[Literal["mean", "black"], LATER] = "mean"
    """Colour of the pixels moved in from outside. ``mean``: each channel's mean, as if images were augmented after
    normalisation (FRIENDS, Witches' Brew); ``black``: as if before it (the public poisoning benchmark)."""


class Recipe(Settings):
    """How a network is trained on the cross-entropy."""

    epochs: PositiveInt = 40
    """Passes over the training set."""
    batch_size: PositiveInt = 128
    """Examples per step; the last batch of an epoch may be smaller."""
    lr: PositiveFloat = 0.1
    """Highest learning rate. The default is SGD's; other optimisers need an explicit one."""
    optimizer: Annotated[Literal["sgd", "adam", "adamw"], LATER] = "sgd"
    """``adam``: Kingma & Ba 2015; ``adamw``: Loshchilov & Hutter 2019."""
    betas: Annotated[tuple[Beta, Beta], LATER] = (0.9, 0.999)
    """Decay of Adam's running means of the gradient and of its square."""
    eps: Annotated[PositiveFloat, LATER] = 1e-8
    """Added to the root of Adam's second moment; not in pixel levels."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD."""
    nesterov: bool = True
    """Nesterov's form of momentum."""
    weight_decay: NonNegativeFloat = 5e-4
    """L2 penalty, as torch.optim.SGD and Adam take it; with ``adamw`` the decoupled decay, times the rate."""
    decay_norm_and_bias: bool = True
    """Whether weight decay also acts on biases and on normalisation weights."""
    bias_lr: Annotated[PositiveFloat, LATER] = 1.0
    """Factor of the learning rate of biases. It does not change the decay per step of biases, or with ``adam`` their
    penalty."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1), LATER] = 0.0
    """Share of each label that is spread evenly over all classes (Szegedy et al. 2016). It applies only where the
    training loss is cross-entropy, not a defense's own."""
    schedule: Literal["steps", "cosine", "linear"] = "steps"
    """Tenfold drops at milestones, or a fall to 0 along a cosine or a line."""
    milestones: tuple[PositiveInt, ...] | None = None
    """Epochs (0-based) at which the rate is multiplied by ``gamma``. None: the floors of ``epochs`` / 2.667, / 1.6 and
    / 1.142, except 0."""
    gamma: Fraction = 0.1
    """Factor of the rate at each milestone."""
    warmup_epochs: NonNegativeFloat = 0.0
    """The rate rises linearly from 0 over this many epochs."""
    augmentation: Augmentation = Augmentation()
    """Random augmentation of the training images."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """``bfloat16``: mixed precision if the processor or GPU multiplies bfloat16. Other devices compute in float32,
    which is faster there."""
    channels_last: bool = True
    """Memory layout of the convolutions; only speed and rounding depend on it. Networks with strided 1 x 1 convolutions
    of fewer than 16 channels keep the other layout, because oneDNN would write beyond its memory."""
    compile: bool = False
    """Compile the network with ``torch.compile`` (worth it for long runs on a GPU)."""
    evaluate_every: PositiveInt = 1
    """Measure test accuracy every so many epochs, and at the last one."""

    @model_validator(mode="after")
    def _check_schedule(self) -> Recipe:
        if self.milestones is not None:
            if list(self.milestones) != sorted(set(self.milestones)):
                raise ValueError("milestones must increase")
            if self.milestones and self.milestones[-1] >= self.epochs:
                raise ValueError(
                    f"milestone {self.milestones[-1]} is never reached in {self.epochs} epochs: "
                    "lower it or train longer"
                )
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs:g}) exceeds epochs ({self.epochs})")
        return self

    @property
    def drops(self) -> tuple[int, ...]:
        """Epochs (0-based) at which the schedule ``steps`` lowers the rate. Without ``milestones``: those of
        ``step_milestones``, except epoch 0, where a short training would begin at a lower rate."""
        if self.milestones is not None:
            return self.milestones
        return tuple(place for place in step_milestones(self.epochs) if place)
