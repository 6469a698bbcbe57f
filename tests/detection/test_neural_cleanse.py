"""Neural Cleanse against closed forms and a slow loop, and on a network with a backdoor."""

from __future__ import annotations

import copy
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from planted import CLASSES, NORMALIZE, TARGET, accuracy, attack_success, planted
from torch import Tensor, nn

from poisonlab.config.detection.neural_cleanse import NeuralCleanse as Settings
from poisonlab.detection import neural_cleanse
from poisonlab.detection.neural_cleanse import (
    ReversedTrigger,
    Schedule,
    Stagnation,
    outlier_indices,
    partly_stamped,
    repair,
    reverse_trigger,
    reverse_triggers,
    suspects,
)
from poisonlab.errors import DataError, PoisonlabError, SettingsError
from poisonlab.randomness import generator

SMALL = 4


def images(count: int, seed: int = 1) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, SMALL, SMALL), generator=stream, dtype=torch.uint8)


def linear(classes: int = 3, never: int | None = None) -> nn.Sequential:
    """A linear network; class ``never`` is out of any image's reach."""
    torch.manual_seed(0)
    head = nn.Linear(3 * SMALL * SMALL, classes)
    if never is not None:
        with torch.no_grad():
            head.bias[never] = -1e4
    return nn.Sequential(nn.Flatten(), head)


def trigger(
    opacity: float, colour: float = 1.0, norm: float = 1.0, target: int = 0, reached: bool = True
) -> ReversedTrigger:
    mask = torch.full((1, SMALL, SMALL), opacity)
    return ReversedTrigger(target, mask, torch.full((3, SMALL, SMALL), colour), norm, reached, 1.0)


def costs(outcomes: list[bool]) -> list[float]:
    schedule, found = Schedule(Settings().initial_cost), []
    for succeeded in outcomes:
        schedule = schedule.after(succeeded)
        found.append(schedule.cost)
    return found


def test_the_cost_doubles_and_falls_after_five_epochs_on_end() -> None:
    outcomes = [True] * 11 + [False] * 5 + [True] * 4 + [False] * 4 + [True] + [False] * 10
    expected = [1e-3] * 4 + [2e-3] * 5 + [4e-3] * 6 + [4e-3 / 2**1.5] * 14 + [4e-3 / 2**3] * 5 + [4e-3 / 2**4.5]
    assert costs(outcomes) == pytest.approx(expected)


def test_the_schedule_remembers_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neural_cleanse, "_PATIENCE", 1)
    up = Schedule(1.0).after(True)
    assert (up.was_raised, up.was_lowered, up.cost) == (True, False, 2.0)
    down = up.after(False)
    assert (down.was_raised, down.was_lowered) == (True, True)
    assert (down.successes, down.failures) == (0, 0)


def test_stagnation_counts_epochs_without_one_percent_of_progress() -> None:
    state, counts = Stagnation(), []
    for smallest in [math.inf, math.inf, 100, 100, 99.5, 98, 97.9, 50, 50]:
        state = state.after(smallest)
        counts.append(state.epochs)
    # 98 < 0.99 * 99.5, 97.9 is not below 0.99 * 98.
    assert counts == [0, 0, 0, 1, 2, 0, 1, 0, 1]
    assert state.norm == 50


def test_indices_of_planted_norms() -> None:
    norms = [52.0, 48.0, 5.0, 50.0, 54.0, 46.0, 90.0]
    # median 50; deviations 2, 2, 45, 0, 4, 4, 40 with median 4
    expected = np.array([-2, 2, 45, 0, -4, 4, -40]) / (1.4826 * 4)
    np.testing.assert_allclose(outlier_indices(norms).numpy(), expected)
    flags = suspects([trigger(0.5, norm=norm, target=place) for place, norm in enumerate(norms)])
    assert [found.target for found in flags] == [2]


def test_a_small_mask_that_does_not_reach_its_class_is_no_suspect() -> None:
    norms = [52.0, 48.0, 5.0, 50.0, 54.0, 46.0, 90.0]
    triggers = [trigger(0.5, norm=norm, target=place, reached=place != 2) for place, norm in enumerate(norms)]
    assert suspects(triggers) == []


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two() -> None:
    # median 2.5; deviations 1.5, 0.5, 0.5, 1.5 with median 1
    assert outlier_indices([4.0, 1.0, 3.0, 2.0]).tolist() == pytest.approx(np.array([-1.5, 1.5, -0.5, 0.5]) / 1.4826)


@pytest.mark.parametrize(
    ("norms", "expected"),
    [
        ([7.0, 7.0, 7.0], [0, 0, 0]),
        ([7.0, 7.0, 7.0, 3.0, 9.0], [0, 0, 0, math.inf, -math.inf]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
    ],
)
def test_degenerate_norms_have_indices(norms: list[float], expected: list[float]) -> None:
    assert outlier_indices(norms).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("norms", "message"),
    [
        ([1.0, 2.0], "needs at least 3"),
        ([1.0, 2.0, math.nan], "not finite"),
        ([1.0, 2.0, math.inf], "not finite"),
        ([1.0, 2.0, -3.0], "negative"),
    ],
)
def test_norms_without_indices_are_one_line(norms: list[float], message: str) -> None:
    with pytest.raises(PoisonlabError, match=message) as caught:
        outlier_indices(norms)
    assert "\n" not in str(caught.value)


def slow_search(model: nn.Module, tested: Tensor, target: int, epochs: int, batch: int, cost: float) -> list[Tensor]:
    """Mask and pattern after a search at constant cost: images one by one, Adam written out."""
    raws = [torch.ones(1, SMALL, SMALL), torch.ones(3, SMALL, SMALL)]
    first, second = ([torch.zeros_like(raw) for raw in raws] for _ in range(2))
    order, step = generator("cpu", 5, "neural cleanse", target), 0
    for _ in range(epochs):
        for rows in torch.randperm(len(tested), generator=order).split(batch):
            step += 1
            leaves = [raw.clone().requires_grad_() for raw in raws]
            mask, pattern = (leaf.tanh() / 2 + 0.5 for leaf in leaves)
            losses = []
            for row in rows.tolist():
                mixed = (1 - mask) * (tested[row].float() / 255) + mask * pattern
                losses.append(-model(NORMALIZE(mixed[None])).log_softmax(1)[0, target])
            gradients = torch.autograd.grad(torch.stack(losses).mean() + cost * mask.abs().sum(), leaves)
            for place, gradient in enumerate(gradients):
                first[place] = 0.5 * first[place] + 0.5 * gradient
                second[place] = 0.9 * second[place] + 0.1 * gradient**2
                scale = (second[place] / (1 - 0.9**step)).sqrt() + 1e-8
                raws[place] = raws[place] - 0.1 * first[place] / (1 - 0.5**step) / scale
    return [raw.tanh() / 2 + 0.5 for raw in raws]


@pytest.mark.parametrize("never", [None, 2])
def test_a_loop_over_images_finds_the_same_trigger(never: int | None) -> None:
    """The last mask, because no epoch counts or because each one beats the epochs before it."""
    model, tested = linear(never=never), images(13)
    settings = Settings(epochs=4, batch_size=5, initial_cost=0.5, success=0.01)
    found = reverse_trigger(model, NORMALIZE, tested, 2, settings, seed=5)
    mask, pattern = slow_search(model, tested, 2, 4, 5, 0.5)
    torch.testing.assert_close(found.mask, mask, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.pattern, pattern, rtol=0, atol=1e-4)
    classes = [int(model(NORMALIZE(found.stamp(image[None]))).argmax()) for image in tested]
    assert found.success == pytest.approx(np.mean([k == 2 for k in classes]))
    assert found.norm == pytest.approx(float(mask.sum()), abs=1e-3)
    assert found.reached is not bool(never)


def test_the_smallest_mask_with_success_is_kept() -> None:
    """A network that puts everything into class 0: its mask shrinks as fast as it can and every epoch counts."""
    model = linear()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([5.0, 0.0, 0.0]))
    norms = [
        reverse_trigger(model, NORMALIZE, images(8), 0, Settings(epochs=epochs), seed=0).norm for epochs in (1, 5, 20)
    ]
    assert norms[0] > norms[1] > norms[2]
    assert not reverse_trigger(model, NORMALIZE, images(8), 1, Settings(epochs=5), seed=0).reached


class Bright(nn.Module):
    """Puts images whose normalised mean is above 1.34 into class 1."""

    def forward(self, x: Tensor) -> Tensor:
        brightness = x.flatten(1).mean(1)
        return torch.stack([torch.full_like(brightness, 1.34), brightness], 1)


@pytest.mark.parametrize(("asked", "found"), [(0.7, True), (0.75, True), (0.8, False)])
def test_an_epoch_succeeds_from_the_share_that_is_asked_for(asked: float, found: bool) -> None:
    """Mask and pattern begin at 0.88, which leaves black images a normalised mean of 1.10, and white ones 1.58."""
    black_and_white = torch.tensor([0, 255, 255, 255], dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, SMALL, SMALL)
    settings = Settings(epochs=1, lr=1e-6, success=asked)
    reversed_trigger = reverse_trigger(Bright(), NORMALIZE, black_and_white, 1, settings, seed=0)
    assert reversed_trigger.reached is found
    assert reversed_trigger.success == 0.75


def forwards(model: nn.Module, tested: Tensor, target: int, settings: Settings) -> int:
    """How often a search calls the network."""
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    handle = model.register_forward_hook(count)
    reverse_trigger(model, NORMALIZE, tested, target, settings, seed=0)
    handle.remove()
    return calls


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch decides about the cost and the end of a search."""
    monkeypatch.setattr(neural_cleanse, "_PATIENCE", 1)
    monkeypatch.setattr(neural_cleanse, "_EARLY_PATIENCE", 1)


@pytest.mark.usefixtures("hasty")
def test_the_search_stops_where_nothing_improves() -> None:
    case = planted()
    settings = Settings(batch_size=32, epochs=60)
    assert forwards(case.model, case.images[:32], TARGET, settings) < 60


@pytest.mark.usefixtures("hasty")
def test_the_search_goes_on_while_the_cost_went_only_one_way() -> None:
    """A network that knows one class: the mask is soon 0, which cannot be improved, but the trigger never fails."""
    model = linear()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([5.0, 0.0, 0.0]))
    settings = Settings(lr=20.0, epochs=12)
    assert reverse_trigger(model, NORMALIZE, images(8), 0, settings, seed=0).norm == 0
    assert forwards(model, images(8), 0, settings) == 12 + 1


def test_a_share_of_the_images_is_stamped_and_dealt_out() -> None:
    tested = images(40)
    triggers = [trigger(1.0, 0.25), trigger(1.0, 0.75)]
    result = partly_stamped(tested, triggers, 0.2, generator("cpu", 0))
    changed = (result != tested.float() / 255).flatten(1).any(1)
    assert int(changed.sum()) == 8
    assert sorted(result[changed].flatten(1).mean(1).tolist()) == pytest.approx([0.25] * 4 + [0.75] * 4)
    assert torch.equal(partly_stamped(tested, [], 0.2, generator("cpu", 0)), tested.float() / 255)


def test_half_opaque_triggers_mix() -> None:
    black = torch.zeros(1, 3, SMALL, SMALL, dtype=torch.uint8)
    assert trigger(0.5, 0.5).stamp(black).unique().tolist() == [0.25]


def test_a_loop_of_plain_gradient_steps_repairs_alike() -> None:
    model, tested, labels = linear(), images(11), torch.arange(11) % 3
    triggers = [trigger(0.7, 0.9)]
    repaired = repair(model, NORMALIZE, tested, labels, triggers, seed=6, lr=0.1, epochs=2, batch_size=4)
    slow = copy.deepcopy(model)
    inputs = partly_stamped(tested, triggers, 0.2, generator("cpu", 6, "stamped"))
    for epoch in range(2):
        order = torch.randperm(11, generator=generator("cpu", 6, "order", epoch))
        for start in range(0, 11, 4):
            rows = order[start : start + 4]
            loss = F.cross_entropy(slow(NORMALIZE(inputs[rows])), labels[rows])
            gradients = torch.autograd.grad(loss, list(slow.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(slow.parameters(), gradients, strict=True):
                    parameter -= 0.1 * gradient
    for ours, theirs in zip(repaired.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_repair_leaves_the_model_and_the_random_state_alone() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), linear()).train()
    model[0].weight.requires_grad_(False)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    one, two = (
        repair(model, NORMALIZE, images(9), torch.arange(9) % 3, [trigger(0.5)], seed=1, lr=0.1) for _ in range(2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not one.training
    # Fine-tuned in train mode: batch norm follows the one batch.
    assert int(one.state_dict()["0.num_batches_tracked"]) == 1
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name])
    assert torch.equal(one.state_dict()["0.weight"], before["0.weight"])
    assert not torch.equal(one.state_dict()["2.1.weight"], before["2.1.weight"])


@pytest.mark.parametrize("settings", [{"share": 1.5}, {"epochs": -1}, {"batch_size": 0}])
def test_impossible_repairs_are_one_line(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        repair(linear(), NORMALIZE, images(3), torch.arange(3), [trigger(0.5)], seed=0, **settings)
    assert "\n" not in str(caught.value)


def test_data_that_do_not_fit_are_said_so() -> None:
    with pytest.raises(DataError, match="N at least 1"):
        reverse_trigger(linear(), NORMALIZE, images(0), 0, seed=0)
    with pytest.raises(DataError, match="labels of shape"):
        repair(linear(), NORMALIZE, images(3), torch.arange(2), [], seed=0)


def test_networks_that_are_not_finite_are_said_so() -> None:
    model = linear()
    with torch.no_grad():
        model[1].weight.fill_(math.nan)
    with pytest.raises(PoisonlabError, match="class 1 is not finite"):
        reverse_trigger(model, NORMALIZE, images(4), 1, Settings(epochs=1), seed=0)
    with pytest.raises(PoisonlabError, match="repair diverged"):
        repair(model, NORMALIZE, images(3), torch.arange(3), [trigger(0.5)], seed=0)


@cache
def found() -> list[ReversedTrigger]:
    """Of the network with a backdoor, from 48 clean images."""
    case = planted()
    settings = Settings(batch_size=16, epochs=30)
    return reverse_triggers(case.model, NORMALIZE, case.images[:48], CLASSES, settings, seed=0)


def test_the_planted_class_has_the_smallest_trigger_and_alone_is_flagged() -> None:
    norms = [one.norm for one in found()]
    assert int(np.argmin(norms)) == TARGET
    assert [one.target for one in suspects(found())] == [TARGET]
    assert 3 * norms[TARGET] < 2 * min(norm for place, norm in enumerate(norms) if place != TARGET)
    for one in found():
        assert one.success > 0.9
        assert one.norm == pytest.approx(float(one.mask.sum()))


def test_the_reversed_trigger_lies_where_the_patch_was() -> None:
    mask = found()[TARGET].mask[0]
    assert float(mask[-4:, -4:].sum()) > 0.5 * float(mask.sum())


def test_repair_removes_the_backdoor_and_little_else() -> None:
    """Fine-tuning on the same images without the stamp does not."""
    case = planted()
    clean, labels, held_out, classes = case.images[:128], case.labels[:128], case.images[128:], case.labels[128:]
    repaired, tuned = (
        repair(
            case.model,
            NORMALIZE,
            clean,
            labels,
            suspects(found()),
            seed=0,
            share=share,
            lr=0.05,
            epochs=5,
            batch_size=32,
        )
        for share in (0.2, 0.0)
    )
    assert attack_success(case.model, held_out, classes) > 0.95
    assert attack_success(tuned, held_out, classes) > 0.8
    assert attack_success(repaired, held_out, classes) < 0.2
    assert accuracy(repaired, held_out, classes) > 0.95
