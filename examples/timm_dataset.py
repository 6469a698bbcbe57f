"""FRIENDS with timm's dataset and loader: python examples/timm_dataset.py FOLDER NOISE EPOCHS

FOLDER has one folder per class, of images of one shape; NOISE was made by `make protect DATA=FOLDER OUT=NOISE`. timm's
transforms take PIL images, hence output="pil". create_loader replaces the dataset's transform, as in timm's train.py.
"""

import sys

import timm
import timm.data
import torch
import torch.nn.functional as F

from poisonlab import BernoulliNoise, FriendlyDataset


def main(folder: str, noise: str, epochs: str) -> None:
    data = timm.data.create_dataset("", root=folder, split="train")
    protected = FriendlyDataset(data, noise, names=data.filenames(absolute=True), output="pil")
    options = {"is_training": True, "no_aug": False, "scale": (0.8, 1.0), "use_prefetcher": False, "num_workers": 0}
    loader = timm.data.create_loader(protected, (3, 32, 32), batch_size=8, persistent_workers=False, **options)
    steps = protected.transform.transforms
    place = next(number for number, step in enumerate(steps) if type(step).__name__ == "Normalize")
    steps.insert(place, BernoulliNoise(16))
    model = timm.create_model("resnet18", num_classes=len(data.reader.class_to_idx))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for _epoch in range(int(epochs)):
        for images, labels in loader:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    main(*sys.argv[1:])
