"""What every defense of the training promises, alone and beside each defense that it goes with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from deterministic import Watched
from pydantic import ValidationError
from recording import replayed_on_the_cpu
from registry import DEFENSES, case_of, check_settings_are_told, modules_of
from tiny import MEAN, STD, STILL, KilledError, Run, batch_of, data_set, grouped, network, state, trained

from poisonlab.config.defenses.friendly_noise import FriendlyNoise
from poisonlab.config.rows import Row
from poisonlab.defenses.build import build_defenses
from poisonlab.errors import SettingsError
from poisonlab.models.classifier import FrozenFeatures, Normalize
from poisonlab.training.capture import WARM_UP


@dataclass(frozen=True)
class Case:
    """Small settings of a defense.

    Attributes:
        on: settings that change the outcome of ``tiny.trained``.
        off: settings of no strength, which leave the outcome as it is; None of a defense that has none.
        others: of every setting a value that, in the place of that of ``on``, gives another outcome.
        elsewhere: settings that do not act in ``tiny.trained``; the defense's own tests see to them.
        off_recipe: changes of the recipe, of both trainings that are compared, under which ``off`` has no strength.
        exact: whether the outcome under ``off`` is the same to the bit, and not just up to rounding.
        draws: whether a batch is changed by chance.
    """

    on: Mapping[str, Any]
    off: Mapping[str, Any] | None
    others: Mapping[str, Any] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()
    off_recipe: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = True
    draws: bool = False


@pytest.fixture(autouse=True)
def bounds_below_a_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study may not have them, but a bound of next to nothing is a defense without strength."""
    monkeypatch.setattr("poisonlab.config.types._LEAST", 0.0)


TABLE = "CASES of tests/contracts/test_defenses.py"
# No step, clip or noise is seen in float32 at this size.
NOTHING, EVERYTHING = 1e-30, 1e30
CASES: dict[str, Case] = {
    "abl": Case(
        on={"isolation_epochs": 2, "fine_tune_epochs": 3, "unlearn_epochs": 2, "share": 0.2, "gamma": 1.2},
        # The first phase alone: the tests stop after three epochs.
        off={"isolation_epochs": 3, "fine_tune_epochs": 1, "unlearn_epochs": 0, "share": 0.2, "gamma": 0},
        others={
            "isolation_epochs": 1,
            "fine_tune_epochs": 2,
            "unlearn_epochs": 1,
            "share": 0.4,
            "gamma": 0,
            "isolation_loss": "lga",
            "unlearn_lr": 1e-3,
        },
        off_recipe={"milestones": ()},
    ),
    "adversarial-poisoning": Case(
        on={"steps": 1},
        off={"eps": NOTHING},
        others={"share": 0.25, "eps": 4, "steps": 2, "lr": 0.05},
        draws=True,
    ),
    "adversarial-training": Case(
        on={"steps": 1}, off={"eps": NOTHING}, others={"eps": 4, "steps": 2, "lr": 0.05}, draws=True
    ),
    "dp-sgd": Case(
        on={"clip": 0.5, "noise_multiplier": 0.1},
        off={"clip": EVERYTHING, "noise_multiplier": 0},
        others={"clip": 0.25, "noise_multiplier": 0.2},
        # Of what is reported.
        elsewhere=frozenset({"delta"}),
        # All examples are in every batch, in another order than that of a shuffled pass.
        off_recipe={"batch_size": len(data_set()), "augmentation": STILL},
        exact=False,
    ),
    "early-stopping": Case(
        # No epoch is so much better than the one before: the second is the last.
        on={"patience": 1, "min_change": 9, "keep": "last"},
        off={"patience": 99, "keep": "last"},
        others={"patience": 2, "min_epochs": 3, "keep": "best"},
        elsewhere=frozenset({"monitor", "min_change"}),
    ),
    "epic": Case(
        on={"drop_after": 1, "fraction": 0.4},
        off={"drop_after": 3},
        others={
            "fraction": 0.7,
            "interval": 2,
            "drop_after": 2,
            "stop_after": 2,
            "alone": 2,
            "pool": "remaining",
        },
        elsewhere=frozenset({"bias", "until_last_milestone"}),
    ),
    "friendly-noise": Case(
        on={"def_epoch": 1},
        off={"def_epoch": 0, "zeta": NOTHING},
        others={"def_epoch": 2, "zeta": 8},
        # Of the making of the noise, and of victims that begin from a pretrained network.
        elsewhere=frozenset(FriendlyNoise.model_fields.keys() - {"def_epoch", "zeta"}),
    ),
    "gradient-shaping": Case(
        on={"clip": 0.5, "noise": 0.02},
        off={"clip": EVERYTHING, "noise": 0},
        others={"clip": 0.25, "noise": 0.04, "distribution": "laplacian"},
    ),
    "grayscale": Case(on={}, off=None),
    "jpeg": Case(on={}, off=None, others={"quality": 90}),
    "random-noise": Case(
        # Friendly noise would clip it if it did not.
        on={"distribution": "bernoulli", "mu": 8, "clip": True},
        off={"distribution": "gaussian", "mu": NOTHING},
        others={"distribution": "uniform", "mu": 4, "clip": False},
        draws=True,
    ),
    "strong-augmentation": Case(
        on={"kind": "mixup", "copies": 2, "warmup_epochs": 1},
        # The box has no pixel: its side is 6 * sqrt(1 - 0.66 * 1.5), rounded down.
        off={"kind": "cutout", "alpha": 1.5},
        others={"kind": "cutmix", "alpha": 3, "ways": 3, "copies": 3, "warmup_epochs": 0},
        draws=True,
    ),
}
MAXUP = {"method": "strong-augmentation", "copies": 2, "warmup_epochs": 1}
PHASES = {"method": "abl", "isolation_epochs": 2, "fine_tune_epochs": 1, "unlearn_epochs": 1, "share": 0.2}
# Forms of a method that act by other code.
OTHER_FORMS = {
    "cutmix": Case({**MAXUP, "kind": "cutmix"}, {}, draws=True),
    "cutout": Case({**MAXUP, "kind": "cutout"}, {}, draws=True),
    "local-gradient-ascent": Case({**PHASES, "isolation_loss": "lga"}, {}),
    "laplacian-shaping": Case({"method": "gradient-shaping", "noise": 0.02, "distribution": "laplacian"}, {}),
    "unclipped-noise": Case({"method": "random-noise", "distribution": "uniform", "mu": 64}, {}, draws=True),
}


def case(name: str) -> Case:
    return case_of(name, CASES | OTHER_FORMS, TABLE)


def on(name: str) -> dict[str, Any]:
    return {"method": name, **case(name).on}


def off(name: str) -> dict[str, Any]:
    told = case(name).off
    assert told is not None
    return {"method": name, **told}


def has_strength(name: str) -> bool:
    """Whether it can be told to do nothing."""
    return name not in CASES or CASES[name].off is not None


def allowed(*names: str) -> bool:
    """Whether these defenses may stand in one row."""
    try:
        Row.model_validate({"name": "row", "apply": [on(name) for name in names]})
    except ValidationError:
        return False
    return True


PAIRS = [pair for pair in permutations(sorted(set(CASES) & set(DEFENSES)), 2) if allowed(*pair)]
every_defense = pytest.mark.parametrize("name", DEFENSES)
every_form = pytest.mark.parametrize("name", [*DEFENSES, *OTHER_FORMS])


@cache
def outcome(device: torch.device, *names: str) -> Run:
    return trained([on(name) for name in names], device)


def same(first: Run, second: Run) -> bool:
    return torch.equal(first.weights, second.weights)


def test_every_defense_of_the_package_is_registered() -> None:
    builders = {name for name, module in modules_of("defenses").items() if hasattr(module, "Settings")}
    assert builders == set(DEFENSES), "a module and the union TrainingSettings of poisonlab.config.rows differ"


@every_form
def test_it_trains_to_other_weights_and_the_same_seed_to_the_same_bits(name: str, device: torch.device) -> None:
    first = outcome(device, name)
    assert bool(torch.isfinite(first.weights).all())
    assert not same(first, outcome(device))
    assert same(first, trained([on(name)], device))
    assert not same(first, trained([on(name)], device, seed=1))


@every_defense
def test_every_setting_matters(name: str) -> None:
    told, plain = case(name), outcome(torch.device("cpu"), name)
    check_settings_are_told(DEFENSES[name], told.others, f"the others of {name!r} in {TABLE}", told.elsewhere)
    for setting, value in told.others.items():
        assert not same(trained([{**on(name), setting: value}]), plain), setting


@pytest.mark.parametrize("name", [name for name in DEFENSES if has_strength(name)])
def test_without_strength_it_changes_nothing(name: str, device: torch.device) -> None:
    changes: dict[str, Any] = dict(case(name).off_recipe)
    models = [grouped(), grouped()] if name == "dp-sgd" else [network(), network()]
    plain, idle = (
        trained(rows, device, model=model, until=3, **changes)
        for rows, model in zip(([], [off(name)]), models, strict=True)
    )
    tolerance = 0.0 if case(name).exact else 1e-5
    torch.testing.assert_close(idle.weights, plain.weights, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_it_goes_with_another_which_without_strength_leaves_it_alone(
    first: str, second: str, device: torch.device
) -> None:
    both = outcome(device, first, second)
    assert bool(torch.isfinite(both.weights).all())
    assert not same(both, outcome(device, first))
    assert not same(both, outcome(device, second))
    if has_strength(second) and case(second).exact and second != "abl":
        assert same(trained([on(first), off(second)], device), outcome(device, first))


@pytest.mark.elsewhere
@every_form
def test_killed_after_any_epoch_it_ends_in_the_same_bits(name: str, device: torch.device, tmp_path: Path) -> None:
    """Beside random noise, which draws in every step."""
    names = (name, "random-noise") if allowed(name, "random-noise") else (name,)
    whole, rows = outcome(device, *names), [on(each) for each in names]

    def life(**changes: Any) -> Run:
        other = grouped(seed=9) if name == "dp-sgd" else network(seed=9)
        return trained(rows, device, model=other if saved.exists() else None, saved=saved, **changes)

    saved = tmp_path / "saved"
    # Every life goes on from the save of the one before, and saves one epoch more.
    for _ in whole.history[1:]:
        with pytest.raises(KilledError):
            life(kill_at=2)
    resumed = life()
    assert len(resumed.left) == 1
    assert same(resumed, whole)
    assert resumed.history == whole.history


@every_form
def test_its_bits_can_repeat_on_a_gpu(name: str) -> None:
    with Watched() as watched:
        trained([on(name)])
    assert watched.found == set()


@every_form
def test_its_steps_may_be_recorded_if_it_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside random noise, which draws in every step; a recording repeats what was computed and runs no Python."""
    names = (name, "random-noise") if allowed(name, "random-noise") else (name,)
    recordings = replayed_on_the_cpu(monkeypatch)
    whole, rows = outcome(torch.device("cpu"), *names), [on(each) for each in names]
    run = trained(rows, capture=True)
    assert same(run, whole)
    assert run.history == whole.history
    defenses = build_defenses(rows, noise=torch.zeros(200, 2, 6, 6))
    assert bool(recordings) is all(defense.captured for defense in defenses)
    # All full batches but for the first steps, which warm up.
    full = sum(len(left) // 8 for left in run.left)
    assert sum(made.replays for made in recordings) == (full - WARM_UP if recordings else 0)


@every_form
def test_it_trains_on_a_part_of_the_examples_as_they_are(name: str, device: torch.device) -> None:
    """Or as it made their images before the first epoch."""
    run, given = outcome(device, name), data_set()
    (defense,) = build_defenses([on(name)], noise=torch.zeros(200, 2, 6, 6))
    full = defense.prepare(data_set())
    assert full.images.shape == given.images.shape
    for left, kept in ((run.data, given), (full, replace(given, images=full.images))):
        for field_of in ("images", "labels", "rows"):
            assert torch.equal(getattr(left, field_of), getattr(kept, field_of))
    places = {row: place for place, row in enumerate(full.rows.tolist())}
    for left in run.left:
        rows = left.rows.tolist()
        assert left.rows.dtype == torch.int64
        assert 0 < len(rows) == len(set(rows))
        chosen = [places[row] for row in rows]
        assert torch.equal(left.labels.cpu(), full.labels[chosen])
        assert torch.equal(left.images.cpu(), full.images[chosen])
    assert [record["examples"] for record in run.history] == [len(left) for left in run.left]


@every_form
def test_a_batch_is_changed_by_its_own_stream_and_nothing_else_is(name: str, device: torch.device) -> None:
    """The network's weights, statistics, gradients and modes, the batch and torch's own random state stay."""
    model = network().to(device).train()
    model.extract.get_submodule("1").eval()
    next(model.parameters()).grad = torch.ones(4, 2, 3, 3, device=device)
    noise = torch.rand(12, 2, 6, 6, generator=torch.Generator().manual_seed(1)) / 16
    (defense,) = build_defenses([on(name)], noise=noise)
    before, drawn = state(model), torch.get_rng_state()

    def changed(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        plain = batch_of(model)
        batch = replace(
            plain,
            images=plain.images.to(device),
            labels=plain.labels.to(device),
            rows=plain.rows.to(device),
            epoch=1,
            generator=torch.Generator(device).manual_seed(seed),
            normalize=Normalize(MEAN, STD).to(device),
        )
        given = batch.images.clone(), batch.labels.clone()
        images = defense.change_batch(batch)
        inputs, labels = defense.change_inputs(replace(batch, images=batch.normalize(images)))
        assert torch.equal(batch.images, given[0])
        assert torch.equal(batch.labels, given[1])
        assert images.shape == given[0].shape
        assert images.dtype == inputs.dtype == torch.float32
        assert inputs.shape[1:] == given[0].shape[1:]
        assert not inputs.requires_grad
        assert len(inputs) == len(labels)
        assert labels.dtype == torch.int64 if labels.ndim == 1 else labels.shape == (len(inputs), 3)
        return images, inputs, labels

    first, again = changed(1), changed(1)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    by_chance = any(not torch.equal(one, two) for one, two in zip(first, changed(2), strict=True))
    assert by_chance is case(name).draws
    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), drawn)
    # Whoever asks the network asks it in eval mode.
    model.eval()
    assert all(torch.equal(one, two) for one, two in zip(first, changed(1), strict=True))


@every_form
def test_it_repeats_itself_if_it_says_so(name: str, device: torch.device) -> None:
    """Frozen features that are made once, where there is no augmentation, or at every step: the same head."""
    ends = []
    for augmentation in (STILL, STILL.model_copy(update={"kind": "shift", "pixels": 0.0, "flip": False})):
        start = network(dropout=0)
        run = trained(
            [on(name)], device, model=FrozenFeatures(start.extract, start.head), augmentation=augmentation, lr=0.01
        )
        ends.append(run.weights)
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-3, atol=1e-5)


@every_defense
@pytest.mark.parametrize("wrong", [{"no such key": 1}, {"method": "no-such-method"}])
def test_settings_that_it_does_not_know_are_one_line(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"no such key|no-such-method") as caught:
        build_defenses([{**on(name), **wrong}], noise=None)
    assert "\n" not in str(caught.value)
