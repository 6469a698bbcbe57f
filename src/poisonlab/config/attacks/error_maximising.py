"""Settings of error-maximising poisons."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from poisonlab.config.attacks.attack import AdversarialAvailabilityAttack
from poisonlab.config.types import NonNegativeFloat, PositiveInt, PositiveLevels, WholeLevel


class ErrorMaximising(AdversarialAvailabilityAttack):
    """Adversarial examples of the whole training set, which keep their labels. Fowl et al. 2021, "Adversarial Examples
    Make Strong Poisons"; P10 to M250 of Sandoval-Segura et al. 2022. A step costs one forward and one backward pass of
    every poison in each surrogate."""

    method: Literal["error-maximising"] = "error-maximising"
    eps: WholeLevel = 8.0
    """Bound on every pixel's change, in levels of 1/255."""
    algorithm: Literal["pgd", "mi-fgsm"] = "pgd"
    """``pgd``: steps along the sign of the gradient (Madry et al. 2018); ``mi-fgsm``: along the sign of its momentum
    (Dong et al. 2018)."""
    steps: PositiveInt = 250
    """Steps of each image."""
    step: PositiveLevels | None = None
    """Length of a step in levels. If not given, a twentieth of eps (0.4 levels of 8) in PGD, however many steps there
    are, and eps / steps in MI-FGSM."""
    aim: Literal["next-class", "away"] = "next-class"
    """``next-class``: towards class (y + 1) mod K of an image of class y; ``away``: from its own class, untargeted."""
    start: Literal["gaussian", "zero"] | None = None
    """``gaussian``: N(0, eps) per pixel, cut at the bound; ``zero``: the image itself. If not given, gaussian in PGD
    and zero in MI-FGSM."""
    augment: bool | None = None
    """Whether each step sees the image under the augmentation of the surrogate's recipe. If not given, yes in PGD and
    no in MI-FGSM."""
    restarts: PositiveInt = 1
    """How often the whole set is made; the one with the lowest mean loss is kept (the released default is 8)."""
    decay: NonNegativeFloat = 1.0
    """Factor of MI-FGSM's momentum in each step."""
    momentum: Literal["textbook", "as_run"] = "textbook"
    """Of MI-FGSM: ``textbook``: steps follow the accumulated gradient (Dong et al. 2018); ``as_run``: the current one,
    as in the code that most likely made the published M10, M100 and M250."""
    batch_size: PositiveInt = 512
    """Images at once, which bounds the memory: one training batch of that size without weights' gradients. Random
    starts and augmentation are drawn for each batch, so another size gives other poisons."""
    crafting_precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the surrogates' forward and backward passes."""

    @model_validator(mode="after")
    def _fits(self) -> ErrorMaximising:
        if self.restarts > 1 and self.starts == "zero" and not self.augments:
            raise ValueError(
                f"attack {self.name!r}: {self.restarts} restarts from zero without augmentation are all the same: set "
                "restarts: 1, or start: gaussian"
            )
        return self

    @property
    def step_length(self) -> float:
        """``step`` or its default, in levels."""
        if self.step is not None:
            return self.step
        return self.eps / (20 if self.algorithm == "pgd" else self.steps)

    @property
    def starts(self) -> str:
        """``start`` or its default."""
        return self.start or ("gaussian" if self.algorithm == "pgd" else "zero")

    @property
    def augments(self) -> bool:
        """``augment`` or its default."""
        return self.algorithm == "pgd" if self.augment is None else self.augment
