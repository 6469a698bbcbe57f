"""What every attack must do, for each module of ``poisonlab.attacks`` that crafts; a new one needs an entry in TINY."""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import torch
from deterministic import Watched
from torch import Tensor, nn

import poisonlab.attacks
from poisonlab import modules
from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.config.attack_settings import AttackSettings
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.config.stages import read_stage
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import training_set
from poisonlab.errors import PoisonlabError
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.training.checkpoint import Checkpoint

CLASSES, SIZE = 3, 8
RECIPE = Recipe(epochs=2, batch_size=20, lr=0.05, augmentation=Augmentation(kind="shift", pixels=1.0), milestones=())
CRAFTED = {"surrogate": "base", "budget": 0.1, "eps": 16}
WHOLE = {"surrogate": "base", "batch_size": 25}
TOO_MANY = ({"budget": 0.9}, "lower the budget")


@dataclass(frozen=True)
class Tiny:
    """Settings of an attack with which it takes a second at most.

    Attributes:
        settings: but for name and method.
        impossible: changes of them that cannot be met, each with a word of the one line that says so.
        saves: whether the attack saves its state on the way.
    """

    settings: Mapping[str, Any]
    impossible: tuple[tuple[Mapping[str, Any], str], ...] = ()
    saves: bool = True


TINY: dict[str, dict[str, Tiny]] = {
    "badnets": {
        "corner": Tiny(
            {"budget": 0.1, "patch_size": 2, "targets": 5},
            (
                ({"budget": 0.9}, "lower the budget"),
                ({"target_class": 9}, "3 classes: 0 to 2"),
                ({"patch_size": 9}, "9 x 9"),
            ),
            saves=False,
        ),
        "anywhere": Tiny({"budget": 0.2, "place": "random", "target_class": "b"}, saves=False),
    },
    "bullseye-polytope": {
        "dropout": Tiny({**CRAFTED, "steps": 4, "dropout": True, "augment": True}, (TOO_MANY,)),
        "normalised": Tiny({**CRAFTED, "steps": 4, "space": "normalised"}),
    },
    "convex-polytope": {
        "warm": Tiny({**CRAFTED, "steps": 4, "coefficients": "warm"}, (TOO_MANY, ({"blocks": 1}, "0 blocks"))),
    },
    "error-maximising": {
        "PGD": Tiny(
            {**WHOLE, "steps": 3, "restarts": 2}, (({"start": "zero", "augment": False}, "2 restarts from zero"),)
        ),
        "MI-FGSM": Tiny({**WHOLE, "algorithm": "mi-fgsm", "steps": 4, "aim": "away", "eps": 3.5, "budget": 0.4}),
    },
    "error-minimising": {
        "sample-wise": Tiny(
            {**WHOLE, "steps": 3, "batches": 2, "eps": 40, "step": 8, "stop_error": 0.2},
            (({"rounds": 1, "stop_error": 0, "batches": 1, "steps": 1, "step": 0.1}, "raise rounds"),),
        ),
        "class-wise": Tiny(
            {**WHOLE, "noise": "class-wise", "subset": 0.6, "batches": 2, "eps": 40, "step": 8, "stop_error": 0.3}
        ),
    },
    "feature-collision": {
        "of test images": Tiny(
            {**CRAFTED, "steps": 5, "budget": 0.05, "target": "random"},
            (
                ({"budget": 0.2}, "only 4 test images"),
                ({"target_label": 9, "adversarial_label": 0}, "3 classes: 0 to 2"),
                ({"target_label": 0, "adversarial_label": "a"}, "both class 'a'"),
            ),
        ),
        "of training images": Tiny(
            {
                **CRAFTED,
                "steps": 4,
                "bases": "train",
                "target_label": "b",
                "adversarial_label": 2,
                "target": "random",
            },
            (TOO_MANY,),
        ),
    },
    "functional": {
        "all": Tiny(
            {**WHOLE, "steps": 3, "color": {"grid": [3, 4, 5]}, "lr": 0.01, "budget": 0.9},
            (({"changes": []}, "changes"),),
        ),
        "additive": Tiny({**WHOLE, "steps": 3, "changes": ["additive"], "eps": 3.5, "lr": 0.01, "budget": 0.4}),
    },
    "gradient-matching": {
        "one restart": Tiny({**CRAFTED, "steps": 5, "restarts": 1}, (TOO_MANY,)),
        "restarts one after another": Tiny({**CRAFTED, "steps": 3, "restarts": 3}),
        "by differences, at the worst weights": Tiny(
            {**CRAFTED, "steps": 4, "restarts": 1, "derivative": "differences", "sharpness": 0.05}
        ),
        "random noise expected": Tiny(
            {
                **CRAFTED,
                "steps": 3,
                "restarts": 3,
                "crafting_precision": "bfloat16",
                "adaptation": {"random_noise": {"distribution": "gaussian", "mu": 8}},
            }
        ),
    },
    "imported": {
        "goal": Tiny(
            {"path": "goal{seed}.safetensors", "eps": 16},
            (({"adversarial_label": 9}, "3 classes: 0 to 2"), ({"target_index": 0}, "targets of its own")),
            saves=False,
        ),
        "no goal": Tiny({"path": "whole{seed}.safetensors", "eps": 16, "targeted": False}, saves=False),
    },
    "low-frequency": {
        "whole set": Tiny({"frequencies": 2}, (({"frequencies": 9}, "more than images of 8 x 8"),), saves=False),
        "a part": Tiny({"frequencies": 3, "budget": 0.3, "eps": 3, "scaling": "channel"}, saves=False),
    },
    "metapoison": {
        "colours": Tiny(
            {
                **CRAFTED,
                "steps": 4,
                "ensemble": 2,
                "stagger": 1,
                "unroll": 2,
                "batch_size": 20,
                "clean_batches": 4,
                "recolor": {"grid": 3},
            },
            (TOO_MANY,),
        ),
        "no colours": Tiny(
            {**CRAFTED, "steps": 3, "ensemble": 2, "batch_size": 20, "clean_batches": 4, "recolor": None}
        ),
        "as released, by differences": Tiny(
            {
                **CRAFTED,
                "steps": 3,
                "ensemble": 2,
                "batch_size": 20,
                "convention": "released",
                "derivative": "differences",
                "crafting_precision": "bfloat16",
                "recolor": {"grid": 3, "lr": 200},
            }
        ),
    },
    "poison-frogs": {
        "signed Adam": Tiny({**CRAFTED, "steps": 6, "optimizer": "signed-adam", "start": "random"}, (TOO_MANY,)),
    },
    "regions": {
        "whole set": Tiny({"regions": 4}, (({"regions": 81}, "does not tile"),), saves=False),
        "a part": Tiny({"regions": 2, "budget": 0.3, "eps": 3}, saves=False),
    },
    "sleeper-agent": {
        "retrained": Tiny(
            {**CRAFTED, "steps": 5, "retrain_every": 2, "retrain_epochs": 2, "patch": {"size": 2}},
            (
                TOO_MANY,
                ({"source_class": 9}, "3 classes: 0 to 2"),
                ({"target_class": 9}, "3 classes: 0 to 2"),
                ({"patch": {"size": 9}}, "9 x 9"),
            ),
        ),
    },
}


# docs/cluster.md names them.
NOT_ON_A_GPU = {
    ("functional", "all"): {"grid_sampler_2d_backward", "grid_sampler_3d_backward"},
    ("metapoison", "as released, by differences"): {"grid_sampler_3d_backward"},
    ("metapoison", "colours"): {"grid_sampler_3d_backward"},
}


@cache
def registered() -> dict[str, ModuleType]:
    """Every attack by the name that configs know it by."""
    names = [found.name.replace("_", "-") for found in pkgutil.iter_modules(poisonlab.attacks.__path__)]
    loaded = {name: modules.load("attacks", name) for name in names}
    return {name: module for name, module in loaded.items() if hasattr(module, "craft")}


CASES = [(method, name) for method in registered() for name in TINY.get(method, ())]
BUDGETED = [case for case in CASES if "budget" in registered()[case[0]].Settings.model_fields]
every_attack = pytest.mark.parametrize(("method", "name"), CASES, ids=[": ".join(case) for case in CASES])
every_attack_with_a_budget = pytest.mark.parametrize(
    ("method", "name"), BUDGETED, ids=[": ".join(case) for case in BUDGETED]
)


@pytest.mark.parametrize("method", registered())
def test_every_attack_is_held_to_the_contract(method: str) -> None:
    assert method in TINY, f"{method} is a new attack: add tiny settings for it to TINY in {__file__}"
    union = get_args(get_args(AttackSettings)[0])
    known = {kind.model_fields["method"].default for kind in union}
    assert method in known, f"{method} is no attack that a study can name: add its settings to AttackSettings"


# --- a world for it to attack -----------------------------------------------------------------------------------------


@cache
def dataset() -> ImageDataset:
    stream = torch.Generator().manual_seed(1)
    ramp = torch.linspace(0, 160, SIZE)
    patterns = torch.stack(
        [ramp.expand(3, SIZE, SIZE), ramp[:, None].expand(3, SIZE, SIZE), torch.zeros(3, SIZE, SIZE)]
    )

    def split(each: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(CLASSES).repeat(each)
        noise = torch.randint(0, 90, (len(labels), 3, SIZE, SIZE), generator=stream)
        return (patterns[labels] + noise).to(torch.uint8), labels

    train, test = split(20), split(4)
    return ImageDataset(*train, *test, ("a", "b", "c"), (0.4,) * 3, (0.25,) * 3)


def network(seed: int) -> Classifier:
    torch.manual_seed(seed)
    extract = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(256, 12)
    )
    return Classifier(extract, nn.Linear(12, CLASSES))


def write_imports(folder: Path) -> None:
    """Poison sets that the import finds there, one for each seed."""
    data = dataset()
    for seed in range(3, 5):
        changes = torch.randint(-9, 10, data.train_images.shape, generator=torch.Generator().manual_seed(seed))
        images = (data.train_images + changes).clamp(0, 255).to(torch.uint8)
        rows = torch.arange(60)
        PoisonSet(rows, images, data.train_labels, data.train_images).save(folder / f"whole{seed}.safetensors")
        few, goal = rows[:4] * 3, Goal(data.test_images[1:2], data.test_labels[1:2], torch.tensor([0]))
        poisons = PoisonSet(few, images[few], data.train_labels[few], data.train_images[few], goal)
        poisons.save(folder / f"goal{seed}.safetensors")


@dataclass(frozen=True)
class World:
    """An attack with tiny settings and all it may ask for."""

    method: str
    name: str
    folder: Path
    device: torch.device

    @property
    def tiny(self) -> Tiny:
        return TINY[self.method][self.name]

    def settings(self, **changes: Any) -> Any:
        given = {"name": "attack", "method": self.method, **self.tiny.settings, **changes}
        if "path" in given:
            given["path"] = str(self.folder / given["path"])
        return read_stage(registered()[self.method].Settings, given)

    def attacker(self, checkpoint: Checkpoint | None = None, rows: Tensor | None = None) -> Attacker:
        data = dataset()
        return Attacker(
            [network(1).to(self.device), network(2).to(self.device)],
            Normalize(data.mean, data.std).to(self.device),
            RECIPE,
            fresh=lambda seed: network(seed % 1000).to(self.device),
            rows=rows,
            checkpoint=checkpoint,
        )

    def craft(
        self, seed: int = 3, checkpoint: Checkpoint | None = None, rows: Tensor | None = None, **changes: Any
    ) -> PoisonSet:
        attack, attacker = registered()[self.method], self.attacker(checkpoint, rows)
        poisons: PoisonSet = attack.craft(dataset(), attacker, self.settings(**changes), seed=seed)
        return poisons


def skip_what_does_not_repeat(world: World) -> None:
    """On a GPU, where the bits of a few attacks cannot repeat."""
    if world.device.type == "cuda" and (world.method, world.name) in NOT_ON_A_GPU:
        pytest.skip("its bits cannot repeat on a GPU: docs/cluster.md")


@pytest.fixture
def world(method: str, name: str, tmp_path: Path, device: torch.device) -> World:
    (tmp_path / "files").mkdir()
    if method == "imported":
        write_imports(tmp_path / "files")
    return World(method, name, tmp_path / "files", device)


def bits(poisons: PoisonSet) -> dict[str, Any]:
    """Every part of a set, tensors as bytes."""
    parts: dict[str, Any] = {field.name: getattr(poisons, field.name) for field in dataclasses.fields(poisons)}
    diagnostics, goal = parts.pop("diagnostics"), parts.pop("goal")
    parts |= {f"diagnostics.{key}": value for key, value in diagnostics.items()}
    if goal is not None:
        parts |= {f"goal.{field.name}": getattr(goal, field.name) for field in dataclasses.fields(goal)}
    return {key: value.numpy().tobytes() if isinstance(value, Tensor) else value for key, value in parts.items()}


# --- the contract -----------------------------------------------------------------------------------------------------


@every_attack
def test_same_seed_same_poisons_and_another_seed_others(world: World) -> None:
    skip_what_does_not_repeat(world)
    torch.manual_seed(1)
    first = bits(world.craft())
    torch.manual_seed(2)
    assert bits(world.craft()) == first
    other = bits(world.craft(seed=4))
    assert other["images"] != first["images"]


@every_attack
def test_its_bits_can_repeat_on_a_gpu(world: World, method: str, name: str) -> None:
    with Watched() as watched:
        world.craft()
    assert watched.found == NOT_ON_A_GPU.get((method, name), set())


@every_attack
def test_shipped_poisons_keep_the_bound(world: World) -> None:
    kind = type(world.settings())
    changes: list[dict[str, Any]] = [{}]
    if "precision" in kind.model_fields:
        # A fractional bound is rounded down for 8-bit images.
        changes += [{"eps": 2.9}, {"eps": 1}, {"eps": 2.9, "precision": "float32"}]
    for change in changes:
        poisons, bound = world.craft(**change), world.settings(**change).bound
        floats = change.get("precision") == "float32"
        assert poisons.images.dtype == (torch.float32 if floats else torch.uint8)
        levels = poisons.images.double() * (255 if floats else 1)
        assert levels.min() >= 0
        assert levels.max() <= 255 + 1e-4
        if bound is not None:
            assert (levels - poisons.base_images.double()).abs().max() <= (bound + 1e-3 if floats else int(bound))


@every_attack
def test_poisons_fit_the_dataset_and_the_declared_goal(world: World, tmp_path: Path) -> None:
    poisons, settings, data = world.craft(), world.settings(), dataset()
    replaced = poisons.indices >= 0
    assert torch.equal(poisons.base_images[replaced], data.train_images[poisons.indices[replaced]])
    assert torch.equal(training_set(data, poisons).images[poisons.indices[replaced]], poisons.images[replaced])
    names = {measure.name for measure in settings.measures}
    assert settings.measures[-1].name == "accuracy"
    if poisons.goal is None:
        assert settings.history_level is not None
        assert {"peak_accuracy", "first_epoch"} <= names
    else:
        assert settings.history_level is None
        assert settings.measures[0].name == "success"
        assert settings.measures[0].kind == "rate" or len(poisons.goal) == 1
        assert "untriggered_success" in names or poisons.goal.untriggered is None
    poisons.save(tmp_path / "saved")
    assert bits(PoisonSet.load(tmp_path / "saved")) == bits(poisons)


@every_attack_with_a_budget
def test_only_the_victims_rows_are_poisoned(world: World) -> None:
    rows = torch.arange(15, 60)
    poisons = world.craft(rows=rows)
    # Appended ones replace none.
    assert bool(torch.isin(poisons.indices, torch.cat([rows, torch.tensor([-1])])).all())
    assert len(poisons.indices) == pytest.approx(45 * world.settings().budget, abs=1)


@every_attack
def test_what_cannot_be_met_is_one_line(world: World) -> None:
    for change, word in world.tiny.impossible:
        with pytest.raises(PoisonlabError, match=word) as caught:
            world.craft(**change)
        assert "\n" not in str(caught.value)


def test_every_attack_says_what_cannot_be_met() -> None:
    assert all(any(tiny.impossible for tiny in TINY[method].values()) for method in registered())


# --- interruption -----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """No code of ours catches it, as a signal."""


class Mortal(Checkpoint):
    """Saves at every opportunity, and dies right after a save."""

    lives: int = -1

    def save(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        super().save(tensors, facts)
        self.lives -= 1
        if self.lives == 0:
            raise Killed


@pytest.mark.elsewhere
@every_attack
def test_a_killed_crafting_goes_on_to_the_same_bits(world: World, tmp_path: Path) -> None:
    skip_what_does_not_repeat(world)
    expected = bits(world.craft())
    died = 0
    # Killed after its first save, then after the second of the next life, and so on, until it comes to its end.
    for life in range(1, 40):
        checkpoint = Mortal(tmp_path / "craft.safetensors", "this crafting", interval=0.0)
        checkpoint.lives = life
        try:
            found = world.craft(checkpoint=checkpoint)
        except Killed:
            died += 1
            continue
        break
    assert died >= 2 if world.tiny.saves else died == 0
    assert bits(found) == expected
    checkpoint.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("error-maximising", "PGD"),
        ("error-minimising", "sample-wise"),
        ("functional", "all"),
        ("gradient-matching", "one restart"),
        ("metapoison", "colours"),
    ],
)
def test_a_save_is_used(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the test above would hold for code that starts anew."""
    path, checkpoint = tmp_path / "craft", Mortal(tmp_path / "craft", "this crafting", interval=0.0)
    checkpoint.lives = 3
    with pytest.raises(Killed):
        world.craft(checkpoint=checkpoint)
    taken = counted(monkeypatch)
    world.craft(checkpoint=Checkpoint(path, "this crafting", interval=1e9))
    rest = taken()
    world.craft(checkpoint=Checkpoint(path, "another crafting", interval=1e9))
    assert 0 < rest < taken() - rest


def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many steps of optimisation there have been since: gradients by ``torch.autograd.grad``, and Adam's steps."""
    count = 0

    def count_calls(place: Any, name: str) -> None:
        real = getattr(place, name)

        def called(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            return real(*arguments, **named)

        monkeypatch.setattr(place, name, called)

    count_calls(torch.optim.Adam, "step")
    count_calls(torch.autograd, "grad")
    return lambda: count
