import sys

import torch
import torch.nn.functional as F
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2

from poisonlab import BernoulliNoise, FriendlyDataset, friendly_noise, images_of

folder, epochs = sys.argv[1], int(sys.argv[2])
data = ImageFolder(folder, v2.Compose([v2.Resize((32, 32)), v2.ToImage()]))
images = images_of(data)
transform = v2.Compose([BernoulliNoise(16), v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()])
model = torch.nn.Sequential(v2.Normalize([0.5] * 3, [0.25] * 3), resnet18(num_classes=len(data.classes)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
noise = torch.zeros(images.shape)
for epoch in range(epochs):
    if epoch == 5:  # from here on, images carry friendly noise made with the current network
        noise = friendly_noise(model, images)
    for batch, labels in torch.utils.data.DataLoader(FriendlyDataset(data, noise, transform), 128, shuffle=True):
        loss = F.cross_entropy(model(batch), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
