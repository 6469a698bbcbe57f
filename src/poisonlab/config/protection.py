"""Settings of friendly noise for the user's own training program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from poisonlab.config.architectures import ModelSettings
from poisonlab.config.datasets import DatasetSettings, source_of
from poisonlab.config.defenses.friendly_noise import FriendlyNoise
from poisonlab.config.defenses.random_noise import RandomNoise
from poisonlab.config.models.fast_cifar import FastCifar
from poisonlab.config.recipes import NamedRecipe
from poisonlab.config.stages import Seed
from poisonlab.config.types import FilePath, Settings


class Protection(Settings):
    """Which images get noise, and which network makes it."""

    dataset: DatasetSettings | None = None
    """The images, by the keys of a study's ``dataset``; its test split is not used."""
    model: ModelSettings = FastCifar()
    """Architecture of the network that makes the noise."""
    recipe: NamedRecipe = NamedRecipe(base="fast")
    """How the network is trained, up to ``friendly.def_epoch``; keys that are not given are those of ``fast``."""
    random: RandomNoise | None = RandomNoise(distribution="bernoulli")
    """Random noise in that training, as FRIENDS has it; null for none."""
    friendly: FriendlyNoise = FriendlyNoise(lam=10)
    """How the noise is made, after ``def_epoch`` epochs of training."""
    weights: FilePath | None = None
    """Safetensors file of a trained network's weights; nothing is trained then."""
    network: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    """A network of your own in place of ``model``, as ``module:function``. Called without arguments, the function
    returns a network from pixels in [0, 1] to logits, and ``weights`` are loaded into it."""
    seed: Seed = 0
    """Seed of the initial weights, the training and the noise's start."""

    @field_validator("recipe", mode="before")
    @classmethod
    def _fast(cls, value: Any) -> Any:
        return {"base": "fast", **value} if isinstance(value, Mapping) and "base" not in value else value

    @model_validator(mode="after")
    def _check(self) -> Protection:
        if self.network is not None and self.weights is None:
            raise ValueError("network needs weights: the lab trains only architectures that model names")
        if self.network is not None and (unused := {"model", "recipe", "random"} & self.model_fields_set):
            raise ValueError(f"network takes the place of {min(unused)}, which would not be used: leave it out")
        if self.friendly.donor is not None:
            raise ValueError("friendly.donor is the network of model here: set model")
        if self.weights is None and not 1 <= self.friendly.def_epoch <= self.recipe.epochs:
            raise ValueError(
                f"friendly.def_epoch is {self.friendly.def_epoch}: choose 1 to recipe.epochs ({self.recipe.epochs})"
            )
        if self.dataset is not None and getattr(source_of(self.dataset), "train_limit", None) is not None:
            raise ValueError("dataset.train_limit leaves images without noise: take it out")
        return self
