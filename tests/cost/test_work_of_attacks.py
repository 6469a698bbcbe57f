"""The predicted work of crafting, filters, detectors and landscapes against the operations that torch computes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from counting import CLASSES, NORMALIZE, SHAPE, counted, images, tiny, work_of
from pydantic import TypeAdapter
from torch import nn

from poisonlab import modules
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.matching import target_gradient
from poisonlab.attacks.threat import draw_threat
from poisonlab.config.figures import Landscape
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.config.rows import DefenseSettings, DetectorSettings, FilterSettings, TrainingSettings
from poisonlab.config.study import AttackSettings
from poisonlab.cost.crafting import ATTACKS, Means, crafting, targets
from poisonlab.cost.inspecting import DETECTORS, FILTERS, detecting, filtering
from poisonlab.cost.landscapes import around_poison, around_poisons
from poisonlab.cost.sizes import Sizes
from poisonlab.cost.training import DEFENSES
from poisonlab.data.dataset import ImageDataset
from poisonlab.detection.deployment import CleanImages, deploy
from poisonlab.errors import SettingsError
from poisonlab.figures.landscape import grid, matching_loss_surface, random_directions, training_loss_surface
from poisonlab.filters.chain import judge_all

TOLERANCE = 0.1
SIZES = Sizes(80, 40, CLASSES, SHAPE)
RECIPE = Recipe(epochs=3, batch_size=16, lr=0.01, schedule="linear", augmentation=Augmentation(pixels=1))
COMMON = {"name": "a", "surrogate": "s", "budget": 0.1}
ATTACK: TypeAdapter[Any] = TypeAdapter(AttackSettings)
DEFENSE: TypeAdapter[Any] = TypeAdapter(DefenseSettings)


def dataset() -> ImageDataset:
    train, test = images(SIZES.train), images(SIZES.test)
    names = tuple("abcd")
    return ImageDataset(train.images, train.labels, test.images, test.labels, names, (0.5,) * 3, (0.25,) * 3)


CASES: dict[str, dict[str, Any]] = {
    "gradient matching": {"method": "gradient-matching", "steps": 3, "restarts": 2, "ensemble": 2},
    "on a target that is recognised": {"method": "gradient-matching", "steps": 1, "target": "recognised"},
    "bullseye polytope": {"method": "bullseye-polytope", "steps": 5, "ensemble": 2},
    "poison frogs": {"method": "poison-frogs", "steps": 5},
    "convex polytope": {"method": "convex-polytope", "steps": 5},
    "sleeper agent": {"method": "sleeper-agent", "steps": 6, "retrain_every": 2, "patch": {"size": 4}},
    "sleeper agent's selection": {"method": "sleeper-agent", "steps": 1, "sources_train": 1, "patch": {"size": 4}},
    "metapoison": {"method": "metapoison", "steps": 2, "ensemble": 3, "batch_size": 20, "first_epoch": 1},
    "metapoison's unrolling": {
        "method": "metapoison",
        "steps": 2,
        "ensemble": 1,
        "unroll": 3,
        "sweep": "batch",
        "clean_batches": 1,
        "batch_size": 40,
    },
}


@pytest.mark.parametrize("case", CASES)
def test_crafting(case: str) -> None:
    settings = ATTACK.validate_python(COMMON | CASES[case])
    surrogates = [tiny() for _ in range(settings.pretrained_networks)]
    means = Means((work_of(tiny()),), RECIPE, SIZES, SIZES.train)
    attacker = Attacker(surrogates, NORMALIZE, RECIPE, lambda seed: tiny())
    craft, data = modules.load("attacks", settings.method).craft, dataset()
    if getattr(settings, "target", "random") == "recognised":
        predicted = surrogates[0].eval()(NORMALIZE(data.test_images.float() / 255)).argmax(1)
        data = replace(data, test_labels=predicted.where(torch.arange(SIZES.test) < 30, data.test_labels))
    seed = next(seed for seed in range(99) if has_target(data, seed))
    found = counted(lambda: craft(data, attacker, settings, seed=seed))
    assert crafting(settings, means).flops == pytest.approx(found, rel=TOLERANCE)


def has_target(data: ImageDataset, seed: int) -> bool:
    """Whether the first images, which all networks recognise where they must, hold the class that ``seed`` draws."""
    return draw_threat(data, 0.1, seed).target_label in data.test_labels[:30]


@pytest.mark.parametrize("method", ["strip", "neural-cleanse"])
def test_detection(method: str) -> None:
    options = {"strip": {"count": 3}, "neural-cleanse": {"epochs": 3, "limit": 1e-9}}[method]
    settings = DEFENSE.validate_python({"method": method, "clean_share": 0.5, **options})
    network, data = tiny(), dataset()

    def run() -> None:
        clean = CleanImages(data.train_images[:40], data.train_labels[:40], CLASSES)
        row = settings.model_dump(exclude={"network", "clean_share"})
        deployed = deploy(row, network, NORMALIZE, clean, seed=0)
        if deployed.rejects is not None:
            deployed.rejects(data.test_images)
        deployed.network(NORMALIZE(data.test_images.float() / 255))

    # A victim of no attack: test images only. The repair is counted though nothing may be flagged.
    assert detecting(settings, work_of(network), SIZES, 0).flops == pytest.approx(counted(run), rel=0.15)


@pytest.mark.parametrize("method", ["deep-knn", "l2-centroid", "random-filter", "spectral-signatures"])
def test_filters(method: str) -> None:
    options = {"deep-knn": {"k": 5}, "spectral-signatures": {"expected": 0.02}}.get(method, {})
    settings = DEFENSE.validate_python({"method": method, **options})
    network, data = tiny(), images(200)
    own = work_of(network)
    features = network.eval().extract(NORMALIZE(data.images.float() / 255)).detach()
    kept = []

    def run() -> None:
        row = settings.model_dump(exclude={"network"})
        kept.append(judge_all([row], features, data.labels, seed=0).keep.sum().item())

    found = counted(run)
    work, left = filtering([settings], own, 200, CLASSES)
    beyond = work.flops - own.forward * 200
    assert beyond == pytest.approx(found, rel=TOLERANCE, abs=0.001 * work.flops)
    if method != "deep-knn":
        assert left == pytest.approx(kept[0], abs=4)


def test_landscapes() -> None:
    settings, network, poisons = Landscape(points=5), tiny(), 6
    own, data = work_of(network), images(poisons)
    model = nn.Sequential(NORMALIZE, network).eval()
    pixels, labels, places = data.images.float() / 255, data.labels, grid(8, 5)
    goal = target_gradient(model, pixels[:1], labels[:1] + 1, "cross-entropy")
    around = random_directions(pixels.shape, torch.Generator())
    found = counted(lambda: training_loss_surface(model, pixels, labels, around, places))
    assert around_poisons(settings, own, poisons, 1).flops == pytest.approx(found, rel=TOLERANCE)

    one = around[0][:1], around[1][:1]

    def both() -> None:
        matching_loss_surface(model, pixels[:1], labels[:1], goal, one, places, chunk=1)
        training_loss_surface(model, pixels[:1], labels[:1], one, places)

    surfaces = around_poison(settings, own, 0).flops - 3 * own.forward
    assert surfaces == pytest.approx(counted(both), rel=TOLERANCE)


def test_every_method_of_a_config_has_its_work() -> None:
    assert set(ATTACKS) == methods(get_args(get_args(AttackSettings)[0]))
    assert set(DEFENSES) == methods(get_args(TrainingSettings))
    assert set(FILTERS) == methods(get_args(FilterSettings))
    assert set(DETECTORS) == methods(get_args(DetectorSettings))


def methods(union: tuple[Any, ...]) -> set[str]:
    return {settings.model_fields["method"].default for settings in union}


def test_an_unknown_attack_is_one_line() -> None:
    settings = ATTACK.validate_python(COMMON | {"method": "poison-frogs"})
    unheard = settings.model_copy(update={"method": "unheard-of"})
    with pytest.raises(SettingsError, match="how much unheard-of computes"):
        crafting(unheard, Means((), RECIPE, SIZES, SIZES.train))


def test_poisons_made_elsewhere_are_free() -> None:
    settings = ATTACK.validate_python({"name": "a", "method": "imported", "path": "x"})
    assert crafting(settings, Means((), Recipe(), SIZES, SIZES.train)).flops == 0
    assert targets(settings, SIZES) == 1
