"""DP-SGD: single examples' gradients, the noise, the batches, the accountant, and its place in the training loop."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from scipy import integrate, optimize, stats
from tiny import MEAN, STD, STILL, grouped
from torch import Tensor, nn

from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.dp_sgd import Settings, build, epsilon
from poisonlab.errors import PoisonlabError, SettingsError
from poisonlab.models import lenet, resnet18, small_resnet
from poisonlab.models.classifier import FrozenFeatures, Normalize
from poisonlab.randomness import generator
from poisonlab.training.loop import train

PLAIN = {"milestones": (), "momentum": 0, "weight_decay": 0, "augmentation": STILL}


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "small-resnet": (grouped, (2, 6, 6)),
    "small-resnet-stride-1": (
        lambda: small_resnet.build(3, (3, 8, 8), width=4, stem_stride=1, norm="group"),
        (3, 8, 8),
    ),
    "resnet18": (lambda: resnet18.build(3, (3, 4, 4), norm="group"), (3, 4, 4)),
    "lenet": (lambda: lenet.build(3, (1, 16, 16)), (1, 16, 16)),
}


def examples(count: int, shape: tuple[int, int, int], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(4)
    return torch.randn(count, *shape, generator=stream, dtype=dtype) * 3, torch.arange(count) % 3


def one_by_one(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """(N, parameters): a backward pass for every example."""
    rows = []
    for image, label in zip(images, labels, strict=True):
        weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(F.cross_entropy(model(image[None]), label[None]), weights)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return torch.stack(rows)


def stepped(
    model: nn.Module, images: Tensor, labels: Tensor, settings: Settings, batch_size: int, bfloat16: bool = False
) -> Tensor:
    """The gradient (parameters,) that the defense makes of one forward and backward pass of the mean loss."""
    defense = build(settings)
    model.train()
    with defense.attached(model):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = model(images)
        loss = F.cross_entropy(logits.float() if bfloat16 else logits, labels) if len(labels) else logits.sum()
        model.zero_grad()
        loss.backward()
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        defense.change_gradients(parameters, Recipe(batch_size=batch_size), torch.Generator().manual_seed(0))
    return torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])


def clipped_sum(gradients: Tensor, clip: float) -> Tensor:
    """Algorithm 1 of Abadi et al., before the noise."""
    total = torch.zeros_like(gradients[0])
    for gradient in gradients:
        total += gradient / max(1.0, gradient.norm().item() / clip)
    return total


# --- the gradient of a step ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layout"),
    [(name, torch.channels_last) for name in NETWORKS] + [("small-resnet", torch.contiguous_format)],
)
def test_examples_are_clipped_one_by_one_and_the_divisor_is_the_expected_batch(
    name: str, layout: torch.memory_format
) -> None:
    make, shape = NETWORKS[name]
    torch.manual_seed(1)
    model = make().double().to(memory_format=layout)
    count = 2 if name == "resnet18" else 7
    images, labels = examples(count, shape)
    images = images.contiguous(memory_format=layout)
    slow = one_by_one(model, images, labels)
    clip = slow.norm(dim=1).median().item()
    assert len({bool(length > clip) for length in slow.norm(dim=1)}) == 2
    ours = stepped(model, images, labels, Settings(clip=clip, noise_multiplier=0), batch_size=5)
    torch.testing.assert_close(ours, clipped_sum(slow, clip) / 5, rtol=1e-9, atol=1e-12)


def test_single_precision_and_bfloat16_are_near_and_bounded() -> None:
    images, labels = examples(6, (2, 6, 6), torch.float32)
    slow = one_by_one(grouped().double(), images.double(), labels)
    clip = slow.norm(dim=1).median().item()
    expected = clipped_sum(slow, clip) / 6
    settings = Settings(clip=clip, noise_multiplier=0)
    for bfloat16, tolerance in ((False, 1e-5), (True, 0.1)):
        ours = stepped(grouped(), images, labels, settings, 6, bfloat16)
        assert ours.dtype == torch.float32
        assert (ours - expected).norm() < tolerance * expected.norm()
        # One example's step is never longer than the clip, whatever the precision of its gradient.
        longest = max(
            stepped(grouped(), images[[i]], labels[[i]], settings, 1, bfloat16).double().norm() for i in range(6)
        )
        assert longest <= clip * (1 + 1e-5)


def test_a_layer_that_is_used_twice_has_one_gradient() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.outer(self.inner(torch.tanh(self.inner(x.flatten(1)))))
            return logits

    torch.manual_seed(0)
    model = Twice().double()
    images, labels = examples(5, (1, 2, 2))
    slow = one_by_one(model, images, labels)
    clip = slow.norm(dim=1).median().item()
    ours = stepped(model, images, labels, Settings(clip=clip, noise_multiplier=0), 5)
    torch.testing.assert_close(ours, clipped_sum(slow, clip) / 5)


def test_an_empty_batch_is_pure_noise_of_the_stated_variance() -> None:
    images, labels = examples(0, (2, 6, 6), torch.float32)
    noise = stepped(grouped(), images, labels, Settings(clip=0.25, noise_multiplier=3), batch_size=10)
    scaled = noise.double().numpy() * 10 / (0.25 * 3)
    assert 1e-3 < stats.chi2.cdf((scaled**2).sum(), scaled.size) < 1 - 1e-3
    assert stats.kstest(scaled, stats.norm.cdf).pvalue > 1e-3
    assert stepped(grouped(), images, labels, Settings(noise_multiplier=0), 10).abs().max() == 0


def test_noise_is_added_to_the_sum_and_the_generator_decides() -> None:
    images, labels = examples(4, (2, 6, 6), torch.float32)
    none, one, two = (
        stepped(grouped(), images, labels, Settings(clip=0.5, noise_multiplier=m), 4).double() for m in (0, 1, 2)
    )
    empty = stepped(grouped(), images[:0], labels[:0], Settings(clip=0.5, noise_multiplier=1), 4).double()
    torch.testing.assert_close(one - none, empty, rtol=0, atol=1e-6)
    torch.testing.assert_close(two - none, 2 * empty, rtol=0, atol=1e-6)
    model = grouped()
    drawn = torch.get_rng_state()
    stepped(model, images, labels, Settings(), 4)
    assert torch.equal(torch.get_rng_state(), drawn)


# --- batches ---------------------------------------------------------------------------------------------------------


def inclusions(count: int, batch_size: int, epochs: int) -> Tensor:
    """(steps, count) float64: which examples each step of these epochs took."""
    rows = []
    for epoch in range(epochs):
        batches = build(Settings()).draw_batches(count, Recipe(batch_size=batch_size), generator("cpu", 0, epoch))
        assert len(batches) == math.ceil(count / batch_size)
        for batch in batches:
            assert batch.dtype == torch.int64
            assert len(set(batch.tolist())) == len(batch)
            rows.append(torch.zeros(count, dtype=torch.float64).index_fill_(0, batch, 1))
    return torch.stack(rows)


def test_batches_take_every_example_independently_with_the_same_probability() -> None:
    count, batch_size = 210, 20
    taken = inclusions(count, batch_size, epochs=150)
    steps, rate = len(taken), batch_size / count
    assert steps == 150 * 11
    sizes, times = taken.sum(1), taken.sum(0)
    assert abs(sizes.mean().item() - 20) < 4 * math.sqrt(count * rate * (1 - rate) / steps)
    # The sizes' dispersion, and the examples', are those of the binomial distribution.
    for values, draws in ((sizes, count), (times, steps)):
        dispersion = ((values - draws * rate) ** 2 / (draws * rate * (1 - rate))).sum().item()
        assert 1e-4 < stats.chi2.cdf(dispersion, len(values)) < 1 - 1e-4
    centred = (taken - rate) / math.sqrt(rate * (1 - rate))
    for left, right in ((centred[:, 1:], centred[:, :-1]), (centred[1:], centred[:-1])):
        assert abs((left * right).mean().item()) < 4 / math.sqrt(left.numel())


def test_batches_follow_the_generator() -> None:
    assert torch.equal(inclusions(50, 7, 3), inclusions(50, 7, 3))
    both = inclusions(50, 7, 2)
    first, second = both[:8], both[8:]
    assert not torch.equal(first, second)
    assert (inclusions(6, 6, 2) == 1).all()
    with pytest.raises(SettingsError, match="set batch_size to 6 or less") as caught:
        inclusions(6, 7, 1)
    assert "\n" not in str(caught.value)


# --- privacy ---------------------------------------------------------------------------------------------------------


def reported(noise_multiplier: float, count: int, delta: float | None = None, **recipe: Any) -> dict[str, float]:
    return build(Settings(noise_multiplier=noise_multiplier, delta=delta)).report(Recipe(**recipe), count, [])


def spent(order: float, renyi: float, delta: float) -> float:
    """Theorem 21 of Balle et al. 2020."""
    return renyi + math.log((order - 1) / order) - (math.log(delta) + math.log(order)) / (order - 1)


@pytest.mark.parametrize(("sigma", "epochs"), [(1.0, 1), (2.0, 10), (5.0, 40), (20.0, 10)])
def test_full_batches_cost_what_the_gaussian_mechanism_does(sigma: float, epochs: int) -> None:
    delta = 1e-5
    ours = reported(sigma, 100, delta, batch_size=100, epochs=epochs)["privacy_epsilon"]
    # Rényi divergence of two Gaussians, at the best of all orders.
    best = optimize.minimize_scalar(
        lambda order: spent(order, epochs * order / (2 * sigma**2), delta), bounds=(1.01, 500), method="bounded"
    ).fun
    assert best - 1e-9 <= ours < best * 1.01
    # The tight answer (Balle & Wang 2018, theorem 8) is smaller, but not by much.
    mu = math.sqrt(epochs) / sigma

    def excess(e: float) -> float:
        return float(stats.norm.cdf(mu / 2 - e / mu) - math.exp(e) * stats.norm.cdf(-mu / 2 - e / mu) - delta)

    tight = optimize.brentq(excess, 1e-6, 100)
    assert tight < ours < 1.25 * tight


@pytest.mark.parametrize(("sigma", "count", "batch_size", "epochs"), [(1.0, 1000, 50, 10), (0.7, 200, 50, 3)])
def test_poisson_batches_cost_the_sampled_gaussian_mechanism(
    sigma: float, count: int, batch_size: int, epochs: int
) -> None:
    """Mironov et al. 2019, section 3.3, by numerical integration instead of series."""
    rate, steps = batch_size / count, epochs * math.ceil(count / batch_size)

    def renyi(order: float) -> float:
        def integrand(z: float) -> float:
            ratio = 1 - rate + rate * math.exp((2 * z - 1) / (2 * sigma**2))
            return math.exp(stats.norm.logpdf(z, 0, sigma) + order * math.log(ratio))

        value, _ = integrate.quad(integrand, -12 * sigma, 12 * sigma + order, limit=200, points=[0.0, order])
        return math.log(value) / (order - 1)

    orders = np.arange(1.2, 16, 0.4)
    best = min(spent(order, steps * renyi(order), 1 / count) for order in orders)
    ours = reported(sigma, count, batch_size=batch_size, epochs=epochs)
    assert ours["privacy_epsilon"] == pytest.approx(best, rel=0.01)
    assert ours["privacy_delta"] == 1 / count


def test_extreme_settings_have_an_epsilon_and_no_warnings() -> None:
    assert reported(0, 1000, batch_size=50)["privacy_epsilon"] == math.inf
    assert json.loads(json.dumps(reported(0, 1000)))["privacy_epsilon"] == math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sigma in (0.02, 300):
            for rate in (1e-5, 0.5, 1.0):
                for steps in (1, 100_000):
                    assert 0 <= epsilon(sigma, rate, steps, 1e-4) < math.inf
    assert epsilon(300, 1e-5, 1, 0.5) == 0


# --- in the training loop --------------------------------------------------------------------------------------------


def data_set(count: int = 12) -> TrainingSet:
    images = torch.rand(count, 2, 6, 6, generator=torch.Generator().manual_seed(8))
    return TrainingSet(images, torch.arange(count) % 3, torch.arange(count))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_one_planted_example_moves_the_network_by_its_share_at_most() -> None:
    """A step of plain SGD on all examples, with and without another one among them; a tiny standard deviation makes the
    network's inputs, and so the gradients, enormous."""
    lr, clip, count = 0.5, 0.1, 12
    recipe = Recipe(epochs=1, batch_size=count, lr=lr, **PLAIN)
    clean, planted = data_set(count), data_set(count)
    planted.images[0] = 1 - planted.images[0]
    planted.labels[0] = 1
    moved = []
    for defenses in ([], [build(Settings(clip=clip, noise_multiplier=0))]):
        ends = []
        for data in (clean, planted):
            model = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
            for parameter in model.parameters():
                nn.init.zeros_(parameter)
            train(model, Normalize(MEAN, (1e-4, 1e-4)), data, recipe, seed=0, defenses=defenses)
            ends.append(weights(model))
        moved.append((ends[1] - ends[0]).norm().item())
    undefended, defended = moved
    assert undefended > 100
    # One example's share is replaced by another's: twice the bound.
    assert 0 < defended <= 2 * clip * lr / count * (1 + 1e-5)


def test_only_the_head_of_frozen_features_is_trained_by_its_closed_form() -> None:
    """Batch norm that keeps its running statistics is allowed, with features made once or at every step."""
    clip, recipe = 0.3, Recipe(epochs=2, batch_size=5, lr=0.5, schedule="linear", **PLAIN)
    data = data_set()
    start = tiny.network()
    settings = Settings(clip=clip, noise_multiplier=0)
    model = FrozenFeatures(copy.deepcopy(start.extract), copy.deepcopy(start.head))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, Normalize(MEAN, STD), data, recipe, seed=3, defenses=[build(settings)])
    assert all(torch.equal(a, b) for a, b in zip(start.extract.parameters(), model.extract.parameters(), strict=True))

    with torch.no_grad():
        features = start.eval().extract(Normalize(MEAN, STD)(data.images)).double()
    features = torch.cat([features, torch.ones(len(features), 1)], 1)
    head = torch.cat([start.head.weight, start.head.bias[:, None]], 1).detach().double()
    for epoch in range(2):
        batches = build(settings).draw_batches(12, recipe, generator("cpu", 3, "order", epoch))
        for number, batch in enumerate(batches):
            rate = 0.5 * (1 - (epoch + number / len(batches)) / 2)
            total = torch.zeros_like(head)
            for i in batch.tolist():
                wrong = (head @ features[i]).softmax(0) - F.one_hot(data.labels[i], 3)
                gradient = torch.outer(wrong, features[i])
                total += gradient * min(1, clip / gradient.norm().item())
            head -= rate * total / 5
    ours = torch.cat([model.head.weight, model.head.bias[:, None]], 1).detach().double()
    torch.testing.assert_close(ours, head, rtol=1e-4, atol=1e-5)

    other = FrozenFeatures(copy.deepcopy(start.extract), copy.deepcopy(start.head))
    shifting = recipe.model_copy(update={"augmentation": Augmentation(pixels=0, flip=False)})
    train(other, Normalize(MEAN, STD), data, shifting, seed=3, defenses=[build(settings)])
    torch.testing.assert_close(other.head.weight, model.head.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_it_stays(precision: str, fails: bool) -> None:
    model = grouped()
    keys = list(model.state_dict())

    def observe(model: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
        # As measures of the loss's gradient do, in eval mode.
        F.cross_entropy(model(data.images), data.labels).backward()  # type: ignore[no-untyped-call]
        assert not [p for p in model.parameters() if vars(p)]
        if fails:
            raise tiny.KilledError
        return {}

    recipe = Recipe(epochs=2, batch_size=2, precision=precision, augmentation=STILL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            train(
                model, Normalize(MEAN, STD), data_set(), recipe, seed=0, defenses=[build(Settings())], observe=observe
            )
    except tiny.KilledError:
        assert fails
    assert torch.isfinite(weights(model)).all()
    assert list(model.state_dict()) == keys
    for module in model.modules():
        hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
        assert not any(hooks)
    assert not [parameter for parameter in model.parameters() if vars(parameter)]
    assert copy.deepcopy(model).state_dict().keys() == model.state_dict().keys()


def test_other_passes_of_a_step_do_not_count() -> None:
    images, labels = examples(5, (2, 6, 6), torch.float32)
    settings = Settings(clip=0.5, noise_multiplier=0)
    expected = stepped(grouped(), images, labels, settings, 5)
    model, defense = grouped().train(), build(settings)
    with defense.attached(model):
        F.cross_entropy(model(images * 2), labels).backward()  # type: ignore[no-untyped-call]
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        defense.change_gradients(list(model.parameters()), Recipe(batch_size=5), torch.Generator())
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
    torch.testing.assert_close(gradient, expected)


# --- what it refuses -------------------------------------------------------------------------------------------------


def test_batch_norm_is_refused_where_it_mixes_examples() -> None:
    untracked = nn.Sequential(
        nn.BatchNorm2d(2, affine=False, track_running_stats=False), nn.Flatten(), nn.Linear(72, 3)
    )
    start = tiny.network()
    for model in (grouped(norm="batch"), FrozenFeatures(start.extract, start.head, "train"), untracked.eval()):
        modes = [module.training for module in model.modules()]
        with pytest.raises(SettingsError, match="set norm: group") as caught:
            train(model, Normalize(MEAN, STD), data_set(), Recipe(epochs=1), seed=0, defenses=[build(Settings())])
        assert "\n" not in str(caught.value)
        assert [module.training for module in model.modules()] == modes


def test_unknown_layers_and_compiled_networks_are_refused() -> None:
    for layer, name in ((nn.PReLU(), "PReLU"), (nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), "Conv2d")):
        with (
            pytest.raises(SettingsError, match=f"{name} layers"),
            build(Settings()).attached(nn.Sequential(layer, nn.Flatten(), nn.Linear(72, 3))),
        ):
            pass
    assert build(Settings()).schedule(Recipe()) == Recipe()
    with pytest.raises(PoisonlabError, match="set compile: false"):
        build(Settings()).schedule(Recipe(compile=True))
