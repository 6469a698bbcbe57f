"""Detectors as a defender uses them: which clean images serve for what, what is turned away, what is repaired."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from planted import CLASSES, NORMALIZE, draw, network, planted
from scipy import stats
from torch import Tensor, nn

from poisonlab.detection.deployment import CleanImages, Deployment, deploy, draw_clean
from poisonlab.detection.neural_cleanse import ReversedTrigger, outlier_indices, repair
from poisonlab.detection.strip import threshold
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
    # A blend of nearly weight 1 is the overlay alone, one of weight 0 the image alone.
    model = Watched(linear())
    deployment = strip(model, clean, count=20, convention="blend", alpha=0.999)
    assert len(model.levels) == 3 * 20
    assert set(model.levels) == {10, 20, 30, 40}
    # Inputs get overlays of their own.
    rejected(deployment, clean.images[1::2])
    assert model.levels[60:] != model.levels[:60]
    model = Watched(linear())
    strip(model, clean, count=4, convention="blend", alpha=0.0)
    assert model.levels == [11] * 4 + [21] * 4 + [31] * 4


def test_a_threshold_below_zero_is_zero_bits_and_flags_nothing() -> None:
    """Most entropies near 0 and few large ones: the normal distribution has its tenth percentile below 0."""
    torch.manual_seed(0)
    sure = nn.Sequential(nn.Flatten(), nn.Linear(3 * SMALL * SMALL, 2))
    nn.init.constant_(sure[1].weight, 0)
    with torch.no_grad():
        sure[1].weight[0, 0] = 300.0
    images = grey([0] * 18 + [127, 127])
    deployment = strip(sure, clean_images(images), count=2, convention="blend", alpha=0.0, far=0.1, fit="gaussian")
    assert threshold(deployment.tensors["clean_entropies"], 0.1, "gaussian") < 0
    assert deployment.facts == {"threshold_bits": 0.0}
    assert not any(rejected(deployment, images))


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


# --- Neural Cleanse -------------------------------------------------------------------------------------------

SEARCH = {"method": "neural-cleanse", "epochs": 30, "batch_size": 16, "repair_epochs": 5, "repair_lr": 0.05}


def cleansed(model: nn.Module) -> Deployment:
    """What Neural Cleanse makes of a network for the images of ``planted``, from 48 clean ones."""
    case = planted()
    return deploy(SEARCH, model, NORMALIZE, CleanImages(case.images[:48], case.labels[:48], CLASSES), seed=0)


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
    """Triggers and facts as documented."""
    found = deployment.tensors
    assert found.keys() == {"masks", "patterns", "norms", "reached", "outlier_indices"}
    assert found["masks"].shape == (classes, 1, size, size)
    assert found["patterns"].shape == (classes, 3, size, size)
    for name in ("masks", "patterns"):
        assert 0 <= float(found[name].min()) <= float(found[name].max()) <= 1
    assert not bool(found["outlier_indices"].isnan().any())
    torch.testing.assert_close(found["norms"], found["masks"].sum((1, 2, 3)).double(), rtol=1e-5, atol=1e-5)
    assert torch.equal(found["outlier_indices"], outlier_indices(found["norms"]))
    flags = json.loads(json.dumps(deployment.facts, allow_nan=False))
    outliers = found["reached"] & (found["outlier_indices"] > 2)
    assert flags == {"flagged_classes": outliers.nonzero()[:, 0].tolist()}
    assert deployment.rejects is None


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
def test_a_class_that_no_trigger_reaches_is_not_flagged(never: list[int]) -> None:
    """Its last mask counts among the norms, so that the scale is that of all classes."""
    model, clean = out_of_reach(never), clean_images(pictures(10, 1))
    search = {"method": "neural-cleanse", "epochs": 30, "lr": 0.5, "success": 0.1}
    deployment = deploy(search, model, NORMALIZE, clean, seed=0)
    check_findings(deployment, 5, SMALL)
    assert (~deployment.tensors["reached"]).nonzero()[:, 0].tolist() == never
    assert not set(deployment.facts["flagged_classes"]) & set(never)
    indices = deployment.tensors["outlier_indices"]
    if len(never) == 4:
        # Searches without success all end alike, so their norms have no spread; the class that was reached stands out.
        assert deployment.facts["flagged_classes"] == [3]
        assert float(indices[3]) > 2


def test_flagged_classes_are_unlearned_as_the_settings_say() -> None:
    """The same repair, called with the trigger that was found."""
    model, clean = out_of_reach([0, 1, 2, 4]), clean_images(pictures(10, 1))
    search = {"method": "neural-cleanse", "epochs": 30, "lr": 0.5, "success": 0.1, "batch_size": 5}
    own = {"share": 0.5, "epochs": 3, "lr": 0.2, "momentum": 0.5}
    told = {**search, **{f"repair_{name}": value for name, value in own.items()}}
    deployment = deploy(told, model, NORMALIZE, clean, seed=1)
    assert deployment.facts["flagged_classes"] == [3]
    mask, pattern, norm = (deployment.tensors[name][3] for name in ("masks", "patterns", "norms"))
    found = [ReversedTrigger(3, mask, pattern, float(norm), True, 1.0)]
    by_hand = repair(model, NORMALIZE, clean.images, clean.labels, found, seed=1, batch_size=5, **own)  # type: ignore[arg-type]
    repaired = deployment.network.state_dict()
    assert all(torch.equal(value, repaired[name]) for name, value in by_hand.state_dict().items())
    assert not torch.equal(repaired["1.weight"], model.state_dict()["1.weight"])
