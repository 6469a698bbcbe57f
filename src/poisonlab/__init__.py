"""poisonlab: a reproducible laboratory for data poisoning of image classifiers.

docs/library.md begins with the names in ``__all__``. Each name is imported at its first use, so that a job loads only
the modules it needs. The package's own modules import a name from the module that defines it: code digests follow
imports, and no digest covers this file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poisonlab.artifacts.poison_set import PoisonSet
    from poisonlab.data.dataset import ImageDataset
    from poisonlab.data.sources import load_dataset
    from poisonlab.data.training_set import TrainingSet, training_set
    from poisonlab.defenses.build import build_defenses
    from poisonlab.defenses.friendly_noise import friendly_noise
    from poisonlab.defenses.random_noise import random_noise
    from poisonlab.errors import PoisonlabError
    from poisonlab.evaluation.intervals import holm, mcnemar_exact, mean_t, wilson
    from poisonlab.filters.activation_clustering import activation_clustering
    from poisonlab.filters.deep_knn import deep_knn
    from poisonlab.filters.l2_centroid import l2_centroid
    from poisonlab.filters.one_class_svm import one_class_svm
    from poisonlab.filters.spectral_signatures import spectral_signatures
    from poisonlab.models.networks import build_network, build_normalize
    from poisonlab.models.wrapping import wrap
    from poisonlab.pipelines.crafting import craft
    from poisonlab.pipelines.friendly_dataset import FriendlyDataset
    from poisonlab.pipelines.images import images_of
    from poisonlab.pipelines.noise_file import load_noise, save_noise
    from poisonlab.pipelines.noise_transforms import BernoulliNoise, GaussianNoise, UniformNoise
    from poisonlab.training.loop import train

__version__ = "0.1.0"

__all__ = [
    "BernoulliNoise",
    "FriendlyDataset",
    "GaussianNoise",
    "ImageDataset",
    "PoisonSet",
    "PoisonlabError",
    "TrainingSet",
    "UniformNoise",
    "activation_clustering",
    "build_defenses",
    "build_network",
    "build_normalize",
    "craft",
    "deep_knn",
    "friendly_noise",
    "holm",
    "images_of",
    "l2_centroid",
    "load_dataset",
    "load_noise",
    "mcnemar_exact",
    "mean_t",
    "one_class_svm",
    "random_noise",
    "save_noise",
    "spectral_signatures",
    "train",
    "training_set",
    "wilson",
    "wrap",
]

_MODULES = {
    "artifacts.poison_set": ("PoisonSet",),
    "data.dataset": ("ImageDataset",),
    "data.sources": ("load_dataset",),
    "data.training_set": ("TrainingSet", "training_set"),
    "defenses.build": ("build_defenses",),
    "defenses.friendly_noise": ("friendly_noise",),
    "defenses.random_noise": ("random_noise",),
    "errors": ("PoisonlabError",),
    "evaluation.intervals": ("holm", "mcnemar_exact", "mean_t", "wilson"),
    "filters.activation_clustering": ("activation_clustering",),
    "filters.deep_knn": ("deep_knn",),
    "filters.l2_centroid": ("l2_centroid",),
    "filters.one_class_svm": ("one_class_svm",),
    "filters.spectral_signatures": ("spectral_signatures",),
    "models.networks": ("build_network", "build_normalize"),
    "models.wrapping": ("wrap",),
    "pipelines.crafting": ("craft",),
    "pipelines.friendly_dataset": ("FriendlyDataset",),
    "pipelines.images": ("images_of",),
    "pipelines.noise_file": ("load_noise", "save_noise"),
    "pipelines.noise_transforms": ("BernoulliNoise", "GaussianNoise", "UniformNoise"),
    "training.loop": ("train",),
}
"""The names that each module defines."""


def __getattr__(name: str) -> Any:
    module = next((module for module, names in _MODULES.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
