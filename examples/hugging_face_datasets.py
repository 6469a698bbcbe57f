"""FRIENDS with Hugging Face's datasets: python examples/hugging_face_datasets.py FOLDER NOISE EPOCHS

FOLDER has one folder per class, of images of one shape; NOISE was made by `make protect DATA=FOLDER OUT=NOISE`.
"""

import sys

import datasets
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision.models import resnet18
from torchvision.transforms import v2

from poisonlab import BernoulliNoise, FriendlyDataset


def main(folder: str, noise: str, epochs: str) -> None:
    data = datasets.load_dataset("imagefolder", data_dir=folder, split="train")
    files = [image["path"] for image in data.cast_column("image", datasets.Image(decode=False))["image"]]
    augmentation = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.Normalize([0.5] * 3, [0.25] * 3)]
    transform = v2.Compose([BernoulliNoise(16), *augmentation])
    protected = FriendlyDataset(data, noise, transform, names=files, key="image")
    model = resnet18(num_classes=len(data.features["label"].names))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for _epoch in range(int(epochs)):
        for batch in DataLoader(protected, batch_size=128, shuffle=True):
            loss = F.cross_entropy(model(batch["image"]), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    main(*sys.argv[1:])
