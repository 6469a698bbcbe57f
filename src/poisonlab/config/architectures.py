"""The architectures that a study can choose from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from poisonlab.config.models.alexnet import AlexNet
from poisonlab.config.models.alexnet_lrn import AlexNetLrn
from poisonlab.config.models.densenet121 import DenseNet121
from poisonlab.config.models.dpn92 import DPN92
from poisonlab.config.models.fast_cifar import FastCifar
from poisonlab.config.models.googlenet import GoogLeNet
from poisonlab.config.models.lenet import LeNet
from poisonlab.config.models.mobilenet_v1 import MobileNetV1
from poisonlab.config.models.mobilenet_v2 import MobileNetV2
from poisonlab.config.models.resnet18 import ResNet18
from poisonlab.config.models.resnet50 import ResNet50
from poisonlab.config.models.resnext29 import ResNeXt29
from poisonlab.config.models.senet18 import SENet18
from poisonlab.config.models.small_resnet import SmallResNet
from poisonlab.config.models.timm import Timm
from poisonlab.config.models.torchvision import Torchvision
from poisonlab.config.models.vgg19 import VGG19

# A new architecture joins this union.
ModelSettings = Annotated[
    ResNet18
    | ResNet50
    | AlexNet
    | AlexNetLrn
    | DenseNet121
    | DPN92
    | FastCifar
    | GoogLeNet
    | LeNet
    | MobileNetV1
    | MobileNetV2
    | ResNeXt29
    | SENet18
    | SmallResNet
    | Timm
    | Torchvision
    | VGG19,
    Field(discriminator="name"),
]
