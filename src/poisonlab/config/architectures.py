"""The architectures that a study can choose from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from poisonlab.config.models.alexnet import AlexNet
from poisonlab.config.models.fast_cifar import FastCifar
from poisonlab.config.models.lenet import LeNet
from poisonlab.config.models.resnet18 import ResNet18
from poisonlab.config.models.resnet50 import ResNet50
from poisonlab.config.models.small_resnet import SmallResNet

# A new architecture joins this union.
ModelSettings = Annotated[ResNet18 | ResNet50 | AlexNet | FastCifar | LeNet | SmallResNet, Field(discriminator="name")]
