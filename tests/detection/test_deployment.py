"""Detectors as a defender uses them: which clean images serve for what, what is turned away, what is repaired."""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from planted import CLASSES, NORMALIZE, TARGET, accuracy, attack_success, draw, network, planted, triggered
from scipy import stats
from torch import Tensor, nn

from poisonlab.detection.deployment import CleanImages, Deployment, deploy, draw_clean
from poisonlab.detection.neural_cleanse import Reversal, outlier_indices, repair, reverse_triggers, suspects
from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Classifier

SMALL = 4


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grey(levels: list[int]) -> Tensor:
    """Images that are told apart by their one level."""
    return torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, SMALL, SMALL).contiguous()


def pictures(count: int, seed: int) -> Tensor:
    return torch.randint(256, (count, 3, SMALL, SMALL), generator=stream(seed), dtype=torch.uint8)


def clean_images(images: Tensor, classes: int = 5) -> CleanImages:
    return CleanImages(images, torch.arange(len(images)) % classes, classes)


# --- the defender's clean images ------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "count"), [(0.25, 10), (0.24, 10), (0.05, 2), (0.001, 2), (1.0, 40)])
def test_a_share_of_the_clean_images_is_drawn(share: float, count: int) -> None:
    drawn = draw_clean(grey(list(range(40))), 2 * torch.arange(40), 80, share, stream())
    levels = drawn.images[:, 0, 0, 0].tolist()
    assert len(levels) == len(set(levels)) == count
    assert drawn.images.dtype == torch.uint8
    assert drawn.labels.tolist() == [2 * level for level in levels]
    assert drawn.num_classes == 80


def test_who_is_drawn_depends_on_the_stream_alone() -> None:
    images, labels = grey(list(range(40))), torch.arange(40)
    first, again, other = (draw_clean(images, labels, 40, 0.2, stream(seed)).labels.tolist() for seed in (1, 1, 2))
    assert first == again
    assert sorted(first) != sorted(other)
    # Not simply the first of a class or of the set.
    assert sorted(first) != list(range(8))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"method": "strap"}, ["strap", "detection"]),
        ({}, ["detection"]),
        ({"method": "strip", "counts": 3}, ["counts"]),
        ({"method": "strip", "convention": "blend", "alpha": 1.5}, ["alpha 1.5"]),
        ({"method": "neural-cleanse", "success": 1.5}, ["success"]),
    ],
)
def test_impossible_detectors_are_one_line(row: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        deploy(row, linear(), NORMALIZE, clean_images(pictures(6, 1)), seed=0)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


# --- STRIP ----------------------------------------------------------------------------------------------------


class Watched(nn.Module):
    """Remembers the grey levels that it is given."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.levels: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.levels += (255 * (0.25 * x[:, 0, 0, 0] + 0.5)).round().int().tolist()
        logits: Tensor = self.model(x)
        return logits


def linear(classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SMALL * SMALL, classes))


def strip(model: nn.Module, clean: CleanImages, seed: int = 0, **settings: Any) -> Deployment:
    return deploy({"method": "strip", **settings}, model, NORMALIZE, clean, seed=seed)


def rejected(deployment: Deployment, images: Tensor) -> list[bool]:
    assert deployment.rejects is not None
    found = deployment.rejects(images)
    assert found.dtype == torch.bool
    assert found.device.type == "cpu"
    turned_away: list[bool] = found.tolist()
    return turned_away


def bits(model: nn.Module, mixed: np.ndarray[Any, Any]) -> float:
    """Entropy of the prediction on one image in pixels of [0, 1]."""
    inputs = torch.from_numpy((mixed - 0.5) / 0.25).float()[None]
    return float(stats.entropy(model(inputs)[0].detach().double().softmax(0).numpy(), base=2))


def test_every_second_clean_image_is_an_overlay_and_the_others_set_the_threshold() -> None:
    clean = clean_images(grey([10, 11, 20, 21, 30, 31, 40]))
    # A blend of weight 1 is the overlay alone, one of weight 0 the image alone.
    model = Watched(linear())
    strip(model, clean, count=20, convention="blend", alpha=1.0)
    assert len(model.levels) == 3 * 20
    assert set(model.levels) == {10, 20, 30, 40}
    model = Watched(linear())
    strip(model, clean, count=4, convention="blend", alpha=0.0)
    assert model.levels == [11] * 4 + [21] * 4 + [31] * 4


@pytest.mark.parametrize(("fit", "far"), [("quantile", 0.1), ("quantile", 0.35), ("gaussian", 0.2)])
def test_the_threshold_and_the_rejections_by_hand(fit: str, far: float) -> None:
    """At weight 0 no overlay counts, so that an image's entropy is that of its own prediction."""
    model, images, tested = linear(), pictures(40, 1), pictures(60, 2)
    deployment = strip(model, clean_images(images), count=2, convention="blend", alpha=0.0, far=far, fit=fit)
    calm = [bits(model, image.numpy() / 255) for image in images[1::2]]
    assert deployment.tensors["clean_entropies"].tolist() == pytest.approx(calm, abs=1e-6)
    limit = np.quantile(calm, far) if fit == "quantile" else stats.norm.ppf(far, np.mean(calm), np.std(calm))
    assert deployment.facts == {"threshold_bits": pytest.approx(limit, abs=1e-6)}
    expected = [bits(model, image.numpy() / 255) < limit for image in tested]
    assert 0 < sum(expected) < 60
    assert rejected(deployment, tested) == expected
    assert rejected(deployment, tested.float() / 255) == expected


@pytest.mark.parametrize(
    ("convention", "alpha"), [("superimpose", 1.0), ("superimpose", 0.4), ("blend", 0.5), ("blend", 0.8)]
)
def test_inputs_are_put_together_with_the_overlay(convention: str, alpha: float) -> None:
    """Of two clean images one is the only overlay, whatever is drawn."""
    model, images, tested = linear(), pictures(2, 1), pictures(30, 2)
    deployment = strip(model, clean_images(images), count=3, convention=convention, alpha=alpha, far=0.5)

    def mixed(image: Tensor) -> float:
        one, overlay = image.numpy() / 255, images[0].numpy() / 255
        if convention == "blend":
            return bits(model, (1 - alpha) * one + alpha * overlay)
        # In units of the normalised image: x + alpha * (o - mean) is normalised to n(x) + alpha * n(o).
        return bits(model, one + alpha * (overlay - 0.5))

    limit = mixed(images[1])
    assert deployment.facts["threshold_bits"] == pytest.approx(limit, abs=1e-6)
    expected = [mixed(image) < limit for image in tested]
    assert 0 < sum(expected) < 30
    assert rejected(deployment, tested) == expected


def test_the_same_images_are_turned_away_again() -> None:
    """Also when others came in between, and in another defender's hands with the same seed."""
    model, clean, tested = linear(), clean_images(pictures(30, 1)), pictures(200, 2)
    deployment = strip(model, clean, count=2, far=0.5)
    first = rejected(deployment, tested)
    rejected(deployment, pictures(7, 3))
    assert rejected(deployment, tested) == first
    assert rejected(strip(model, clean, count=2, far=0.5), tested) == first
    # Two overlays per image are few enough for chance to matter.
    assert rejected(strip(model, clean, seed=1, count=2, far=0.5), tested) != first


def test_strip_leaves_the_network_as_it_was_and_says_what_can_be_kept() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), linear()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    deployment = strip(model, clean_images(pictures(30, 1)), count=3)
    rejected(deployment, pictures(5, 2))
    assert deployment.network is model
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert math.isfinite(json.loads(json.dumps(deployment.facts, allow_nan=False))["threshold_bits"])
    assert deployment.tensors.keys() == {"clean_entropies"}
    assert deployment.tensors["clean_entropies"].shape == (15,)
    assert bool(torch.isfinite(deployment.tensors["clean_entropies"]).all())


def test_a_planted_trigger_is_turned_away_and_clean_images_are_let_in() -> None:
    case = planted()
    clean = draw_clean(case.images[:200], case.labels[:200], CLASSES, 1.0, stream())
    deployment = strip(case.model, clean, count=30)
    tested, others = case.images[200:350], case.labels[200:350] != TARGET
    assert np.mean(rejected(deployment, triggered(tested[others]))) > 0.8
    assert np.mean(rejected(deployment, tested)) < 0.2


# --- Neural Cleanse -------------------------------------------------------------------------------------------

SEARCH = {"method": "neural-cleanse", "epochs": 40, "batch_size": 32, "repair_epochs": 5, "repair_lr": 0.05}


def cleansed(model: nn.Module) -> Deployment:
    """What Neural Cleanse makes of a network for the images of ``planted``, from 64 clean ones."""
    case = planted()
    return deploy(SEARCH, model, NORMALIZE, CleanImages(case.images[:64], case.labels[:64], CLASSES), seed=0)


@cache
def innocent() -> Classifier:
    """As ``planted``, but of clean images."""
    order = stream(1)
    images, labels = draw(1600, order)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(4):
        for rows in torch.randperm(1600, generator=order).split(64):
            loss = F.cross_entropy(model(NORMALIZE(images[rows].float() / 255)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def check_findings(deployment: Deployment, classes: int, size: int) -> None:
    """Triggers and facts as documented; finite but for the norms of classes that were not reached, and indices."""
    found = deployment.tensors
    assert found.keys() == {"masks", "patterns", "norms", "outlier_indices"}
    assert found["masks"].shape == (classes, 1, size, size)
    assert found["patterns"].shape == (classes, 3, size, size)
    for name in ("masks", "patterns"):
        assert 0 <= float(found[name].min()) <= float(found[name].max()) <= 1
    assert not bool(found["norms"].isnan().any() | (found["norms"] < 0).any() | found["outlier_indices"].isnan().any())
    reached = found["norms"].isfinite()
    sums = found["masks"].sum((1, 2, 3)).double()
    torch.testing.assert_close(found["norms"][reached], sums[reached], rtol=1e-5, atol=1e-5)
    assert torch.equal(found["outlier_indices"], outlier_indices(found["norms"]))
    flags = json.loads(json.dumps(deployment.facts, allow_nan=False))
    assert flags == {"flagged_classes": (found["outlier_indices"] > 2).nonzero()[:, 0].tolist()}
    assert deployment.rejects is None


def test_a_planted_class_is_flagged_and_the_backdoor_unlearned() -> None:
    case = planted()
    before = {name: value.clone() for name, value in case.model.state_dict().items()}
    deployment = cleansed(case.model)
    assert deployment.facts == {"flagged_classes": [TARGET]}
    check_findings(deployment, CLASSES, 12)
    held_out, labels = case.images[64:], case.labels[64:]
    assert attack_success(case.model, held_out, labels) > 0.95
    assert attack_success(deployment.network, held_out, labels) < 0.3
    assert accuracy(deployment.network, held_out, labels) > 0.95
    assert all(torch.equal(value, before[name]) for name, value in case.model.state_dict().items())


def test_a_clean_network_is_handed_back_unchanged() -> None:
    deployment = cleansed(innocent())
    assert deployment.facts == {"flagged_classes": []}
    check_findings(deployment, CLASSES, 12)
    weights, repaired = innocent().state_dict(), deployment.network.state_dict()
    assert weights.keys() == repaired.keys()
    assert all(torch.equal(value, repaired[name]) for name, value in weights.items())


def out_of_reach(never: list[int]) -> nn.Module:
    model = linear()
    with torch.no_grad():
        for label in never:
            model[1].bias[label] = -1e4
    return model


@pytest.mark.parametrize("never", [[4], [0, 1, 2, 4]], ids=["one class", "all but one"])
def test_a_class_that_no_trigger_reaches_has_no_norm(never: list[int]) -> None:
    model, clean = out_of_reach(never), clean_images(pictures(10, 1))
    search = {"method": "neural-cleanse", "epochs": 30, "lr": 0.5, "success": 0.1}
    deployment = deploy(search, model, NORMALIZE, clean, seed=0)
    check_findings(deployment, 5, SMALL)
    assert deployment.tensors["norms"].isinf().nonzero()[:, 0].tolist() == never
    assert not set(deployment.facts["flagged_classes"]) & set(never)
    if len(never) == 4:
        # The one that has a norm is an outlier without measure: the median deviation is 0.
        assert deployment.facts["flagged_classes"] == [3]
        assert deployment.tensors["outlier_indices"].tolist() == [0, 0, 0, math.inf, 0]


def test_settings_reach_the_search_and_the_repair() -> None:
    model, images = linear(), pictures(12, 1)
    clean = clean_images(images)
    search = {"epochs": 20, "batch_size": 5, "lr": 0.5, "success": 0.1, "initial_cost": 0.002}
    repairs = {"share": 0.5, "epochs": 2, "lr": 0.02, "momentum": 0.5}
    row = {"method": "neural-cleanse", "limit": 0.5, **search}
    row |= {f"repair_{name}": value for name, value in repairs.items()}

    def outcome(changed: dict[str, Any]) -> list[Tensor]:
        deployment = deploy({**row, **changed}, model, NORMALIZE, clean, seed=7)
        return [deployment.tensors["masks"], deployment.tensors["norms"], *deployment.network.parameters()]

    def same(first: list[Tensor], second: list[Tensor]) -> bool:
        return all(torch.equal(one, two) for one, two in zip(first, second, strict=True))

    triggers = reverse_triggers(model, NORMALIZE, images, 5, Reversal(**search), seed=7)
    masks = torch.stack([trigger.mask for trigger in triggers])
    norms = torch.tensor([trigger.norm for trigger in triggers], dtype=torch.float64)
    flags = suspects(triggers, 0.5)
    assert 0 < len(flags) < 5
    repaired = repair(model, NORMALIZE, images, clean.labels, flags, seed=7, batch_size=5, **repairs)
    ours = outcome({})
    assert same(ours, [masks, norms, *repaired.parameters()])
    # With any one of them at another value the outcome is another, or this test would show nothing of it.
    others = {"epochs": 19, "batch_size": 4, "lr": 0.4, "success": 1.0, "initial_cost": 0.004, "limit": 50.0}
    others |= {"repair_share": 0.25, "repair_epochs": 1, "repair_lr": 0.03, "repair_momentum": 0.0}
    assert others.keys() == row.keys() - {"method"}
    for name, value in others.items():
        assert not same(outcome({name: value}), ours), name


def test_the_limit_decides_what_is_flagged() -> None:
    row = {"method": "neural-cleanse", "epochs": 30, "lr": 0.5, "success": 0.1}
    indices = []
    for limit in (1e-3, 0.5, 1.0, 5.0):
        deployment = deploy({**row, "limit": limit}, linear(), NORMALIZE, clean_images(pictures(10, 1)), seed=0)
        indices = deployment.tensors["outlier_indices"].tolist()
        above = [float(label) for label, index in enumerate(indices) if index > limit]
        assert deployment.facts == {"flagged_classes": above}, limit
    # Or the limits above would not differ.
    assert 0.5 < sorted(indices)[-2] < 1 < max(indices) < 5
