"""Whether a network has learned its training images, so that features and noise of it are worth something."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

_LEARNED = 0.6
_BEYOND = 0.05


def largest_share(labels: ArrayLike) -> float:
    """The share of images that the largest class has; a network that always names that class fits as many."""
    counts = np.bincount(np.asarray(labels))
    return int(counts.max()) / int(counts.sum())


def has_learned(fitted: float, labels: ArrayLike) -> bool:
    """Whether a network fits enough of its images: 60 %, and 5 points more than the largest class alone has.

    Args:
        fitted: share of the images that the network gives their label.
        labels: (N,) integers from 0, of these images.
    """
    share = largest_share(labels)
    # Of a class with nearly all images, half of the others must be fitted.
    return fitted >= _LEARNED and fitted > share + min(_BEYOND, (1 - share) / 2)
