"""Common settings of architectures, and how to find those of a named one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from poisonlab import modules
from poisonlab.config.types import Name, Settings

Dropout = Annotated[float, Field(ge=0, lt=1)]
Norm = Literal["batch", "group"]


_BY_NAME: dict[str, type[Model]] = {}
"""The architectures whose settings are imported, by name."""


class Model(Settings):
    """Settings of an architecture; the other fields are the options of its module's ``build``."""

    name: str
    """Name of the module of ``poisonlab.models`` that builds it, and of the module here with its settings."""
    batch_normed: ClassVar[bool] = False
    """Whether it always has batch norm, without a setting for another norm; unknown for networks of other libraries."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        _BY_NAME[cls.model_fields["name"].default] = cls

    @property
    def mixes_examples(self) -> bool:
        """Whether batch norm mixes examples in training, so that they have no gradients of their own, as far as
        settings tell."""
        return self.batch_normed or getattr(self, "norm", None) == "batch"


# Modules here that hold no architecture.
_NONE = ("__init__", "model")


def _of_its_own(values: Any) -> Any:
    """Check settings by the class of the architecture that they name, which its module defines."""
    if not isinstance(values, Mapping) or "name" not in values:
        return values
    known = sorted(path.stem.replace("_", "-") for path in Path(__file__).parent.glob("*.py") if path.stem not in _NONE)
    if values["name"] not in known:
        raise ValueError(f"there is no architecture {values['name']!r:.100}: choose one of {', '.join(known)}")
    modules.load("config.models", values["name"])
    return _BY_NAME[values["name"]].model_validate(values)


_SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}

NamedModel = Annotated[Model, BeforeValidator(_of_its_own), WithJsonSchema(_SCHEMA)]
"""Settings of whichever architecture they name. No other architecture is imported, so that a job depends on its own
only."""


class NamedNetwork(Settings):
    """A trained network that a job receives: its name and architecture."""

    name: Name
    model: NamedModel
