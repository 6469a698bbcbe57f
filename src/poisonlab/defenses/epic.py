"""EPIC: during the training, drop the examples of small clusters in gradient space.

Yang, Liu, Mirzasoleiman 2022, "Not All Poisons are Created Equal: Robust Training against Data Poisoning", section 4
and algorithm 1; see ``poisonlab.filters.epic`` for one selection. As released, an epoch e begins with a selection if

    e mod interval = 0,   drop_after <= e < stop_after,   e <= the last milestone of the learning rate,

and dropped examples never return. The release always selects medoids among all examples, dropped ones included, so
that the number of medoids stays the same (``pool: full``).

Gradients are taken in eval mode, in float32, of images without augmentation and without the changes of other defenses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.config.defenses.epic import Epic as Settings
from poisonlab.data.training_set import TrainingSet
from poisonlab.errors import PoisonlabError, SettingsError
from poisonlab.filters.epic import epic, gradient_proxies
from poisonlab.models.classifier import Classifier
from poisonlab.models.outputs import outputs_of
from poisonlab.training.defense import Defense, EpochEnd


@dataclass(frozen=True)
class Epic(Defense):
    """Filter the training set between epochs."""

    settings: Settings

    def end_epoch(self, end: EpochEnd) -> TrainingSet:
        """The examples kept for the next epoch, in the order of ``end.data``.

        Raises:
            SettingsError: ``bias`` is false and the network is no ``Classifier``, so its last layer is unknown.
            PoisonlabError: no example would be left.
        """
        if end.epoch + 1 not in self.settings.selections(end.recipe):
            return end.data
        pool = end.full if self.settings.pool == "full" else end.data
        proxies = gradient_proxies(self._logits(end, pool), pool.labels)
        keep = epic(proxies, pool.labels, fraction=self.settings.fraction, alone=self.settings.alone).keep
        left = end.data.keep(torch.isin(end.data.rows, pool.rows[keep]))
        if len(left) == 0:
            raise PoisonlabError(
                f"EPIC drops all remaining examples after epoch {end.epoch}, because each is in a cluster of at most "
                f"{self.settings.alone}: lower alone or fraction"
            )
        return left

    def _logits(self, end: EpochEnd, data: TrainingSet) -> Tensor:
        """(N, K) float32."""
        if self.settings.bias:
            return outputs_of(end.model, end.normalize, data.images)
        if not isinstance(end.model, Classifier):
            raise SettingsError(
                f"EPIC does not know the last layer of a {type(end.model).__name__}, so it cannot leave out its bias: "
                "set bias: true, or wrap the network, poisonlab.wrap(network, head=<name of its last layer>)"
            )
        logits, bias = outputs_of(end.model, end.normalize, data.images), end.model.head.bias
        return logits if bias is None else logits - bias.detach()


def build(settings: Settings, noise: Tensor | None = None) -> Epic:
    """The defense that ``settings`` describes."""
    return Epic(settings)
