"""Bounds count in levels of 1/255 and statistics in the [0, 1] range: whatever is in the other unit is refused."""

from __future__ import annotations

import copy
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError
from tests.config.test_study import BASE

from poisonlab.config.attack_settings import AttackSettings
from poisonlab.config.attacks.gradient_matching import GradientMatching
from poisonlab.config.attacks.imported import Imported
from poisonlab.config.attacks.metapoison import MetaPoison
from poisonlab.config.attacks.regions import Regions
from poisonlab.config.data.npz import Npz
from poisonlab.config.defenses.random_noise import RandomNoise
from poisonlab.config.defenses.strong_augmentation import StrongAugmentation
from poisonlab.config.figures import Landscape
from poisonlab.config.rows import TrainingSettings
from poisonlab.config.study import read_study
from poisonlab.errors import SettingsError

INTENSITIES = ("eps", "zeta", "mu", "init", "radius")
"""Names of the keys that docs/config.md calls intensities."""
ATTACKS = get_args(get_args(AttackSettings)[0])
KINDS: tuple[type[BaseModel], ...] = (*ATTACKS, *get_args(TrainingSettings), Landscape)
NEEDED: dict[type[BaseModel], dict[str, Any]] = {
    **{kind: {"name": "x"} | ({"surrogate": "base"} if "surrogate" in kind.model_fields else {}) for kind in ATTACKS},
    Imported: {"name": "x", "path": "poisons"},
    RandomNoise: {"distribution": "uniform"},
    StrongAugmentation: {"kind": "mixup"},
}
# Whole numbers of levels are refused as such.
BOUNDS = [
    (kind, field)
    for kind in KINDS
    for field in INTENSITIES
    if field in kind.model_fields and kind.model_fields[field].annotation is not int
]


def made(kind: type[BaseModel], **values: Any) -> Any:
    return kind(**NEEDED.get(kind, {}), **values)


@pytest.mark.parametrize(("kind", "field"), BOUNDS)
def test_a_bound_in_the_unit_range_is_refused_with_the_number_of_levels(kind: type[BaseModel], field: str) -> None:
    with pytest.raises(ValidationError, match=r"0.0314 is less than one level.*write 8 or \"8/255\""):
        made(kind, **{field: 0.0314})
    assert getattr(made(kind, **{field: 1}), field) == 1


@pytest.mark.parametrize(("kind", "field"), [*BOUNDS, (Regions, "eps"), (MetaPoison, "lr")])
@pytest.mark.parametrize("text", ["8/255", " 8 / 255 ", "8.0/255"])
def test_a_text_over_255_counts_levels(kind: type[BaseModel], field: str, text: str) -> None:
    settings = made(kind, **{field: text})
    assert getattr(settings, field) == 8
    # The same strings as of the number, so that no result is made anew.
    assert settings.told() == made(kind, **{field: 8}).told()


@pytest.mark.parametrize("text", ["8/256", "8/255/255", "-8/255", "1/0", "eight", "0x8/255", "300/255", "0/255"])
def test_other_texts_are_no_levels(text: str) -> None:
    for kind, field in BOUNDS:
        with pytest.raises(ValidationError):
            made(kind, **{field: text})


def test_float_poisons_may_be_bound_below_one_level() -> None:
    assert made(GradientMatching, eps=0.5, precision="float32").eps == 0.5


@pytest.mark.parametrize("field", ["mean", "std"])
def test_statistics_in_levels_are_refused_with_the_cure(field: str) -> None:
    with pytest.raises(ValidationError, match=r"33.3 is more than 1.*divide it by 255, which gives 0.1306"):
        Npz(source="npz", path="a.npz", **{field: (33.3,)})
    with pytest.raises(ValidationError, match=r"33.3 is more than 1"):
        made(Imported, **{"mean": (0.5,), "std": (0.5,), field: (0.5, 33.3, 0.5)})


def test_a_study_says_where_in_one_line() -> None:
    study = copy.deepcopy(BASE)
    study["attacks"][0]["eps"] = 0.03137
    study["defenses"][1]["apply"][0]["zeta"] = 0.0627
    with pytest.raises(SettingsError) as caught:
        read_study(study)
    text = str(caught.value)
    assert "attack 'gm': eps 0.03137 is less than one level" in text
    assert "defenses.1.apply.0.zeta: 0.0627 is less than one level" in text
    study["attacks"][0]["eps"], study["defenses"][1]["apply"][0]["zeta"] = "8/255", "16/255"
    assert read_study(study).attacks[0].eps == 8
