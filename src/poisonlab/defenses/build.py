"""Turn the settings of a row's defenses into the objects that the training loop drives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from poisonlab import modules
from poisonlab.config.stages import read_stage
from poisonlab.training.defense import Defense


def build_defenses(rows: Sequence[Mapping[str, object]], *, noise: Tensor | None) -> list[Defense]:
    """One defense per mapping, in order; each is built by the module its ``method`` names.

    Args:
        rows: settings with ``method``.
        noise: friendly noise (N, C, H, W) for the defense that adds it; None if the training ends before it does.

    Raises:
        SettingsError: a setting is unknown or impossible.
    """
    defenses: list[Defense] = []
    for row in rows:
        module = modules.load("defenses", str(row.get("method")))
        defenses.append(module.build(read_stage(module.Settings, row), noise))
    return defenses
