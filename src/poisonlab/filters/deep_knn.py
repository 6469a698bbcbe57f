"""Deep k-NN: drop an example whose nearest neighbours in feature space mostly carry other labels.

Peri et al. 2020, "Deep k-NN Defense against Clean-label Data Poisoning Attacks", algorithm 1. Three rules:

    released        keep if at least half of the k neighbours share the example's label (the k-NN filter released with
                    gradient matching and Sleeper Agent)
    paper           keep if no label is more frequent among the k neighbours than the example's own; a tie keeps it
    smallest-label  keep if the example's label is the most frequent, and the smallest among equally frequent ones (code
                    released with the paper, which calls a classifier of scikit-learn)

An example is not its own neighbour; the paper's counts (k = 2p + 1 against p poisons) require this. The code released
with the paper counts the example as its own nearest neighbour: ``self_counts``.
"""

from __future__ import annotations

from numbers import Integral
from typing import Literal, get_args

import torch
from torch import Tensor

from poisonlab.config.filters.deep_knn import DeepKnn as Settings
from poisonlab.errors import DataError, SettingsError
from poisonlab.filters.neighbours import Neighbours
from poisonlab.filters.per_class import check_examples
from poisonlab.filters.verdict import Verdict

Rule = Literal["released", "paper", "smallest-label"]


def released_k(fraction: float, examples: int, factor: float = 2.0) -> int:
    """The release's number of neighbours: ``factor`` times the expected number of poisons; 1000 for 1 % of 50,000."""
    return int(factor * fraction * examples)


@torch.no_grad()
def deep_knn(
    features: Tensor,
    labels: Tensor,
    *,
    k: int,
    rule: Rule = "released",
    self_counts: bool = False,
    rows: int = 512,
    columns: int = 65536,
) -> Verdict:
    """Filter by the labels of the k nearest neighbours (Euclidean, unscaled features).

    Neighbours are exact, and ties in distance go to the lower row, so the result is independent of device and chunks.
    50,000 examples of 512 features need about 0.4 GB in addition to the features.

    Args:
        features: (N, D) floating: penultimate features, in eval mode and without augmentation.
        labels: (N,) int64.
        k: neighbours that vote, 1 <= k < N; the paper takes the class size, the release ``released_k``.
        rule: see the module's text.
        self_counts: the example is the first of its own k neighbours.
        rows, columns: examples compared at a time; they bound the memory.

    Returns:
        keep (N,) bool, and score (N,) int64, comparable between classes; scores up to 0 are kept. The score is the
        votes of other labels (released), or of the most frequent label (paper), minus the votes of the own label. With
        smallest-label, 1 is added to the paper's score if a smaller label has the most votes.

    Raises:
        DataError: features and labels do not fit.
        SettingsError: ``k`` is no whole number in [1, N), or ``rule`` is unknown.
    """
    check_examples(features, labels)
    if rule not in get_args(Rule):
        raise SettingsError(f"there is no rule {rule!r}: choose from {', '.join(get_args(Rule))}")
    if not isinstance(k, Integral):
        raise SettingsError(f"k={k!r} neighbours: give a whole number")
    if not 1 <= k < len(labels):
        raise SettingsError(
            f"k={k} neighbours cannot be found among {len(labels)} examples: choose k from 1 to {len(labels) - 1}"
        )
    classes, codes = torch.unique(labels, return_inverse=True)
    neighbours = Neighbours(features, columns=columns)
    scores = []
    for block in torch.split(torch.arange(len(labels), device=labels.device), rows):
        votes = _votes(neighbours, block, k - self_counts, codes, len(classes))
        own = codes[block][:, None]
        if self_counts:
            votes.scatter_add_(1, own, torch.ones_like(own))
        same = votes.gather(1, own)[:, 0]
        if rule == "released":
            scores.append(k - 2 * same)
        else:
            # Among several maxima argmax returns the first.
            lost = (rule == "smallest-label") & (votes.argmax(1) < own[:, 0])
            scores.append(votes.amax(1) - same + lost)
    score = torch.cat(scores)
    return Verdict(score <= 0, score)


def _votes(neighbours: Neighbours, rows: Tensor, k: int, codes: Tensor, classes: int) -> Tensor:
    """Votes (R, classes) int64 of the ``k`` nearest others."""
    votes = torch.zeros(len(rows), classes, dtype=torch.int64, device=rows.device)
    if k == 0:
        return votes
    candidates, chosen = neighbours.of(rows, k)
    return votes.scatter_add_(1, codes[candidates], chosen.long())


def judge(settings: Settings, features: Tensor, labels: Tensor, *, seed: int = 0) -> Verdict:
    """The verdict of the filter that ``settings`` describes.

    Raises:
        DataError: the filter drops every example.
        SettingsError: there are too few examples for k neighbours.
    """
    k = settings.k or released_k(settings.expected, len(labels), settings.factor)
    if settings.k is None and not 1 <= k < len(labels):
        raise SettingsError(
            f"deep-knn: {len(labels)} examples times expected ({settings.expected:g}) and factor "
            f"({settings.factor:g}) make k={k} neighbours: give k, from 1 to {len(labels) - 1}"
        )
    verdict = deep_knn(features, labels, k=k, rule=settings.rule, self_counts=settings.self_counts)
    if not bool(verdict.keep.any()):
        raise DataError(f"deep-knn drops every example with k={k}: lower k (or expected) below the size of a class")
    return verdict
