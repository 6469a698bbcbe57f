"""Common settings of networks from other libraries."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from poisonlab.config.models.model import Model
from poisonlab.config.types import InputPath

ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$", max_length=100)]
Option = bool | int | float | Annotated[str, Field(max_length=200)]
OptionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]

# The lab decides these; some would download weights, or read them with pickle.
_TAKEN = (
    "cache_dir",
    "checkpoint_path",
    "in_chans",
    "num_classes",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_strict",
    "progress",
    "weights",
    "weights_backbone",
)


class LibraryModel(Model):
    """A network of another library, by its name there."""

    model: ModelName
    """The library's name of the network."""
    pretrained: InputPath | None = None
    """Safetensors file with initial weights under the library's names; random weights if not given. A head for another
    number of classes is drawn again, and the log says so. Any other difference is an error. Nothing is downloaded."""
    options: dict[OptionName, Option | tuple[Option, ...]] = Field({})
    """Options of the library's constructor, such as ``drop_rate`` or ``patch_size``."""

    @model_validator(mode="after")
    def _check_options(self) -> LibraryModel:
        if taken := sorted(self.options.keys() & set(_TAKEN)):
            raise ValueError(f"options must not hold {taken[0]}: the lab sets it by the dataset and by pretrained")
        return self
