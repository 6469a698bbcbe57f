"""Whether a network has learned its training images, so that its features and noise are meaningful."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

_LEARNED = 0.6
_BEYOND = 0.05


def largest_share(labels: ArrayLike) -> float:
    """The share of images in the largest class; a network that always predicts this class fits as many."""
    counts = np.bincount(np.asarray(labels))
    return int(counts.max()) / int(counts.sum())


def has_learned(fitted: float, labels: ArrayLike) -> bool:
    """Whether a network fits enough of its images: 60 %, and 5 points more than the largest class alone has.

    Args:
        fitted: share of the images that the network classifies as their label says.
        labels: (N,) integers from 0, of these images.
    """
    share = largest_share(labels)
    # If a class has nearly all images, half of the others must be fitted.
    return fitted >= _LEARNED and fitted > share + min(_BEYOND, (1 - share) / 2)
