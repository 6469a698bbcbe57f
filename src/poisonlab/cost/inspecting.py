"""The work of filters and detectors, which look at a finished victim; new ones join ``FILTERS`` or ``DETECTORS``.

Not counted: what scikit-learn does on the CPU (k-means, the solver of the support vector machine).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from poisonlab.config.detection.detector import Detector
from poisonlab.config.detection.neural_cleanse import NeuralCleanse
from poisonlab.config.detection.strip import Strip
from poisonlab.config.filters.activation_clustering import ActivationClustering
from poisonlab.config.filters.deep_knn import DeepKnn
from poisonlab.config.filters.filter import Filter
from poisonlab.config.filters.l2_centroid import L2Centroid
from poisonlab.config.filters.one_class_svm import OneClassSvm
from poisonlab.config.filters.random_filter import RandomFilter
from poisonlab.config.filters.spectral_signatures import SpectralSignatures
from poisonlab.cost.amount import Work, passes
from poisonlab.cost.networks import BY_INPUTS, BY_WEIGHTS, FORWARD, Network
from poisonlab.cost.sizes import Sizes
from poisonlab.cost.training import known


@dataclass(frozen=True)
class Sieve:
    """What a filter computes beyond the features, in operations, and the share of the examples that it keeps: all where
    that depends on the data."""

    flops: float = 0.0
    kept: float = 1.0


@dataclass(frozen=True)
class Examples:
    """How many a filter is given, in how many classes, and the numbers in each one's features."""

    count: float
    classes: int
    features: int


def _activation_clustering(settings: ActivationClustering, examples: Examples) -> Sieve:
    return Sieve()


def _deep_knn(settings: DeepKnn, examples: Examples) -> Sieve:
    return Sieve(2 * examples.count**2 * examples.features)


def _l2_centroid(settings: L2Centroid, examples: Examples) -> Sieve:
    return Sieve(kept=1 - settings.fraction)


def _one_class_svm(settings: OneClassSvm, examples: Examples) -> Sieve:
    return Sieve(2 * examples.count**2 / examples.classes * examples.features, 1 - settings.nu)


def _random_filter(settings: RandomFilter, examples: Examples) -> Sieve:
    return Sieve(kept=1 - settings.fraction)


def _spectral_signatures(settings: SpectralSignatures, examples: Examples) -> Sieve:
    dropped = settings.factor * settings.expected * examples.classes
    return Sieve(2 * examples.count * examples.features**2, max(0.0, 1 - dropped))


FILTERS: Mapping[str, Callable[[Any, Examples], Sieve]] = {
    "activation-clustering": _activation_clustering,
    "deep-knn": _deep_knn,
    "l2-centroid": _l2_centroid,
    "one-class-svm": _one_class_svm,
    "random-filter": _random_filter,
    "spectral-signatures": _spectral_signatures,
}
"""By method: what a filter does with so many examples."""


def filtering(filters: Sequence[Filter], network: Network, examples: float, classes: int) -> tuple[Work, float]:
    """The work of a row's filters, and how many of ``examples`` they keep.

    Raises:
        SettingsError: a filter's work is not known.
    """
    work = passes("forward", network, FORWARD, examples) if filters else Work()
    for settings in filters:
        sieve: Sieve = known(FILTERS, settings, "inspecting")(settings, Examples(examples, classes, network.features))
        work, examples = work + Work({("forward", network.name): sieve.flops}), examples * sieve.kept
    return work, examples


def _strip(settings: Strip, network: Network, clean: float, judged: float, classes: int) -> Work:
    # Half of the clean images set the threshold.
    return passes("forward", network, FORWARD, settings.count * (clean / 2 + judged))


def _neural_cleanse(settings: NeuralCleanse, network: Network, clean: float, judged: float, classes: int) -> Work:
    searching = passes("train", network, BY_INPUTS, classes * settings.epochs * clean)
    trying = passes("forward", network, FORWARD, classes * clean)
    return searching + trying + passes("train", network, BY_WEIGHTS, settings.repair_epochs * clean)


DETECTORS: Mapping[str, Callable[[Any, Network, float, float, int], Work]] = {
    "neural-cleanse": _neural_cleanse,
    "strip": _strip,
}
"""By method: what a detector does with so many clean images, images to judge, and classes."""


def detecting(settings: Detector, network: Network, sizes: Sizes, targets: int) -> Work:
    """The work of one detection and of measuring what becomes of the ``targets`` and of test accuracy.

    Raises:
        SettingsError: the detector's work is not known.
    """
    judged = targets + sizes.test
    work: Work = known(DETECTORS, settings, "inspecting")(
        settings, network, settings.clean_share * sizes.train, judged, sizes.classes
    )
    return work + passes("forward", network, FORWARD, judged)
