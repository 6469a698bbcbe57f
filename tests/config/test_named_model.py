"""A job knows the settings of the one architecture that it names, under the same rules as the study."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from poisonlab.config.architectures import ModelSettings
from poisonlab.config.library_model import LibraryModel
from poisonlab.config.models.model import NamedModel
from poisonlab.config.models.small_resnet import SmallResNet
from poisonlab.config.types import Settings
from poisonlab.modules import load


class Job(Settings):
    """As the jobs' settings hold a model."""

    model: NamedModel


@pytest.mark.parametrize("kind", get_args(get_args(ModelSettings)[0]))
def test_every_architecture_is_found_by_its_name(kind: type[Any]) -> None:
    chosen = kind(model="resnet18") if issubclass(kind, LibraryModel) else kind()
    assert Job.model_validate({"model": chosen.told()}).model == chosen
    assert load("config.models", chosen.name).__name__ == kind.__module__


def test_settings_that_are_checked_already_are_taken() -> None:
    chosen = SmallResNet(width=4)
    assert Job(model=chosen).model is chosen


@pytest.mark.parametrize(
    ("values", "place", "words"),
    [
        ({"name": "vgg"}, ("model",), "no architecture 'vgg': choose one of alexnet,"),
        ({"name": "model"}, ("model",), "no architecture 'model'"),
        ({"name": "../lenet"}, ("model",), "no architecture"),
        ({"name": ["lenet"]}, ("model",), "no architecture"),
        ({"name": "lenet", "width": 3}, ("model", "width"), "Extra inputs"),
        ({"name": "small-resnet", "width": 0}, ("model", "width"), "greater than 0"),
        ({"width": 3}, ("model", "name"), "required"),
        ("lenet", ("model",), ""),
    ],
)
def test_a_mistake_is_reported_where_it_stands(values: object, place: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Job.model_validate({"model": values})
    problem = caught.value.errors()[0]
    assert problem["loc"] == place
    assert words in problem["msg"]
    assert "\n" not in problem["msg"]


def test_no_other_architecture_is_imported() -> None:
    code = (
        "import sys; from poisonlab.config.training import Training; "
        "Training.model_validate({'model': {'name': 'lenet'}, 'recipe': {}, 'seed': 0}); "
        "print(*sorted(name for name in sys.modules if name.startswith('poisonlab.config.models.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["poisonlab.config.models.lenet", "poisonlab.config.models.model"]
