"""Features and logits of every image by one network, computed once for all filters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.artifacts.tensors import read_tensors, write_tensors
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import TrainingSet
from poisonlab.errors import DataError
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.models.outputs import outputs_of

KIND = "features"


@dataclass(frozen=True)
class Features:
    """Penultimate features in eval mode and without augmentation, scaled to length one.

    The length of unscaled features shows how sure the network is. So the images farthest out would be the most typical
    ones of their class, and filters that use distances would agree on these.

    Attributes:
        features: (N, D) float32, of the training images, poisons included; zeros stay zeros.
        logits: (N, K) float32.
        test_features: (M, D) float32; (0, D) if there is no test split, or none was requested.
        fitted: share of the training images that the network gives their label.
        accuracy: the same share of the test images; None without test images.
    """

    features: Tensor
    logits: Tensor
    test_features: Tensor
    fitted: float
    accuracy: float | None

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        tensors = {name: getattr(self, name) for name in ("features", "logits", "test_features")}
        write_tensors(path, KIND, tensors, {"fitted": self.fitted, "accuracy": self.accuracy})

    @classmethod
    def load(cls, path: Path) -> Features:
        """Read what ``save`` wrote.

        Raises:
            DataError: the file is missing, damaged, or of another kind.
        """
        tensors, facts = read_tensors(path, KIND)
        try:
            return cls(fitted=facts["fitted"], accuracy=facts["accuracy"], **tensors)
        except (TypeError, KeyError) as error:
            raise DataError(f"{path} lacks parts of features: delete it and run the workflow again") from error


def has_test_split(dataset: ImageDataset) -> bool:
    """Whether test and training images differ; data with one split use it as both."""
    return not (
        torch.equal(dataset.test_labels, dataset.train_labels)
        and torch.equal(dataset.test_images, dataset.train_images)
    )


@torch.no_grad()
def features_of(
    network: Classifier, normalize: Normalize, data: TrainingSet, test_images: Tensor, test_labels: Tensor
) -> Features:
    """The features of a training set and of test images.

    Args:
        network: trained, on the device to compute on.
        normalize: the dataset's, on the same device.
        data: images (N, C, H, W) and labels.
        test_images: (M, C, H, W) uint8; M may be 0.
        test_labels: (M,) int64.
    """
    extract = nn.Sequential(network.extract, nn.Flatten())
    features = outputs_of(extract, normalize, data.images)
    logits = _logits(network, features)
    tests = outputs_of(extract, normalize, test_images) if len(test_images) else features[:0]
    accuracy = _right(_logits(network, tests), test_labels) if len(tests) else None
    scaled, others = F.normalize(features).cpu(), F.normalize(tests).cpu()
    return Features(scaled, logits.cpu(), others, _right(logits, data.labels), accuracy)


def _logits(network: Classifier, features: Tensor) -> Tensor:
    head = network.head
    return F.linear(features, head.weight.float(), None if head.bias is None else head.bias.float())


def _right(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1).cpu() == labels).double().mean())
