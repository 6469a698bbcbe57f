"""The work of one image in a network, in units of its forward pass.

Let F be the operations of a forward pass; a layer's gradient by its inputs and its gradient by its weights take about F
each (the first layer has no gradient by its inputs, which is why counts come out a few percent lower in training).

    prediction                            1 F
    gradient by inputs                    2 F    forward, back
    gradient by weights                   3 F    forward, and both gradients of every layer
    gradient by inputs of a function
      of the gradient by weights          8 F    3 F for the gradient itself; then for every layer two products for the
                                                 gradient by its output's gradient, two by its inputs and weights, and
                                                 the way back through the forward pass. The weights' own, 1 F, nobody
                                                 reads, but torch computes it
    gradient of an SGD step by weights    9 F    the same and the way back to the weights
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from poisonlab import modules
from poisonlab.config.models.model import Model
from poisonlab.models.classifier import Classifier

FORWARD = 1.0
BY_INPUTS = 2.0
BY_WEIGHTS = 3.0
MATCHING = 8.0
UNROLLED = 9.0


@dataclass(frozen=True)
class Network:
    """An architecture's work.

    Attributes:
        name: as configs call it.
        forward: operations of one image's forward pass.
        head: those of the last layer among them.
        features: numbers that the last layer is given.
    """

    name: str
    forward: float
    head: float
    features: int


@dataclass(frozen=True)
class Passes:
    """Forward passes that one image takes in a network: of a step's gradient by the weights that are trained, of a
    gradient by the image, and of matching those weights' gradient."""

    by_weights: float
    by_inputs: float
    matching: float


def training_passes(network: Network, frozen: bool) -> Passes:
    """Of a network that is trained as a whole, or with ``frozen`` features, whose weights take no gradient."""
    if not frozen:
        return Passes(BY_WEIGHTS, BY_INPUTS, MATCHING)
    return Passes(FORWARD + 2 * network.head / network.forward, BY_INPUTS, BY_INPUTS)


@cache
def network_of(settings: Model, classes: int, image_shape: tuple[int, int, int]) -> Network:
    """The work of the architecture that ``settings`` describe.

    Raises:
        SettingsError: the architecture cannot take images of this size.
    """
    options = settings.model_dump(exclude={"name"})
    # On this device nothing is drawn or computed; only shapes are followed.
    with torch.device("meta"):
        built: Classifier = modules.load("models", settings.name).build(classes, image_shape, **options)
        return measured(settings.name, built, image_shape)


def measured(name: str, network: Classifier, image_shape: tuple[int, int, int]) -> Network:
    """The work of a network that exists, on the device where it is."""
    weight = network.head.weight
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *image_shape, device=weight.device))
    return Network(name, float(counter.get_total_flops()), 2.0 * weight.numel(), weight.shape[1])
