"""What torch really computes: the operations of every convolution and matrix product that is dispatched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from poisonlab.cost.networks import Network, measured
from poisonlab.data.training_set import TrainingSet
from poisonlab.models import small_resnet
from poisonlab.models.classifier import Classifier, Normalize

SHAPE, CLASSES = (3, 16, 16), 4
NORMALIZE = Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class _Counter(TorchDispatchMode):
    """As ``torch.utils.flop_counter.FlopCounterMode``, whose module hooks do not survive a second backward pass.

    Torch's formula counts the weight gradient of a convolution in groups as often as there are groups, so what vmap
    batches over several weights or weight gradients cannot be measured so.
    """

    flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def counted(call: Callable[[], object]) -> float:
    """Operations of a call."""
    with _Counter() as counter:
        call()
    return float(counter.flops)


def tiny(norm: str = "batch") -> Classifier:
    torch.manual_seed(0)
    return small_resnet.build(CLASSES, SHAPE, width=8, stem_stride=1, norm=norm)


def work_of(network: Classifier) -> Network:
    return measured("tiny", network, SHAPE)


def images(count: int) -> TrainingSet:
    drawn = torch.randint(0, 256, (count, *SHAPE), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return TrainingSet(drawn, torch.arange(count) % CLASSES, torch.arange(count))
