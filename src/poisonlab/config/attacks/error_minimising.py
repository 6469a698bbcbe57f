"""Settings of error-minimising poisons."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.attacks.attack import AvailabilityAttack
from poisonlab.config.types import Fraction, Name, PositiveFloat, PositiveInt, PositiveLevels, WholeLevel


class ErrorMinimising(AvailabilityAttack):
    """Noise that leaves a network nothing to learn from the images, made while a network is trained on it. Huang et al.
    2021, "Unlearnable Examples"; SU and CU of Sandoval-Segura et al. 2022."""

    method: Literal["error-minimising"] = "error-minimising"
    surrogate: Name
    """Name of an entry of ``surrogates``: the architecture, and the recipe of that training. Its highest rate is kept
    throughout; epochs, schedule and augmentation are not used. Huang et al. train with ``lr: 0.1, momentum: 0.9,
    nesterov: false, weight_decay: 5e-4, batch_size: 512``."""
    noise: Literal["sample-wise", "class-wise"] = "sample-wise"
    """A perturbation of each image (SU), or of each class (CU)."""
    eps: WholeLevel = 8.0
    """Bound on every pixel's change, in levels of 1/255."""
    step: PositiveLevels = 0.8
    """Length of a step of the noise, in levels."""
    steps: PositiveInt | None = None
    """Steps of each image's noise in a round; 20 sample-wise and 1 class-wise if not given."""
    batches: PositiveInt = 10
    """Batches that the network is trained on in each round, before the next steps of the noise."""
    stop_error: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """The attack ends once the network misclassifies at most this share of the poisons."""
    rounds: PositiveInt = 200
    """Most rounds; the attack fails if ``stop_error`` is not reached by then."""
    subset: Fraction = 0.2
    """Share of every class that makes class-wise noise, and on which ``stop_error`` is measured. The network is trained
    on all images."""
    clip_norm: PositiveFloat = 5.0
    """Length to which the gradient of the network's weights is clipped."""
    application: Literal["signed", "drop_negative"] = "signed"
    """``signed``: the noise is added as it is; ``drop_negative``: only where it brightens, as the released loader does
    by accident."""
    batch_size: PositiveInt = 512
    """Images at once in the steps of the noise, which bounds the memory of the network's passes. All images and their
    noise stay on the device besides: 3 KB in uint8 and 12 KB in float32 per image of 32 x 32, 0.8 GB for 50,000.
    A copy of the noise is made on the CPU at the end. Class-wise there is only one noise per class, which each batch
    replaces by its mean, so that another size gives other noise."""

    @property
    def steps_each(self) -> int:
        """``steps`` or its default."""
        return self.steps or (20 if self.noise == "sample-wise" else 1)

    @property
    def trains_networks(self) -> bool:
        """Always."""
        return True
