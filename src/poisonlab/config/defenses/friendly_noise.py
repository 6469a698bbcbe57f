"""Settings of friendly noise."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.models.model import NamedModel
from poisonlab.config.types import NonNegativeFloat, PositiveFloat, PositiveInt, Settings, WholeLevel


class FriendlyNoise(Settings):
    """Add to every example the largest perturbation that leaves the network's output unchanged (FRIENDS, eq. 3)."""

    method: Literal["friendly-noise"] = "friendly-noise"
    convention: Literal["paper", "released"] = "released"
    """``paper``: equation 3 as printed, projected; ``released``: the loss the authors' code minimises."""
    zeta: WholeLevel = 16.0
    """Bound on every pixel's change, in levels of 1/255."""
    steps: PositiveInt = 20
    """Steps of SGD on the noise."""
    lr: PositiveFloat = 100.0
    """Learning rate of the noise, constant."""
    lam: NonNegativeFloat = 1.0
    """Weight lambda of the noise's norm."""
    norm: Literal["l1", "l2", "linf"] = "l2"
    """Norm of the noise that is made large (FRIENDS, appendix A.1)."""
    init: WholeLevel = 8.0
    """The noise starts uniform in [-init, init] levels. Under ``released``, values that start beyond ``zeta`` have no
    gradient and stay at the bound."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Nesterov momentum of the noise's SGD."""
    batch_size: PositiveInt = 128
    """Reference batch of the released batch-mean loss; results do not depend on how many images fit in memory."""
    def_epoch: Annotated[int, Field(ge=0)] = 5
    """The noise is made after this many epochs of training, and added from then on."""
    def_epoch_pretrained: Annotated[int, Field(ge=0)] = 0
    """As ``def_epoch``, for victims that begin from a pretrained network (FRIENDS makes it at once)."""
    donor: NamedModel | None = None
    """Architecture that makes the noise, as a victim's ``model``; the victim's own if not given (FRIENDS, table 6)."""

    def begins(self, scenario: str) -> int:
        """The epoch from which a victim of this scenario trains on friendly noise."""
        return self.def_epoch if scenario == "from-scratch" else self.def_epoch_pretrained
