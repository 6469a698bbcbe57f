"""Build the defenses of a row from their settings, for the training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from poisonlab import modules
from poisonlab.config.clashes import clash
from poisonlab.config.explaining import explained
from poisonlab.errors import SettingsError
from poisonlab.training.defense import Defense

_FILTERS = Path(__file__).parents[1] / "filters"


def build_defenses(rows: Sequence[Mapping[str, object]], *, noise: Tensor | None) -> list[Defense]:
    """One defense per mapping, in order; each is built by the module its ``method`` names.

    Args:
        rows: settings with ``method``.
        noise: friendly noise (N, C, H, W) for the defense that adds it; None if the training ends before it is added.

    Raises:
        SettingsError: a setting is unknown or impossible, a method is a filter, or two defenses cannot share a training
            (``poisonlab.config.clashes``).
    """
    if isinstance(rows, Mapping):
        raise SettingsError("defenses are a list of mappings, each with a method, not one mapping: put it in a list")
    if other := [row for row in rows if not isinstance(row, Mapping)]:
        raise SettingsError(f"a defense is a {type(other[0]).__name__}: give a mapping with its method and other keys")
    if (why := clash([str(row.get("method")) for row in rows])) is not None:
        raise SettingsError(f"these defenses cannot share a training, {why}")
    defenses: list[Defense] = []
    for row in rows:
        method = str(row.get("method"))
        try:
            module = modules.load("defenses", method)
        except SettingsError as error:
            if not (_FILTERS / f"{method.replace('-', '_')}.py").is_file():
                raise
            raise SettingsError(
                f"{method} is a filter, which acts before the training: train on what it keeps"
            ) from error
        try:
            chosen = module.Settings.model_validate(row)
        except ValidationError as error:
            raise explained(error, module.Settings, method) from error
        defenses.append(module.build(chosen, noise))
    return defenses
