"""Activation clustering: split every class in two by k-means and drop the smaller part.

Chen et al. 2018, "Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering", sections 4 and 5. The
releases of gradient matching and Sleeper Agent cluster the raw features and drop the smaller cluster of every class,
which costs clean classes up to half their examples. The paper first reduces features to 10 independent components, and
drops only from classes whose clusters look poisoned. With ``threshold``, these are the classes whose smaller cluster is
a small enough share of the class (the relative-size rule; 0.35 is usual). The Adversarial Robustness Toolbox reduces
features by PCA.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, get_args

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, FastICA
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from poisonlab.config.filters.activation_clustering import ActivationClustering as Settings
from poisonlab.errors import SettingsError
from poisonlab.filters.per_class import check_examples, class_rows
from poisonlab.filters.verdict import Verdict
from poisonlab.randomness import stream_seed

Reduction = Literal["none", "pca", "ica"]


def activation_clustering(
    features: Tensor,
    labels: Tensor,
    *,
    reduce: Reduction = "none",
    dims: int = 10,
    threshold: float | None = None,
    seed: int = 0,
) -> Verdict:
    """Filter by two-means clusters of every class.

    A class with one example, or with equal examples, is kept whole. If both clusters have the same size, the one
    without the class's first example counts as the smaller.

    Args:
        features: (N, D) floating: penultimate features, in eval mode and without augmentation.
        labels: (N,) int64.
        reduce: how to project each class on ``dims`` components before clustering.
        dims: number of components; fewer if the features of a class span fewer dimensions.
        threshold: drop only clusters of less than this share of their class; None drops every smaller cluster.
        seed: of the clusters' (and ICA's) starts; each class has a stream of its own.

    Returns:
        keep (N,) bool; no score.

    Raises:
        DataError: features and labels do not fit.
        SettingsError: ``reduce`` is unknown, ``dims`` is below 1, or ``threshold`` is no share in (0, 1].
    """
    check_examples(features, labels)
    if reduce not in get_args(Reduction):
        raise SettingsError(f"there is no reduce={reduce!r}: choose from {', '.join(get_args(Reduction))}")
    if dims < 1 or not (threshold is None or 0 < threshold <= 1):
        raise SettingsError(
            f"dims is {dims} and threshold {threshold}: give 1 component or more, and as threshold a share in (0, 1]"
        )
    if features.dtype in (torch.bfloat16, torch.float16):
        features = features.float()  # numpy has no bfloat16, its linear algebra no float16
    keep = torch.ones_like(labels, dtype=torch.bool)
    for label, rows in class_rows(labels):
        if len(rows) < 2:
            continue
        start = stream_seed(seed, "activation-clustering", label) % 2**32
        points = _reduced(features[rows].detach().cpu().numpy(), reduce, dims, start)
        smaller = torch.from_numpy(_smaller_cluster(points, start)).to(keep.device)
        if threshold is None or int(smaller.sum()) < threshold * len(rows):
            keep[rows] = ~smaller
    return Verdict(keep)


def _smaller_cluster(points: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    """(n,) bool: the members of the smaller of two clusters."""
    with warnings.catch_warnings():
        # Equal points make one cluster; the other cluster is empty, so nothing is dropped.
        warnings.simplefilter("ignore", ConvergenceWarning)
        assigned = KMeans(2, n_init=10, random_state=seed).fit(points).labels_
    other = assigned != assigned[0]
    members: np.ndarray[Any, Any] = other if 2 * other.sum() <= len(other) else ~other
    return members


def _reduced(points: np.ndarray[Any, Any], reduce: Reduction, dims: int, seed: int) -> np.ndarray[Any, Any]:
    if reduce == "none":
        return points
    # Components beyond the rank would be rounding errors, which ICA scales up to the variance of the others.
    rounding = float(np.abs(points).max()) * float(np.finfo(points.dtype).eps) * max(points.shape)
    count = min(dims, int(np.linalg.matrix_rank(points - points.mean(0), tol=rounding)))
    if count == 0:
        return points
    reducer = (
        PCA(count, svd_solver="full")
        if reduce == "pca"
        else FastICA(count, whiten="unit-variance", random_state=seed, max_iter=1000)
    )
    reduced: np.ndarray[Any, Any] = reducer.fit_transform(points)
    return reduced


def judge(settings: Settings, features: Tensor, labels: Tensor, *, seed: int = 0) -> Verdict:
    """The verdict of the filter that ``settings`` describes."""
    return activation_clustering(
        features, labels, reduce=settings.reduce, dims=settings.dims, threshold=settings.threshold, seed=seed
    )
