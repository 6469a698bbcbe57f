"""Sleeper Agent against slow loops over images, and what it retrains its surrogates on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import ValidationError
from scipy import stats
from torch import Tensor, nn

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks import sleeper_agent
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.matching import Crafting, Matcher, Refresh
from poisonlab.attacks.sleeper_agent import craft, draw_classes, draw_scene, select_bases
from poisonlab.attacks.trigger import own_pattern
from poisonlab.config.attacks.matching import Adaptation
from poisonlab.config.attacks.sleeper_agent import Patch, SleeperAgent
from poisonlab.config.defenses.random_noise import RandomNoise as RandomNoiseSettings
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.friendly_noise import FriendlyNoise
from poisonlab.defenses.random_noise import RandomNoise
from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.randomness import stream_seed
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.defense import Defense
from poisonlab.training.loop import train

STILL = Augmentation(kind="none")
PATCH = 2


def network(seed: int = 0, batch_norm: bool = True) -> Classifier:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(3, 4, 3, padding=1)]
    layers += [nn.BatchNorm2d(4)] if batch_norm else []
    return Classifier(nn.Sequential(*layers, nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()), nn.Linear(36, 4))


def dataset(count: int = 80, tests: int = 20) -> ImageDataset:
    """Classes that differ in brightness; no pixel is as saturated as the patch."""
    stream = torch.Generator().manual_seed(1)

    def split(size: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(size) % 4
        images = torch.randint(1, 120, (size, 3, 6, 6), generator=stream) + (labels * 40)[:, None, None, None]
        return images.to(torch.uint8), labels

    return ImageDataset(*split(count), *split(tests), tuple("abcd"), (0.4, 0.5, 0.45), (0.25, 0.2, 0.3))


def trained(seed: int = 0) -> Classifier:
    data, model = dataset(), network(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(15):
        optimizer.zero_grad()
        F.cross_entropy(model(normalize()(data.train_images / 255)), data.train_labels).backward()
        optimizer.step()
    return model.eval()


def normalize() -> Normalize:
    return Normalize(dataset().mean, dataset().std)


def attacker(*surrogates: Classifier, **changes: Any) -> Attacker:
    recipe = Recipe(epochs=2, batch_size=40, lr=0.05, augmentation=STILL, milestones=(1,))
    parts = {"surrogates": surrogates or (trained(),), "normalize": normalize(), "recipe": recipe, "fresh": network}
    return Attacker(**{**parts, **changes})


def options(**changes: Any) -> SleeperAgent:
    given = {
        "name": "sa",
        "surrogate": "s",
        "budget": 0.1,
        "steps": 8,
        "retrain_every": 0,
        "patch": Patch(size=PATCH),
    }
    return SleeperAgent(**{**given, **changes})


def crafted(who: Attacker | None = None, seed: int = 0, **changes: Any) -> PoisonSet:
    return craft(dataset(), who or attacker(), options(**changes), seed=seed)


def classes(count: int) -> ImageDataset:
    """Classes called by the numbers after their own, as folders are that count from 1."""
    labels, images = torch.arange(count), torch.zeros(count, 3, 6, 6, dtype=torch.uint8)
    names = tuple(str(label + 1) for label in range(count))
    return ImageDataset(images, labels, images, labels, names, (0.4, 0.5, 0.45), (0.25, 0.2, 0.3))


def classes_of(seed: int) -> tuple[int, int]:
    return draw_classes(classes(4), options(), seed)


# --- classes ----------------------------------------------------------------------------------------------------------


def test_classes_are_uniform_among_ordered_pairs_that_differ() -> None:
    four = classes(4)
    pairs = [draw_classes(four, options(), seed) for seed in range(2400)]
    counts = [pairs.count((a, b)) for a in range(4) for b in range(4) if a != b]
    assert sum(counts) == 2400
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("name", ["source_class", "target_class"])
def test_a_fixed_class_is_kept_and_the_other_uniform_among_the_rest(name: str) -> None:
    five, chosen = classes(5), options(**{name: "4"})
    pairs = [draw_classes(five, chosen, seed) for seed in range(1600)]
    fixed, other = (0, 1) if name == "source_class" else (1, 0)
    assert {pair[fixed] for pair in pairs} == {3}
    drawn = [pair[other] for pair in pairs]
    counts = [drawn.count(label) for label in (0, 1, 2, 4)]
    assert sum(counts) == 1600
    assert stats.chisquare(counts).pvalue > 1e-3


def test_both_classes_can_be_fixed() -> None:
    four = classes(4)
    for source, target in ((0, "4"), (0, "4"), ("1", "4")):
        chosen = options(source_class=source, target_class=target)
        assert {draw_classes(four, chosen, seed) for seed in range(20)} == {(0, 3)}
    with pytest.raises(SettingsError, match="both '1'"):
        draw_classes(four, options(source_class="1", target_class=0), 0)
    with pytest.raises(ValueError, match="both 1"):
        options(source_class=1, target_class=1)


# --- bases ------------------------------------------------------------------------------------------------------------


def slow_norms(models: Sequence[Classifier], rows: Sequence[int]) -> list[float]:
    """Length of each image's gradient in eval mode, one backward pass each, averaged over the networks."""
    data, found = dataset(), []
    for row in rows:
        total = 0.0
        for model in models:
            model.eval().zero_grad()
            x = normalize()(data.train_images[row][None] / 255)
            F.cross_entropy(model(x), data.train_labels[row][None]).backward()
            total += sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None) ** 0.5
            model.zero_grad()
        found.append(total / len(models))
    return found


@pytest.mark.parametrize("surrogates", [1, 2])
@pytest.mark.parametrize("rows", [None, torch.arange(20, 80)])
@pytest.mark.parametrize("candidates", [None, 12])
def test_bases_have_the_largest_gradients(surrogates: int, rows: Tensor | None, candidates: int | None) -> None:
    models = [trained(seed) for seed in range(surrogates)]
    who, settings = attacker(*models, rows=rows), options(candidates=candidates)
    for target in range(4):
        bases = select_bases(dataset(), who, settings, target, 0)
        pool = [row for row in range(80) if row % 4 == target and (rows is None or row >= 20)][:candidates]
        norms = slow_norms(models, pool)
        count = 8 if rows is None else 6
        best = sorted(sorted(range(len(pool)), key=lambda place: -norms[place])[:count])
        assert bases.tolist() == [pool[place] for place in best]
        assert bases.dtype == torch.int64


def test_random_bases_are_uniform_among_the_candidates() -> None:
    who, drawn = attacker(), []
    settings = options(selection="random", candidates=10, budget=1 / 80)
    for seed in range(600):
        drawn += select_bases(dataset(), who, settings, 1, seed).tolist()
    pool = [row for row in range(80) if row % 4 == 1][:10]
    counts = [drawn.count(row) for row in pool]
    assert sum(counts) == 600
    assert stats.chisquare(counts).pvalue > 1e-3
    several = select_bases(dataset(), who, options(selection="random"), 1, 0).tolist()
    assert several == sorted(set(several))
    assert len(several) == 8
    assert all(row % 4 == 1 for row in several)


# --- the trigger ------------------------------------------------------------------------------------------------------


def patch_places(clean: Tensor, patched: Tensor, pattern: Tensor) -> list[tuple[int, int]]:
    """Where the pattern is on each image; fails unless it is there once and nothing else has changed."""
    places = []
    for before, after in zip(clean, patched, strict=True):
        found = []
        for row in range(6 - PATCH + 1):
            for column in range(6 - PATCH + 1):
                expected = before.clone()
                expected[:, row : row + PATCH, column : column + PATCH] = pattern
                if torch.equal(expected, after):
                    found.append((row, column))
        assert len(found) == 1
        places += found
    return places


def test_targets_are_the_patched_test_images_of_the_source_class() -> None:
    data = dataset()
    for seed in range(4):
        poisons = crafted(seed=seed, steps=1)
        source, target = classes_of(seed)
        clean = data.test_images[data.test_labels == source]
        assert poisons.goal.untriggered is not None
        assert torch.equal(poisons.goal.untriggered, clean)
        places = patch_places(clean, poisons.goal.targets, own_pattern(PATCH))
        assert len(set(places)) > 1
        assert poisons.goal.target_labels.tolist() == [source] * 5
        assert int(poisons.goal.adversarial_labels[0]) == target
        assert poisons.facts["source_class"] == source
        assert (poisons.labels == target).all()
        assert torch.equal(poisons.labels, data.train_labels[poisons.indices])
        assert torch.equal(poisons.base_images, data.train_images[poisons.indices])


def test_sources_are_patched_training_images_of_the_source_class() -> None:
    data = dataset()
    scene = draw_scene(data, attacker(), options(), 2)
    clean = data.train_images[data.train_labels == scene.source_class]
    places = patch_places(clean, scene.sources, own_pattern(PATCH))
    assert len(set(places)) > 5
    tests = patch_places(scene.untriggered, scene.tests, own_pattern(PATCH))
    assert places[: len(tests)] != tests
    again = draw_scene(data, attacker(), options(), 2)
    assert torch.equal(scene.sources, again.sources)
    assert torch.equal(scene.tests, again.tests)


def test_only_so_many_sources_and_only_those_the_victim_sees() -> None:
    data, rows = dataset(), torch.arange(30, 80)
    scene = draw_scene(data, attacker(rows=rows), options(sources_train=4, sources_test=3), 0)
    seen = [row for row in range(30, 80) if row % 4 == scene.source_class][:4]
    patch_places(data.train_images[seen], scene.sources, own_pattern(PATCH))
    tests = [row for row in range(20) if row % 4 == scene.source_class][:3]
    patch_places(data.test_images[tests], scene.tests, own_pattern(PATCH))
    assert torch.equal(scene.untriggered, data.test_images[tests])
    assert torch.isin(scene.base_indices, rows).all()


def test_a_corner_and_a_picture_as_patch(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), (255, 0, 128)).save(tmp_path / "patch.png")
    patch = Patch(size=PATCH, place="bottom-right", image=str(tmp_path / "patch.png"))
    poisons = crafted(patch=patch, steps=1)
    pattern = torch.tensor([255, 0, 128], dtype=torch.uint8).view(3, 1, 1).expand(3, PATCH, PATCH)
    assert poisons.goal.untriggered is not None
    places = patch_places(poisons.goal.untriggered, poisons.goal.targets, pattern)
    assert set(places) == {(6 - PATCH, 6 - PATCH)}


# --- what is matched --------------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """What the attack asked of the crafting, and what its refresh answered."""

    crafting: list[Crafting] = field(default_factory=list)
    matchers: list[list[Matcher]] = field(default_factory=list)
    asked: list[tuple[int, Tensor, list[Matcher] | None]] = field(default_factory=list)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    seen = Watch()

    class Watched(Crafting):
        def run(
            self, matchers: list[Matcher], refresh: Refresh | None = None, progress: bool = False
        ) -> tuple[Tensor, Tensor]:
            seen.crafting.append(self)
            seen.matchers.append(matchers)
            if refresh is None:
                return super().run(matchers, None, progress)

            def asked(step: int, change: Tensor) -> list[Matcher] | None:
                answer = refresh(step, change)
                seen.asked.append((step, change.clone(), answer))
                return answer

            return super().run(matchers, asked, progress)

    monkeypatch.setattr(sleeper_agent, "Crafting", Watched)
    return seen


@dataclass
class Training:
    """One call of ``train``."""

    data: TrainingSet
    recipe: Recipe
    seed: int
    defenses: list[Defense]
    weights: dict[str, Tensor]


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """Nothing is trained; the calls are kept."""
    calls: list[Training] = []

    def recorded(
        model: nn.Module, normalize: Normalize, data: TrainingSet, recipe: Recipe, *, seed: int,
        defenses: Sequence[Defense] = (), checkpoint: Checkpoint | None = None, capture: str = "auto",
    ) -> list[dict[str, float]]:  # fmt: skip
        assert checkpoint is None
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        calls.append(Training(data, recipe, seed, list(defenses), weights))
        return []

    monkeypatch.setattr(sleeper_agent, "train", recorded)
    return calls


def slow_goal(model: Classifier, sources: Tensor, target: int) -> list[Tensor]:
    """The mean of the gradients that patched sources give, one by one, if called ``target``."""
    total = [torch.zeros_like(p) for p in model.parameters()]
    for image in sources:
        loss = F.cross_entropy(model.eval()(normalize()(image[None] / 255)), torch.tensor([target]))
        for place, gradient in enumerate(torch.autograd.grad(loss, list(model.parameters()))):
            total[place] += gradient / len(sources)
    return total


def test_the_goal_is_the_mean_gradient_of_patched_sources_called_the_target_class(watch: Watch) -> None:
    models = [trained(0), trained(1)]
    who = attacker(*models)
    crafted(who, ensemble=2, seed=1)
    scene = draw_scene(dataset(), who, options(), 1)
    for matcher, model in zip(watch.matchers[0], models, strict=True):
        assert matcher.model is model
        expected = slow_goal(model, scene.sources, scene.target_class)
        assert len(matcher.goal) == len(expected)
        for ours, theirs in zip(matcher.goal, expected, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-6)


def test_the_loss_falls_and_is_the_angle_between_the_two_gradients() -> None:
    model = trained()
    poisons = crafted(attacker(model), steps=40, precision="float32", tau=1.0)
    losses = poisons.diagnostics["matching_loss"]
    assert losses.shape == (1, 40)
    assert losses[0, -1] < losses[0, 0] - 0.05
    scene = draw_scene(dataset(), attacker(model), options(), 0)
    goal = torch.cat([part.flatten() for part in slow_goal(model, scene.sources, scene.target_class)])
    loss = F.cross_entropy(model(normalize()(poisons.images)), poisons.labels)
    ours = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])
    assert losses[0, -1].item() == pytest.approx(1 - float(ours @ goal / (ours.norm() * goal.norm())), abs=0.01)


# --- retraining -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "steps", "expected"),
    [
        (50, 250, [50, 100, 150, 200]),
        (50, 251, [50, 100, 150, 200]),
        (50, 252, [50, 100, 150, 200, 250]),
        (3, 10, [3, 6]),
        (2, 4, [2]),
        (1, 4, [1, 2]),
        (0, 9, []),
    ],
)
def test_retraining_happens_at_multiples_but_not_before_the_last_step(
    trainings: list[Training], watch: Watch, every: int | None, steps: int, expected: list[int]
) -> None:
    crafted(
        attacker(network(0, False), fresh=lambda seed: network(seed % 100, False)), steps=steps, retrain_every=every
    )
    assert [step for step, _, answer in watch.asked if answer is not None] == expected
    assert [call.seed for call in trainings] == [stream_seed(0, "sleeper-agent", "retrain", s, 0) for s in expected]


@pytest.mark.parametrize(("every", "steps"), [(3, 4), (4, 4), (50, 4), (50, 51), (1, 1), (1, 2)])
def test_retraining_that_never_happens_is_refused(every: int, steps: int) -> None:
    """No multiple of ``every`` is a step other than 0 and the last."""
    assert not [step for step in range(1, steps - 1) if step % every == 0]
    with pytest.raises(ValidationError) as caught:
        options(steps=steps, retrain_every=every)
    message = caught.value.errors()[0]["msg"]
    assert f"attack 'sa': retrain_every {every} never retrains in {steps} steps" in message
    assert "lower it, or set 0" in message


def test_the_defaults_are_the_published_ones() -> None:
    settings = SleeperAgent(name="sa", surrogate="s")
    assert (settings.steps, settings.retrain_every, settings.patch.size) == (250, 50, 8)
    assert (settings.selection, settings.patch.place, settings.eps, settings.budget) == (
        "gradient-norm",
        "random",
        16,
        0.01,
    )


@pytest.mark.parametrize("rows", [None, torch.cat([torch.arange(10, 50), torch.arange(60, 75)])])
def test_surrogates_are_retrained_on_the_poisons_so_far(
    trainings: list[Training], watch: Watch, rows: Tensor | None
) -> None:
    data = dataset()
    poisons = crafted(attacker(rows=rows), steps=12, retrain_every=5, eps=20)
    assert len(trainings) == 2
    kept = torch.arange(80) if rows is None else rows
    changes = {step: change for step, change, _ in watch.asked}
    for call, step in zip(trainings, (5, 10), strict=True):
        assert torch.equal(call.data.labels, data.train_labels[kept])
        assert call.data.rows.tolist() == list(range(len(kept)))
        images = call.data.images * 255
        for place, row in enumerate(kept.tolist()):
            expected = data.train_images[row].double()
            if row in poisons.indices.tolist():
                expected = expected + changes[step][poisons.indices.tolist().index(row)]
                assert 0 < (images[place] - data.train_images[row]).abs().max() <= 20 + 1e-3
            assert torch.allclose(images[place].double(), expected.clamp(0, 255), atol=1e-3)
    assert not torch.equal(trainings[0].data.images, trainings[1].data.images)
    assert torch.equal(dataset().train_images, data.train_images)


def test_every_retraining_starts_from_weights_of_its_own(trainings: list[Training]) -> None:
    asked: list[int] = []

    def fresh(seed: int) -> Classifier:
        asked.append(seed)
        return network(seed % 1000)

    crafted(attacker(trained(0), trained(1), fresh=fresh), ensemble=2, steps=8, retrain_every=3)
    assert len(asked) == len(set(asked)) == len(trainings) == 4
    for seed, call in zip(asked, trainings, strict=True):
        expected = network(seed % 1000).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in call.weights.items())


def test_crafting_goes_on_with_the_retrained_networks_and_their_goals(watch: Watch) -> None:
    """Nothing replaced here: the networks are trained by the plain loop on the recorded poisons."""
    data, who = dataset(), attacker()
    poisons = crafted(who, steps=7, retrain_every=3)
    scene = draw_scene(data, who, options(), 0)
    (step, change, answer), *_ = [entry for entry in watch.asked if entry[2] is not None]
    assert step == 3
    assert answer is not None
    (matcher,) = answer
    stream = stream_seed(0, "sleeper-agent", "retrain", 3, 0)
    slow, images = network(stream), data.train_images / 255
    images[poisons.indices] = (images[poisons.indices] + change.float() / 255).clamp(0, 1)
    train(slow, normalize(), TrainingSet(images, data.train_labels, torch.arange(80)), who.recipe, seed=stream)
    for ours, theirs in zip(matcher.model.state_dict().values(), slow.state_dict().values(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    for own, part in zip(matcher.goal, slow_goal(slow, scene.sources, scene.target_class), strict=True):
        assert torch.allclose(own, part, atol=1e-5)
    # The first steps are those of an attack that never retrains; later ones are not.
    never = crafted(attacker(), steps=7).diagnostics["matching_loss"][0]
    losses = poisons.diagnostics["matching_loss"][0]
    assert torch.equal(losses[:3], never[:3])
    assert (losses[3:] - never[3:]).abs().min() > 1e-4


def test_an_attack_without_retraining_needs_no_means_to_train() -> None:
    crafted(attacker(fresh=None))
    with pytest.raises(SettingsError, match="fresh") as caught:
        crafted(attacker(fresh=None), retrain_every=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("long", "epochs", "milestones", "warmup"),
    [
        ({"epochs": 80, "milestones": (30, 50, 70)}, 40, (15, 25, 35), 0),
        ({"epochs": 80, "milestones": (30, 50, 70), "warmup_epochs": 4}, 20, (7, 12, 17), 1),
        ({"epochs": 40, "milestones": None}, 16, None, 0),
        ({"epochs": 80, "milestones": (30, 50, 70)}, 2, (1,), 0),
        ({"epochs": 80, "milestones": (30, 50, 70)}, 1, (), 0),
        ({"epochs": 80, "milestones": (30, 50, 70)}, 80, (30, 50, 70), 0),
        ({"epochs": 80, "milestones": (30, 50, 70)}, None, (30, 50, 70), 0),
        ({"epochs": 10, "milestones": (5,)}, 40, (20,), 0),
    ],
)
def test_a_shorter_retraining_keeps_the_milestones_shares(
    trainings: list[Training],
    long: dict[str, Any],
    epochs: int | None,
    milestones: tuple[int, ...] | None,
    warmup: float,
) -> None:
    recipe = Recipe(
        **{**long, "batch_size": 40, "lr": 0.03, "augmentation": {"kind": "crop", "pixels": 1, "flip": False}}
    )
    crafted(attacker(recipe=recipe), steps=4, retrain_every=2, retrain_epochs=epochs)
    (call,) = trainings
    assert call.recipe.epochs == (epochs or recipe.epochs)
    assert call.recipe.milestones == milestones
    assert call.recipe.warmup_epochs == warmup
    changed = {"base", "epochs", "milestones", "warmup_epochs"}
    assert call.recipe.model_dump(exclude=changed) == recipe.model_dump(exclude=changed)


# --- adaptation -------------------------------------------------------------------------------------------------------


def friendly(count: int = 80) -> Tensor:
    return ((torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(2)) * 2 - 1) * 30 / 255).half()


RANDOM = RandomNoiseSettings(distribution="bernoulli", mu=40)


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("random", [False, True])
def test_retraining_is_under_the_defenses_that_the_attacker_expects(
    trainings: list[Training], held: bool, random: bool
) -> None:
    adaptation = Adaptation(random_noise=RANDOM) if random else None
    crafted(attacker(friendly_noise=friendly() if held else None), adaptation=adaptation, steps=4, retrain_every=2)
    (call,) = trainings
    kinds = [FriendlyNoise] * held + [RandomNoise] * random
    assert [type(defense) for defense in call.defenses] == kinds
    for defense in call.defenses:
        if isinstance(defense, FriendlyNoise):
            assert defense.start == 0
            assert torch.equal(defense.noise, friendly())
        if isinstance(defense, RandomNoise):
            assert defense.settings == RANDOM


@pytest.mark.parametrize("rows", [None, torch.arange(20, 80)])
@pytest.mark.parametrize("random", [False, True])
def test_crafting_sees_the_noise(rows: Tensor | None, random: bool) -> None:
    """With one level of perturbation at most, what the network sees is the base, the noise and a level."""
    data, model, seen = dataset(), trained(), []

    def hook(_: nn.Module, args: tuple[Tensor, ...], __: Tensor) -> None:
        if len(args[0]) == (8 if rows is None else 6):
            seen.append(args[0].detach().clone())

    noise = friendly(80 if rows is None else 60)
    who = attacker(model, friendly_noise=noise, rows=rows)
    adaptation = Adaptation(random_noise=RANDOM) if random else None
    bases = draw_scene(data, who, options(), 0).base_indices
    handle = model.extract.register_forward_hook(hook)
    poisons = craft(data, who, options(adaptation=adaptation, eps=1, steps=3), seed=0)
    handle.remove()
    assert torch.equal(poisons.indices, bases)
    own = noise[bases if rows is None else bases - 20].float()
    expected = (data.train_images[bases] / 255 + own).clamp(0, 1) * 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (data.mean, data.std))
    shown = [(x * std + mean) * 255 for x in seen[-3:]]
    assert len(shown) == 3
    for pixels in shown:
        apart = (pixels - expected).abs()
        assert ((apart - 40).abs() if random else apart).max() <= 1 + 1e-3
    assert torch.allclose(shown[0], shown[1], atol=2.1) is not random


# --- the poisons ------------------------------------------------------------------------------------------------------


def test_the_trigger_is_on_no_poison() -> None:
    """Hidden: with so small a bound no poison can hold a saturated patch."""
    poisons = crafted(eps=8)
    pattern = own_pattern(PATCH)
    for image in poisons.images:
        for row in range(6 - PATCH + 1):
            for column in range(6 - PATCH + 1):
                assert not torch.equal(image[:, row : row + PATCH, column : column + PATCH], pattern)


# --- what goes wrong --------------------------------------------------------------------------------------------------


def refused(*words: object, data: ImageDataset | None = None, **changes: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        craft(data or dataset(), attacker(), options(**changes), seed=0)
    assert "\n" not in str(caught.value)
    for word in words:
        assert str(word) in str(caught.value), str(caught.value)


@pytest.mark.parametrize("place", ["random", "bottom-right"])
def test_a_patch_larger_than_the_image_is_one_line(place: str) -> None:
    refused("7 x 7", "6 x 6", patch=Patch(size=7, place=place))
    crafted(patch=Patch(size=6, place=place), steps=1)


def test_a_budget_beyond_the_candidates_names_them() -> None:
    refused("8 poisons", "candidates", candidates=5)


def test_a_source_class_without_test_images_is_one_line() -> None:
    data = dataset()
    kept = data.test_labels != 2
    lacking = replace(data, test_images=data.test_images[kept], test_labels=data.test_labels[kept])
    refused("source class 'c'", "test", data=lacking, source_class=2)


def test_a_grey_dataset_takes_a_grey_patch() -> None:
    data = dataset()
    grey = ImageDataset(
        data.train_images[:, :1], data.train_labels, data.test_images[:, :1], data.test_labels, data.class_names,
        (0.4,), (0.25,),
    )  # fmt: skip
    scene_model = Classifier(nn.Sequential(nn.Flatten()), nn.Linear(36, 4))
    who = Attacker((scene_model,), Normalize((0.4,), (0.25,)), Recipe(augmentation=STILL))
    scene = draw_scene(grey, who, options(), 0)
    patch_places(scene.untriggered, scene.tests, own_pattern(PATCH, channels=1))
