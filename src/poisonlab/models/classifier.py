"""The common interface of the lab's networks, and normalisation."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from poisonlab.data.dataset import check_statistics
from poisonlab.errors import SettingsError


class Classifier(nn.Module):
    """A feature extractor and a linear head.

    ``forward`` takes normalised images (B, C, H, W) float and returns logits (B, K); ``extract`` returns the
    penultimate features (B, D).
    """

    def __init__(self, extract: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.extract = extract
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.extract(x)))


def logits(output: object) -> Tensor:
    """The output of a network, checked to be a tensor.

    Raises:
        SettingsError: the output is no tensor, but for example an object of Hugging Face's networks with ``logits``.
    """
    if not isinstance(output, Tensor):
        raise SettingsError(
            f"the network returns a {type(output).__name__}, not a tensor of logits: wrap it, poisonlab.wrap(network)"
        )
    return output


class FrozenFeatures(Classifier):
    """A classifier with frozen features: only the head is trained (transfer learning).

    Gradients still flow to the input. With ``batch_norm`` "eval" the extractor stays in eval mode while the head is
    trained. With "train" its batch norms use the batch's statistics and update the running ones, as in FRIENDS'
    released code.
    """

    def __init__(self, extract: nn.Module, head: nn.Linear, batch_norm: str = "eval") -> None:
        super().__init__(extract.requires_grad_(False), head)
        self.batch_norm = batch_norm

    def train(self, mode: bool = True) -> FrozenFeatures:
        super().train(mode)
        if self.batch_norm == "eval":
            self.extract.eval()
        return self


class Normalize(nn.Module):
    """Subtract a per-channel mean and divide by a per-channel standard deviation; images (B, C, H, W) in [0, 1].

    Raises:
        DataError: a mean or standard deviation is outside [0, 1], the range of the pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        check_statistics(mean, std)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    @property
    def black(self) -> Tensor:
        """(1, C, 1, 1): a black pixel, normalised."""
        return -self.mean / self.std

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std
