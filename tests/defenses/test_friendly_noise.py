"""Friendly noise against equation 3 and the released loss, each written out in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from deterministic import Watched
from tiny import state
from torch import Tensor, nn

from poisonlab.config.defenses.friendly_noise import FriendlyNoise as Settings
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.build import build_defenses
from poisonlab.defenses.friendly_noise import FriendlyNoise, build, friendly_noise
from poisonlab.errors import DataError, PoisonlabError, SettingsError
from poisonlab.models import small_resnet
from poisonlab.models.classifier import FrozenFeatures, Normalize
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.defense import Batch
from poisonlab.training.loop import train


class Smooth(nn.Module):
    """A small network that computes in float64 whatever it is given: the reference then differs by storage only."""

    def __init__(self, channels: int = 3, classes: int = 4, sharpness: float = 20.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(
            nn.Conv2d(channels, 5, 3, padding=1),
            nn.Tanh(),
            nn.AdaptiveAvgPool2d(6),
            nn.Flatten(),
            nn.Linear(180, classes),
        ).double()
        self.sharpness = sharpness

    def forward(self, x: Tensor) -> Tensor:
        return self.sharpness * self.body(x.double())


class Constant(nn.Module):
    """Its output does not depend on the image, so the divergence is 0 and only the norm acts."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        zero = 0 * x.double().flatten(1).sum(1, keepdim=True) * self.weight
        return torch.cat([zero + 1, zero - 2, zero], 1)


def pictures(count: int, *shape: int, seed: int = 0) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *shape), generator=stream, dtype=torch.uint8)


def start_of(images: Tensor, init: float = 8.0, seed: int = 0) -> Tensor:
    """The random start, seen through the public function: nothing moves it where KL is 0 and lambda is 0."""
    settings = Settings(init=init, zeta=255, lam=0, steps=1, lr=1)
    return friendly_noise(Constant(), images, settings, seed=seed).double()


def released(model: nn.Module, images: Tensor, start: Tensor, s: Settings, *, batch_means: bool = False) -> Tensor:
    """The authors' loop: raw noise, clamped in the forward pass, torch's SGD, one clamp at the end."""
    x, zeta = images.double() / 255, s.zeta / 255
    clean = F.log_softmax(model(x), 1).detach()
    e = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([e], lr=s.lr, momentum=s.momentum, nesterov=s.momentum > 0)
    for _ in range(s.steps):
        clamped = e.clamp(-zeta, zeta)
        noisy = F.log_softmax(model((x + clamped).clamp(0, 1)), 1)
        if batch_means:
            size = {"l1": clamped.abs().mean(), "l2": clamped.pow(2).mean()}[s.norm]
            loss = F.kl_div(noisy, clean, reduction="batchmean", log_target=True) - s.lam * size
        else:
            divergence = (clean.exp() * (clean - noisy)).sum() / s.batch_size
            each = clamped.flatten(1)
            size = {"l1": each.abs().mean(1), "l2": each.pow(2).mean(1), "linf": each.abs().max(1).values}[s.norm]
            loss = divergence - s.lam * size.sum() / s.batch_size
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return e.detach().clamp(-zeta, zeta)


def equation_3(model: nn.Module, images: Tensor, start: Tensor, s: Settings, *, swapped: bool = False) -> Tensor:
    """Equation 3, one image at a time: D_KL(f(x + e) || f(x)) - lambda ||e||, then projection."""
    zeta, found = s.zeta / 255, []
    for image, begin in zip(images.double() / 255, start, strict=True):
        x, e = image[None], begin[None].clone().requires_grad_()
        optimizer = torch.optim.SGD([e], lr=s.lr, momentum=s.momentum, nesterov=s.momentum > 0)
        p = model(x).softmax(1).detach()
        for _ in range(s.steps):
            q = model(x + e).softmax(1)
            divergence = (p * (p / q).log()).sum() if swapped else (q * (q / p).log()).sum()
            norm = {"l1": e.abs().sum(), "l2": e.pow(2).sum().sqrt(), "linf": e.abs().max()}[s.norm]
            optimizer.zero_grad()
            (divergence - s.lam * norm).backward()
            optimizer.step()
            with torch.no_grad():
                e.copy_((x + e.clamp(-zeta, zeta)).clamp(0, 1) - x)
        found.append(e.detach()[0])
    return torch.stack(found)


# --- the released convention ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "lam"), [("l1", 0.2), ("l2", 3), ("linf", 3)])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("classes", [2, 4])
def test_released_follows_the_plain_loop(norm: str, lam: float, momentum: float, classes: int) -> None:
    images, model = pictures(6, 3, 8, 8), Smooth(classes=classes)
    settings = Settings(zeta=7, init=8, steps=7, lr=30, lam=lam, norm=norm, momentum=momentum, batch_size=128)
    ours = friendly_noise(model, images, settings, seed=5)
    truth = released(model, images, start_of(images, seed=5), settings)
    assert torch.allclose(ours.double(), truth, atol=3e-6)
    # The bound is met by some pixels and not by all, so that the clamp was at work.
    saturated = (truth.abs() > 0.999 * 7 / 255).double().mean()
    assert 0.1 < saturated < 0.9
    assert (truth - start_of(images, seed=5).clamp(-7 / 255, 7 / 255)).abs().max() > 1e-3


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_a_full_batch_of_128_follows_the_batch_means(norm: str) -> None:
    images, model = pictures(128, 1, 6, 6), Smooth(channels=1, sharpness=6)
    settings = Settings(zeta=16, steps=5, lr=100, lam=10, norm=norm)
    ours = friendly_noise(model, images, settings, seed=1)
    truth = released(model, images, start_of(images, seed=1), settings, batch_means=True)
    assert torch.allclose(ours.double(), truth, atol=3e-6)
    assert (truth - start_of(images, seed=1)).abs().max() > 2 / 255


def test_the_divergence_is_of_the_noisy_from_the_clean_output() -> None:
    """KL(clean || noisy), not the reverse: the two loops part visibly, and ours follows the right one."""
    images, model = pictures(5, 3, 8, 8), Smooth(sharpness=80)
    settings = Settings(zeta=40, init=20, steps=6, lr=30, lam=0)
    truth = released(model, images, start_of(images, 20), settings)
    ours = friendly_noise(model, images, settings)
    reverse = friendly_noise(model, images, settings.model_copy(update={"convention": "paper", "lr": 30 / 128}))
    assert torch.allclose(ours.double(), truth, atol=1e-5)
    assert (reverse.double() - truth).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("batch", "lam", "steps", "growth"),
    [
        (128, 1, 20, 1.067),
        (128, 10, 20, 1.792),
        (128, 1, 30, 1.117),
        (128, 10, 30, 2.620),
        (80, 1, 20, 1.108),
        (80, 10, 20, 2.419),
    ],
)
def test_growth_by_the_norm_alone(batch: int, lam: float, steps: int, growth: float) -> None:
    images = pictures(2, 3, 32, 32)
    settings = Settings(zeta=255, lr=100, lam=lam, steps=steps, batch_size=batch)
    ratio = friendly_noise(Constant(), images, settings).double() / start_of(images)
    assert ratio.median().item() == pytest.approx(growth, abs=6e-4)
    assert ratio.std() < 1e-4
    # Nesterov SGD on -lambda e^2 / (batch * 3072) is a linear recurrence.
    place, velocity = 1.0, 0.0
    for _ in range(steps):
        gradient = -2 * lam * place / (batch * 3 * 32 * 32)
        velocity = 0.9 * velocity + gradient
        place -= 100 * (gradient + 0.9 * velocity)
    assert ratio.median().item() == pytest.approx(place, rel=1e-5)


def test_a_pixel_beyond_the_bound_has_no_gradient_and_stays() -> None:
    images = pictures(3, 3, 8, 8)
    start = start_of(images, init=8)
    settings = Settings(zeta=4, init=8, lam=5, lr=20, steps=4)
    ours = friendly_noise(Smooth(), images, settings).double()
    outside = start.abs() > 4 / 255
    assert 0.4 < outside.double().mean() < 0.6
    assert torch.allclose(ours[outside], start[outside].sign() * 4 / 255, atol=1e-7)
    assert (ours[~outside] - start[~outside]).abs().max() > 1e-3


# --- the paper's convention -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "lr", "lam"), [("l1", 0.002, 1.0), ("l2", 0.02, 1.0), ("linf", 0.05, 0.5)])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_paper_follows_equation_3(norm: str, lr: float, lam: float, momentum: float) -> None:
    images, model = pictures(4, 3, 8, 8), Smooth()
    settings = Settings(convention="paper", zeta=16, steps=6, lr=lr, lam=lam, norm=norm, momentum=momentum)
    ours = friendly_noise(model, images, settings, seed=2)
    truth = equation_3(model, images, start_of(images, seed=2), settings)
    assert torch.allclose(ours.double(), truth, atol=3e-6)
    assert (truth - start_of(images, seed=2)).abs().max() > 1e-3
    noisy = images.double() / 255 + ours.double()
    assert noisy.min() > -1e-6
    assert noisy.max() < 1 + 1e-6


def test_paper_divergence_has_the_papers_direction() -> None:
    images, model = pictures(3, 3, 8, 8), Smooth(sharpness=80)
    settings = Settings(convention="paper", zeta=40, init=20, steps=5, lr=0.4, lam=0, momentum=0)
    ours = friendly_noise(model, images, settings).double()
    start = start_of(images, 20)
    assert torch.allclose(ours, equation_3(model, images, start, settings), atol=1e-5)
    assert (ours - equation_3(model, images, start, settings, swapped=True)).abs().max() > 1e-3


def test_friendly_noise_keeps_the_output_better_than_random_noise_of_its_size() -> None:
    images, model = pictures(8, 3, 8, 8), Smooth(sharpness=80)
    noise = friendly_noise(model, images, Settings(steps=40, lr=2, lam=1)).double()
    x = images.double() / 255
    clean = F.log_softmax(model(x), 1)

    def divergence(e: Tensor) -> float:
        q = F.log_softmax(model((x + e).clamp(0, 1)), 1)
        return float((clean.exp() * (clean - q)).sum(1).mean().detach())

    shuffled = noise.flatten()[torch.randperm(noise.numel(), generator=torch.Generator().manual_seed(0))]
    assert divergence(noise) < 0.2 * divergence(shuffled.view_as(noise))


# --- what holds for both --------------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("settings", [Settings(steps=4, lr=20), Settings(convention="paper", steps=4, lr=0.02)])


@BOTH
@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_its_bits_can_repeat_on_a_gpu(settings: Settings, norm: str) -> None:
    model = small_resnet.build(3, (3, 8, 8), width=4)
    with Watched() as watched:
        friendly_noise(model, pictures(4, 3, 8, 8), settings.model_copy(update={"norm": norm}))
    assert watched.found == set()


@BOTH
def test_the_chunk_does_not_matter(settings: Settings) -> None:
    images, model = pictures(11, 3, 8, 8), Smooth()
    whole = friendly_noise(model, images, settings, chunk=512)
    for chunk in (1, 4, 10):
        assert torch.allclose(friendly_noise(model, images, settings, chunk=chunk), whole, atol=1e-6)


@BOTH
@pytest.mark.parametrize("zeta", [0.5, 3.0, 16.0])
def test_the_bound_holds(settings: Settings, zeta: float) -> None:
    bounded = settings.model_copy(update={"zeta": zeta, "lr": 50 * settings.lr})
    noise = friendly_noise(Smooth(), pictures(4, 3, 8, 8), bounded)
    # One rounding of float32 at most.
    assert noise.abs().max().item() <= zeta / 255 * (1 + 1e-6)
    assert noise.abs().max().item() > 0.9 * zeta / 255


class KilledError(Exception):
    """In the middle of the work."""


class Mortal(nn.Module):
    """A network that dies at one of its calls."""

    def __init__(self, network: nn.Module, calls: int) -> None:
        super().__init__()
        self.network, self.calls = network, calls

    def forward(self, images: Tensor) -> Tensor:
        if self.calls == 0:
            raise KilledError
        self.calls -= 1
        out: Tensor = self.network(images)
        return out


def test_noise_that_is_killed_at_any_pass_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    settings, images = Settings(steps=3), torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    whole = friendly_noise(network, images, settings, seed=4, chunk=4)
    # Three chunks of one clean pass and three steps each.
    for calls in range(12):
        saves = Checkpoint(tmp_path / f"{calls}.safetensors", "this noise", interval=0)
        with pytest.raises(KilledError):
            friendly_noise(Mortal(network, calls), images, settings, seed=4, chunk=4, checkpoint=saves)
        assert len(list(tmp_path.glob(f"{calls}.noise*"))) == calls // 4
        left = Mortal(network, 12 - calls // 4 * 4)
        assert torch.equal(friendly_noise(left, images, settings, seed=4, chunk=4, checkpoint=saves), whole)
        assert left.calls == 0
        # All of it is there now.
        assert torch.equal(friendly_noise(Mortal(network, 0), images, settings, seed=4, checkpoint=saves), whole)
        saves.clear()
    assert list(tmp_path.iterdir()) == []


def test_saved_noise_behind_a_gap_or_of_another_run_is_made_anew(tmp_path: Path) -> None:
    settings, images = Settings(steps=2), torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    saves = Checkpoint(tmp_path / "c.safetensors", "this noise", interval=0)
    whole = friendly_noise(network, images, settings, seed=4, chunk=4, checkpoint=saves)
    (tmp_path / "c.noise1.safetensors").unlink()
    left = Mortal(network, 6)
    assert torch.equal(friendly_noise(left, images, settings, seed=4, chunk=4, checkpoint=saves), whole)
    assert left.calls == 0
    other = Checkpoint(tmp_path / "c.safetensors", "another", interval=0)
    with pytest.raises(KilledError):
        friendly_noise(Mortal(network, 0), images, settings, seed=4, chunk=4, checkpoint=other)


@BOTH
def test_seed_and_position_decide_the_start(settings: Settings) -> None:
    images, model = pictures(4, 3, 8, 8), Smooth()
    first = friendly_noise(model, images, settings, seed=1)
    torch.manual_seed(99)
    assert torch.equal(first, friendly_noise(model, images, settings, seed=1))
    assert not torch.equal(first, friendly_noise(model, images, settings, seed=2))
    start = start_of(pictures(40, 3, 8, 8)) * 255 / 8
    assert 0.999 < start.abs().max() <= 1
    assert start.mean().item() == pytest.approx(0, abs=4 / (3 * start.numel()) ** 0.5)
    assert start.var().item() == pytest.approx(1 / 3, rel=0.05)
    assert not torch.equal(start[0], start[1])


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (4, 9, 13)])
def test_any_size_from_bytes_or_floats(shape: tuple[int, ...]) -> None:
    images, model = pictures(3, *shape), Smooth(channels=shape[0])
    settings = Settings(steps=3, lr=20)
    noise = friendly_noise(model, images, settings)
    assert noise.shape == images.shape
    assert noise.dtype == torch.float32
    assert torch.equal(noise, friendly_noise(model, images.float() / 255, settings))


@BOTH
def test_bfloat16_stays_near_float32(settings: Settings) -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Smooth(sharpness=1).body.float()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    images, short = pictures(4, 3, 8, 8), settings.model_copy(update={"lr": settings.lr / 100})
    full = friendly_noise(Plain(), images, short)
    half = friendly_noise(Plain(), images, short, precision="bfloat16")
    assert half.dtype == torch.float32
    assert torch.allclose(full, half, atol=1e-3)


def test_the_network_judges_in_eval_mode_and_is_left_as_it_was() -> None:
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3)
    model, images, settings = nn.Sequential(*layers).train(), pictures(3, 3, 8, 8), Settings(steps=3)
    model[1].eval()
    model[0].weight.requires_grad_(False)
    before = state(model)
    noise = friendly_noise(model, images, settings)
    assert state(model) == before
    assert torch.equal(noise, friendly_noise(model.eval(), images, settings))


def test_a_diverged_model_is_an_error_and_is_left_as_it_was() -> None:
    model = Smooth().train()
    with torch.no_grad():
        model.body[0].weight.fill_(float("nan"))
    before = state(model)
    with pytest.raises(PoisonlabError, match="not finite") as caught:
        friendly_noise(model, pictures(2, 3, 8, 8), Settings(steps=2))
    assert "\n" not in str(caught.value)
    assert state(model) == before


class BreaksNearby(nn.Module):
    """Finite on whole pixel levels, NaN between them: a network that overflows only where the noise leads."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        off = ((x * 255) - (x * 255).round()).abs().flatten(1).amax(1, keepdim=True)
        total = x.flatten(1).sum(1, keepdim=True) * self.weight
        return torch.cat([torch.where(off > 1e-3, total * float("nan"), total), -total], 1)


def test_an_output_that_breaks_on_the_way_is_an_error() -> None:
    with pytest.raises(PoisonlabError):
        friendly_noise(BreaksNearby(), pictures(2, 3, 8, 8), Settings(steps=2))


@pytest.mark.elsewhere
def test_it_comes_back_from_every_device(device: torch.device) -> None:
    images, settings = pictures(3, 3, 8, 8), Settings(steps=3, lr=20)
    noise = friendly_noise(Smooth().to(device), images, settings, device=device)
    assert noise.device.type == "cpu"
    assert noise.abs().max() <= 16 / 255 * (1 + 1e-6)


# --- the defense ----------------------------------------------------------------------------------------------


def batch_of(images: Tensor, rows: list[int], epoch: int) -> Batch:
    labels = torch.zeros(len(images), dtype=torch.int64)
    plain = Normalize((0.0,), (1.0,))
    return Batch(images, labels, torch.tensor(rows), epoch, torch.Generator(), nn.Identity(), plain)


def test_noise_is_added_from_start_on_by_row_and_clamped() -> None:
    noise = torch.linspace(-0.5, 0.5, 5 * 12).view(5, 3, 2, 2)
    images = torch.rand(3, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    defense = FriendlyNoise(noise, start=2)
    for epoch in (0, 1):
        assert torch.equal(defense.change_batch(batch_of(images, [4, 0, 2], epoch)), images)
    for epoch in (2, 3, 50):
        changed = defense.change_batch(batch_of(images, [4, 0, 2], epoch))
        for place, row in enumerate((4, 0, 2)):
            assert torch.equal(changed[place], (images[place] + noise[row]).clamp(0, 1))
    assert (changed == 0).any()
    assert (changed == 1).any()


def test_half_precision_noise_is_widened_before_it_is_added() -> None:
    noise = torch.full((1, 1, 1, 2), 1 / 255, dtype=torch.float16)
    images = torch.full((1, 1, 1, 2), 0.7)
    changed = FriendlyNoise(noise).change_batch(batch_of(images, [0], 0))
    assert changed.dtype == torch.float32
    assert torch.allclose(changed, torch.tensor(0.7) + noise.float(), atol=1e-7)


@pytest.mark.parametrize("shape", [(3, 3, 2, 2), (4, 1, 2, 2), (4, 3, 2, 3)])
def test_noise_of_another_dataset_is_refused(shape: tuple[int, ...]) -> None:
    data = TrainingSet(pictures(4, 3, 2, 2), torch.zeros(4, dtype=torch.int64), torch.arange(4))
    with pytest.raises(DataError, match="another dataset"):
        FriendlyNoise(torch.zeros(shape)).prepare(data)
    assert FriendlyNoise(torch.zeros(4, 3, 2, 2)).prepare(data) is data


def test_noise_of_kept_images_alone_is_told_of_rows() -> None:
    data = TrainingSet(pictures(4, 3, 2, 2), torch.zeros(4, dtype=torch.int64), torch.arange(4))
    kept = data.keep(torch.tensor([1, 3]))
    noise = FriendlyNoise(torch.zeros(2, 3, 2, 2))
    with pytest.raises(DataError, match=r"2 training images .* rows up to 3: .* a filter kept\? Make it for all"):
        noise.prepare(kept)
    assert len(noise.prepare(TrainingSet(kept.images, kept.labels, torch.arange(len(kept))))) == 2


def test_build_starts_at_def_epoch() -> None:
    images = torch.rand(1, 3, 2, 2)
    noise = torch.full((1, 3, 2, 2), 0.25)
    defense = build(Settings(def_epoch=3), noise)
    assert torch.equal(defense.change_batch(batch_of(images, [0], 2)), images)
    assert not torch.equal(defense.change_batch(batch_of(images, [0], 3)), images)


@pytest.mark.parametrize("frozen", [False, True], ids=["whole", "frozen"])
@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_training_without_noise_ends_before_the_noise_is_due(start: int, frozen: bool) -> None:
    data = TrainingSet(pictures(4, 3, 8, 8), torch.arange(4) % 2, torch.arange(4))
    plain, recipe = (
        Normalize((0.5,) * 3, (0.2,) * 3),
        Recipe(epochs=3, batch_size=2, augmentation=Augmentation(kind="none")),
    )

    def trained(until: int | None, noise: Tensor | None) -> list[Tensor]:
        torch.manual_seed(0)
        network = small_resnet.build(2, (3, 8, 8), width=4)
        model = FrozenFeatures(network.extract, network.head) if frozen else network
        defenses = build_defenses([{"method": "friendly-noise", "def_epoch": start}], noise=noise)
        train(model, plain, data, recipe, seed=0, defenses=defenses, until=until)
        return list(model.state_dict().values())

    before, victim = trained(start, None), trained(start, torch.full(data.images.shape, 0.1))
    assert all(torch.equal(*each) for each in zip(before, victim, strict=True))
    for until in (start + 1, None):
        with pytest.raises(SettingsError, match=f"epoch {start} adds friendly noise, but none .* until={start}"):
            trained(until, None)


@pytest.mark.parametrize(
    ("model", "images", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), (2, 3, 2, 2), r"gives \(2, 1\) .* turn one logit z into two"),
        (nn.Flatten(), (3, 2, 2), r"shape \(3, 2, 2\), not \(N, C, H, W\): give one image as images\[None\]"),
        (torch.sum, (2, 3, 2, 2), "give a torch.nn.Module"),
    ],
)
def test_what_is_no_classifier_of_images_is_refused(model: nn.Module, images: tuple[int, ...], message: str) -> None:
    with pytest.raises(PoisonlabError, match=message):
        friendly_noise(model, torch.rand(images))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"method": "random-noise", "mu": 16}], "random-noise: 'distribution' is missing"),
        ([{"method": "random-noise", "distribution": "uniform", "muu": 1}], "random-noise: unknown key 'muu'"),
        ([{"method": "deep-knn"}], "deep-knn is a filter, which acts before the training"),
        ({"method": "grayscale"}, "put it in a list"),
    ],
)
def test_impossible_defenses_are_one_line(rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build_defenses(rows, noise=None)
