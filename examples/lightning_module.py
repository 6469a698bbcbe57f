"""FRIENDS with Lightning: python examples/lightning_module.py FOLDER NOISE EPOCHS

FOLDER has one folder per class; NOISE was made by `make protect DATA=FOLDER OUT=NOISE SIZE=32`.
"""

import sys

import lightning
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2

from poisonlab import BernoulliNoise, FriendlyDataset


class Classifier(lightning.LightningModule):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.network = resnet18(num_classes=classes)

    def training_step(self, batch: list[torch.Tensor], number: int) -> torch.Tensor:
        images, labels = batch
        return F.cross_entropy(self.network(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)


def main(folder: str, noise: str, epochs: str) -> None:
    still = v2.Compose([v2.Resize((32, 32)), v2.ToImage()])
    augmentation = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.Normalize([0.5] * 3, [0.25] * 3)]
    data = ImageFolder(folder, still)
    protected = FriendlyDataset(data, noise, v2.Compose([BernoulliNoise(16), *augmentation]))
    loader = DataLoader(protected, batch_size=128, shuffle=True)
    quiet = {"logger": False, "enable_checkpointing": False}
    lightning.Trainer(max_epochs=int(epochs), **quiet).fit(Classifier(len(data.classes)), loader)


if __name__ == "__main__":
    main(*sys.argv[1:])
