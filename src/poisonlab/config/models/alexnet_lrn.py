"""Settings of the modified AlexNet."""

from __future__ import annotations

from typing import Annotated, Literal

from poisonlab.config.models.model import Model
from poisonlab.config.types import LATER, NonNegativeFloat


class AlexNetLrn(Model):
    """AlexNet with local response normalisation (Poison Frogs, deep k-NN)."""

    name: Literal["alexnet-lrn"] = "alexnet-lrn"
    penalty: Annotated[NonNegativeFloat, LATER] = 0.0
    """L2 penalty on the weights of the two hidden linear layers, in every training and beside the recipe's
    ``weight_decay``; 0.004 in the code of feature collision, which decays nothing else."""
