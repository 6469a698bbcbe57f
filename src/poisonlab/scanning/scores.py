"""How suspicious each filter finds every image: scores that can be compared between classes.

A filter's verdict drops as many images as its settings say. A ranking needs scores instead:

deep-knn                 votes of the most frequent label among the neighbours, minus those of the image's own label
spectral-signatures      squared projection on the class's direction of largest variance, by modified z-score
l2-centroid              distance from the class's mean, by modified z-score
one-class-svm            depth outside the class's boundary, by modified z-score
activation-clustering    in the smaller of a class's two clusters, one minus its share of the class; in the larger, 0
epic                     minus the size of the cluster in gradient space: small clusters are suspicious; in a class too
                         small for a cluster, minus the number of all images
self-confidence          one minus the network's probability of the image's label (Northcutt, Jiang, Chuang 2021,
                         "Confident Learning", section 2)

Three of them measure in units of the class. The modified z-score of Iglewicz and Hoaglin 1993 ("How to Detect and
Handle Outliers", section 3) subtracts the class's median and divides by its median absolute deviation, which outliers
hardly change. If that is 0, it divides by the mean absolute deviation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from poisonlab.errors import SettingsError
from poisonlab.filters.activation_clustering import activation_clustering
from poisonlab.filters.deep_knn import deep_knn
from poisonlab.filters.epic import cluster_sizes, gradient_proxies
from poisonlab.filters.l2_centroid import l2_centroid
from poisonlab.filters.one_class_svm import one_class_svm
from poisonlab.filters.per_class import check_examples, class_rows
from poisonlab.filters.spectral_signatures import spectral_signatures
from poisonlab.filters.verdict import Verdict

COLUMNS = 65536
"""Images that one block of rows is compared with at a time."""
_COPIES = 3
"""Matrices of distances, candidates and places that the search holds at once."""
_ROUNDING = 1e-12
"""Largest rounding error between equal images, relative to the largest value of a class."""


@dataclass(frozen=True)
class Examples:
    """The input of the filters.

    Attributes:
        features: (N, D) float32.
        logits: (N, K) float32.
        labels: (N,) int64.
        neighbours: how many vote in deep k-NN; N - 1 if there are fewer images.
        memory: bytes that distances may take.
        seed: of the starts of activation clustering.
    """

    features: Tensor
    logits: Tensor
    labels: Tensor
    neighbours: int = 50
    memory: int = 2**29
    seed: int = 0


def rows_at_once(memory: int, images: int) -> int:
    """How many rows of a search for neighbours among ``images`` fit into ``memory`` bytes; at least 1."""
    return max(1, min(4096, memory // (4 * _COPIES * min(images, COLUMNS))))


def score(method: str, examples: Examples) -> Tensor:
    """(N,) float64: how suspicious the filter ``method`` finds each image, higher is more; see the module's text.

    Raises:
        DataError: features and labels do not fit, or are not finite.
        SettingsError: there is no such filter, or there are fewer than two images.
    """
    if method not in _FILTERS:
        raise SettingsError(f"filters: there is no {method!r}: choose from {', '.join(_FILTERS)}")
    return _FILTERS[method](examples).double().cpu()


def _deep_knn(examples: Examples) -> Tensor:
    k = min(examples.neighbours, len(examples.labels) - 1)
    rows = rows_at_once(examples.memory, len(examples.labels))
    found = deep_knn(examples.features, examples.labels, k=k, rule="paper", rows=rows, columns=COLUMNS).score
    assert found is not None
    return found


def _in_units_of_the_class(judge: Callable[[Tensor, Tensor], Verdict]) -> Callable[[Examples], Tensor]:
    """The filter's scores by modified z-score."""

    def scores(examples: Examples) -> Tensor:
        found = judge(examples.features, examples.labels).score
        assert found is not None
        return modified_z(found, examples.labels)

    return scores


def _activation_clustering(examples: Examples) -> Tensor:
    smaller = ~activation_clustering(examples.features, examples.labels, reduce="pca", seed=examples.seed).keep
    found = torch.zeros(len(smaller), dtype=torch.float64, device=smaller.device)
    for _, rows in class_rows(examples.labels):
        found[rows] = smaller[rows] * (1 - smaller[rows].double().mean())
    return found


def _epic(examples: Examples) -> Tensor:
    gradients = gradient_proxies(examples.logits, examples.labels)
    check_examples(gradients, examples.labels)
    # Without a medoid there are no clusters. A small class is not suspicious for its size.
    return -cluster_sizes(gradients, examples.labels, 0.1, examples.memory).clamp(max=len(examples.labels))


def _self_confidence(examples: Examples) -> Tensor:
    check_examples(examples.logits, examples.labels)
    logits = examples.logits.double()
    others = logits.scatter(1, examples.labels[:, None], -torch.inf)
    # One minus the softmax of the label, but not rounded to 0 for images that the network is sure of.
    return torch.sigmoid(others.logsumexp(1) - logits.gather(1, examples.labels[:, None])[:, 0])


_FILTERS: dict[str, Callable[[Examples], Tensor]] = {
    "deep-knn": _deep_knn,
    "spectral-signatures": _in_units_of_the_class(partial(spectral_signatures, expected=0)),
    "activation-clustering": _activation_clustering,
    "epic": _epic,
    "l2-centroid": _in_units_of_the_class(partial(l2_centroid, fraction=0)),
    "one-class-svm": _in_units_of_the_class(one_class_svm),
    "self-confidence": _self_confidence,
}


def modified_z(values: Tensor, labels: Tensor) -> Tensor:
    """The modified z-score of every value within its class; 0 where all values of a class are equal but for rounding.

    Args:
        values: (N,) float64.
        labels: (N,) int64.
    """
    found = torch.zeros_like(values)
    for _, rows in class_rows(labels):
        # For an even number, quantile takes the mean of the middle two; torch's median does not.
        away = values[rows] - values[rows].quantile(0.5)
        rounding = _ROUNDING * values[rows].abs().max()
        scale = 1.4826 * away.abs().quantile(0.5)
        if scale <= rounding:
            scale = 1.2533 * away.abs().mean()
        if scale > rounding:
            found[rows] = away / scale
    return found
