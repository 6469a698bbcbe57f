"""A dataset on disk, as every stage after the first reads it: decoded once, whatever it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from poisonlab.artifacts.tensors import read_tensors, write_tensors
from poisonlab.config.validation import Validation
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import DataError

KIND = "dataset"
_SPLITS = ("train_images", "train_labels", "test_images", "test_labels")


def save_dataset(path: Path, dataset: ImageDataset) -> None:
    """Write the dataset as one safetensors file."""
    facts: dict[str, Any] = {
        "class_names": list(dataset.class_names),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
    }
    if dataset.validation is not None:
        facts["validation"] = dataset.validation.told()
    write_tensors(path, KIND, {name: getattr(dataset, name) for name in _SPLITS}, facts)


def read_dataset(path: Path) -> ImageDataset:
    """Read a dataset.

    Raises:
        DataError: the file is missing, damaged, or not a dataset.
    """
    tensors, facts = read_tensors(path, KIND)
    try:
        validation = facts.get("validation")
        return ImageDataset(
            **tensors,
            class_names=tuple(facts["class_names"]),
            mean=tuple(facts["mean"]),
            std=tuple(facts["std"]),
            validation=None if validation is None else Validation.model_validate(validation),
        )
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise DataError(f"{path} lacks parts of a dataset: delete it and run the workflow again") from error
