"""What every detector promises, on a network with a planted backdoor and on networks that nobody should use."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
from planted import CLASSES, NORMALIZE, TARGET, planted, triggered
from registry import DETECTORS, case_of, check_settings_are_told, modules_of
from tiny import state
from torch import Tensor, nn

from poisonlab.detection.deployment import CleanImages, Deployment, deploy
from poisonlab.errors import DataError, PoisonlabError, SettingsError


@dataclass(frozen=True)
class Case:
    """Settings of a detector for ``planted``.

    Attributes:
        settings: under which it stops the planted backdoor.
        images: how many clean ones it needs for that.
        brief: changes of the settings for the tests in which it need not.
        small: changes of the settings for a linear network, under which every setting matters.
        others: of every setting a value that gives other findings then.
    """

    settings: Mapping[str, Any]
    images: int = 48
    brief: Mapping[str, Any] = field(default_factory=dict)
    small: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)


TABLE = "CASES of tests/contracts/test_detectors.py"
CASES = {
    "neural-cleanse": Case(
        {"epochs": 30, "batch_size": 16, "repair_epochs": 5, "repair_lr": 0.05},
        brief={"epochs": 3, "limit": 0.1},
        small={"epochs": 12, "batch_size": 5, "lr": 0.5, "success": 0.1, "limit": 0.5},
        others={
            "epochs": 11,
            "batch_size": 4,
            "lr": 0.4,
            "success": 1.0,
            "initial_cost": 0.004,
            "limit": 50.0,
            "repair_share": 0.5,
            "repair_epochs": 1,
            "repair_lr": 0.02,
            "repair_momentum": 0.5,
        },
    ),
    "strip": Case(
        {"count": 30},
        images=200,
        brief={"count": 3},
        # A blend needs an alpha below 1.
        small={"alpha": 0.7},
        others={"count": 4, "convention": "blend", "alpha": 0.5, "far": 0.3, "fit": "gaussian"},
    ),
}
every_detector = pytest.mark.parametrize("name", DETECTORS)


def case(name: str) -> Case:
    return case_of(name, CASES, TABLE)


def told(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    return {"method": name, **case(name).settings, **changes}


def brief(name: str) -> dict[str, Any]:
    return told(name, case(name).brief)


def examined(
    row: Mapping[str, Any], network: nn.Module, device: torch.device | str = "cpu", count: int = 48
) -> Deployment:
    """What the detector of ``row`` makes of a network, with the first images of ``planted`` in random order."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    clean = CleanImages(planted().images[order].to(device), planted().labels[order].to(device), CLASSES)
    return deploy(row, network, copy.deepcopy(NORMALIZE).to(device), clean, seed=0)


@cache
def deployed(name: str, device: torch.device) -> Deployment:
    """The planted network in the defender's hands."""
    return examined(told(name, {}), copy.deepcopy(planted().model).to(device), device, case(name).images)


def answers(name: str, device: torch.device, images: Tensor) -> Tensor:
    """(N,) int64: the classes given to the images; -1 to those turned away."""
    deployment = deployed(name, device)
    with torch.no_grad():
        inputs = copy.deepcopy(NORMALIZE).to(device)(images.to(device).float() / 255)
        found = deployment.network.eval()(inputs).argmax(1).cpu()
    if deployment.rejects is not None:
        rejected = deployment.rejects(images)
        assert rejected.dtype == torch.bool
        assert rejected.shape == (len(images),)
        assert rejected.device.type == "cpu"
        found = found.masked_fill(rejected, -1)
    return found


def test_every_detector_of_the_package_is_registered() -> None:
    found = {name for name, module in modules_of("detection").items() if hasattr(module, "Settings")}
    assert found == set(DETECTORS), "a module and the union DetectorSettings of poisonlab.config.rows differ"


@every_detector
def test_a_planted_trigger_no_longer_works_and_clean_images_still_do(name: str, device: torch.device) -> None:
    model, images, labels = planted().model, planted().images[200:450], planted().labels[200:450]
    others = labels != TARGET
    with torch.no_grad():
        undefended = model(NORMALIZE(triggered(images[others]).float() / 255)).argmax(1)
    assert (undefended == TARGET).double().mean() > 0.95
    assert (answers(name, device, triggered(images[others])) == TARGET).double().mean() < 0.3
    assert (answers(name, device, images) == labels).double().mean() > 0.75


@every_detector
def test_its_findings_can_be_written(name: str, device: torch.device) -> None:
    deployment = deployed(name, device)
    assert deployment.facts
    assert json.loads(json.dumps(deployment.facts, allow_nan=False)) == deployment.facts
    assert deployment.tensors
    assert all(isinstance(value, Tensor) and not bool(value.isnan().any()) for value in deployment.tensors.values())


@every_detector
def test_the_network_is_left_as_it_was(name: str, device: torch.device) -> None:
    """Weights, statistics, gradients, hooks and modes of a network of which a part is frozen and in eval mode."""
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.1), copy.deepcopy(planted().model)).to(device).train()
    network[0].eval()
    network[0].weight.requires_grad_(False)
    before, drawn = state(network), torch.get_rng_state()
    deployment = examined(brief(name), network, device)
    if deployment.rejects is not None:
        deployment.rejects(planted().images[:5])
    assert state(network) == before
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.elsewhere
@every_detector
def test_the_same_seed_gives_the_same_findings_and_answers(name: str, device: torch.device) -> None:
    given = copy.deepcopy(planted().model).to(device)
    first, again = (examined(brief(name), given, device) for _ in range(2))
    assert again.facts == first.facts
    assert again.tensors.keys() == first.tensors.keys()
    assert all(torch.equal(value, again.tensors[key]) for key, value in first.tensors.items())
    for one, two in zip(first.network.state_dict().values(), again.network.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    if first.rejects is not None and again.rejects is not None:
        images = planted().images[:200]
        rejected = first.rejects(images)
        # Also when others came in between, and of floats as of bytes.
        first.rejects(images[:7])
        assert torch.equal(first.rejects(images.float() / 255), rejected)
        assert torch.equal(again.rejects(images), rejected)


@every_detector
def test_every_setting_matters(name: str) -> None:
    """On a linear network and random images."""
    check_settings_are_told(DETECTORS[name], case(name).others, f"the others of {name!r} in {TABLE}")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    images = torch.randint(256, (40, 3, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)

    def found(**changes: Any) -> list[Tensor]:
        clean = CleanImages(images[:12], torch.arange(12) % 3, 3)
        deployment = deploy(told(name, {**case(name).small, **changes}), network, NORMALIZE, clean, seed=7)
        rejected = torch.empty(0) if deployment.rejects is None else deployment.rejects(images)
        facts = torch.tensor([float(fact) for fact in deployment.facts.values() if not isinstance(fact, list)])
        return [*deployment.tensors.values(), *deployment.network.parameters(), rejected, facts]

    plain = found()
    for setting, value in case(name).others.items():
        pairs = zip(plain, found(**{setting: value}), strict=True)
        assert not all(torch.equal(one, two) for one, two in pairs), setting


@every_detector
def test_a_network_that_diverged_is_one_line(name: str) -> None:
    network = copy.deepcopy(planted().model)
    with torch.no_grad():
        network.head.weight.fill_(math.nan)
    with pytest.raises(PoisonlabError) as caught:
        examined(brief(name), network)
    assert "\n" not in str(caught.value)


@every_detector
def test_two_clean_images_are_enough_and_none_is_one_line(name: str) -> None:
    examined(brief(name), planted().model, count=2)
    with pytest.raises(DataError) as caught:
        examined(brief(name), planted().model, count=0)
    assert "\n" not in str(caught.value)


@every_detector
@pytest.mark.parametrize("wrong", [{"no_such_key": 1}, {"method": "no_such_method"}, {"method": None}])
def test_settings_that_it_does_not_know_are_one_line(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"no_such|None") as caught:
        examined({**brief(name), **wrong}, planted().model)
    assert "\n" not in str(caught.value)
