"""Strong augmentation: each mixture against a slow one, the draws' distributions, maxup, and the training loop."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from scipy import stats
from tiny import MEAN, STD, batch_of, network
from torch import Tensor, nn

from poisonlab.defenses.strong_augmentation import (
    Settings,
    StrongAugmentation,
    box,
    build,
    class_count,
    dirichlet,
    mixup,
)
from poisonlab.models.classifier import Normalize
from poisonlab.training.defense import Batch

KINDS = ("mixup", "cutmix", "cutout")


def made(kind: str, **settings: Any) -> StrongAugmentation:
    return build(Settings.model_validate({"kind": kind, **settings}))


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(count: int, side: int = 16, seed: int = 0) -> Batch:
    """Images whose every pixel is their number, from 1, with labels of their own."""
    images = torch.arange(1.0, count + 1).view(-1, 1, 1, 1).expand(count, 2, side, side)
    everything = nn.Sequential(nn.Flatten(), nn.Linear(2 * side * side, count))
    rows = torch.arange(count)
    return Batch(images, rows, rows, 0, stream(seed), everything, Normalize(MEAN, STD))


# --- mixup ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ways", [2, 3, 5])
def test_mixup_one_example_at_a_time(ways: int) -> None:
    images = torch.randn(6, 2, 3, 4, dtype=torch.float64, generator=stream(1))
    labels = torch.rand(6, 3, dtype=torch.float64, generator=stream(2)).softmax(1)
    weights = dirichlet(0.7, ways, stream(3))
    mixed, shares = mixup(images, labels, weights, stream(4))

    same = stream(4)
    orders = [list(range(6)), *(torch.randperm(6, generator=same).tolist() for _ in range(ways - 1))]
    for i in range(6):
        image, label = np.zeros((2, 3, 4)), np.zeros(3)
        for weight, order in zip(weights.tolist(), orders, strict=True):
            image += weight * images[order[i]].numpy()
            label += weight * labels[order[i]].numpy()
        np.testing.assert_allclose(mixed[i].numpy(), image, rtol=0, atol=1e-12)
        np.testing.assert_allclose(shares[i].numpy(), label, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ways", [2, 4])
def test_mixup_takes_each_image_with_the_same_weights_and_labels_follow(ways: int) -> None:
    """Image i is the i-th unit vector, so that a mixture shows what it is made of."""
    batch = replace(numbered(8), images=torch.eye(8).view(8, 1, 2, 4), model=nn.Sequential(nn.Flatten(), nn.Flatten()))
    images, labels = made("mixup", ways=ways).change_inputs(batch)
    assert images.dtype == labels.dtype == torch.float32
    parts = images.flatten(1)
    torch.testing.assert_close(labels, parts)
    torch.testing.assert_close(parts.sum(0), torch.ones(8))
    torch.testing.assert_close(parts.sum(1), torch.ones(8))
    own = parts.diagonal().min()
    assert own > 0
    same = stream(0)
    weights = dirichlet(1.0, ways, same)
    for j in range(1, ways):
        parts[torch.arange(8), torch.randperm(8, generator=same)] -= weights[j].float()
    torch.testing.assert_close(parts, weights[0].float() * torch.eye(8))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("ways", [2, 3])
def test_weights_are_from_a_dirichlet_distribution(alpha: float, ways: int) -> None:
    draws = stream(int(10 * alpha) + ways)
    weights = torch.stack([dirichlet(alpha, ways, draws) for _ in range(1500)])
    torch.testing.assert_close(weights.sum(1), torch.ones(1500, dtype=torch.float64))
    for j in range(ways):
        assert stats.kstest(weights[:, j].numpy(), stats.beta(alpha, (ways - 1) * alpha).cdf).pvalue > 1e-3
    # Neutrality: the ratio of two is Beta(alpha, alpha), and has nothing to do with the third.
    ratio = (weights[:, 0] / weights[:, :2].sum(1)).numpy()
    assert stats.kstest(ratio, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    if ways == 3:
        assert stats.spearmanr(ratio, weights[:, 2].numpy()).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_small_alpha_mixes_nothing(kind: str) -> None:
    """One image has all the weight; CutMix's box, cut off by the border or not, is a whole image wide."""
    draws = stream()
    weights = torch.stack([dirichlet(1e-6, 3, draws) for _ in range(200)])
    assert bool(torch.isfinite(weights).all())
    assert (weights.max(1).values > 1 - 1e-9).all()
    assert set(weights.argmax(1).tolist()) == {0, 1, 2}
    for seed in range(20):
        images, labels = made(kind, alpha=1e-6).change_inputs(numbered(6, seed=seed))
        if kind == "mixup":
            assert torch.equal(images[:, 0, 0, 0], labels.argmax(1) + 1)
            torch.testing.assert_close(labels.max(1).values, torch.ones(6))
        else:
            # A box as wide as the image reaches at least from its centre to one of the corners.
            foreign = (images[:, 0] != torch.arange(1, 7).view(6, 1, 1)).flatten(1).double().mean(1)
            assert ((foreign == 0) | (foreign >= 0.25)).all()


def test_a_large_alpha_mixes_evenly() -> None:
    torch.testing.assert_close(dirichlet(1e12, 4, stream()), torch.full((4,), 0.25).double(), rtol=0, atol=1e-5)


# --- the box --------------------------------------------------------------------------------------------------


def extents(cut: Tensor) -> tuple[int, int, int, int]:
    """First row, rows, first column and columns of a rectangle (H, W), which is checked to be one."""
    rows, columns = cut.any(1).nonzero().flatten(), cut.any(0).nonzero().flatten()
    if len(rows) == 0:
        return 0, 0, 0, 0
    found = int(rows[0]), len(rows), int(columns[0]), len(columns)
    slow = torch.zeros_like(cut)
    slow[found[0] : found[0] + found[1], found[2] : found[2] + found[3]] = True
    assert torch.equal(cut, slow)
    return found


@pytest.mark.parametrize(("share", "rows", "columns"), [(0.34, 4, 6), (0.09, 2, 3), (1.0, 8, 12)])
def test_every_centre_is_as_likely_and_the_border_cuts_off(share: float, rows: int, columns: int) -> None:
    draws, images = stream(1), torch.zeros(0, 1, 8, 12)
    seen = [extents(box(images, torch.tensor(share, dtype=torch.float64), draws)) for _ in range(3000)]

    def intervals(size: int, length: int) -> Counter[tuple[int, int]]:
        found: Counter[tuple[int, int]] = Counter()
        for centre in range(size):
            inside = [place for place in range(size) if centre - length // 2 <= place < centre - length // 2 + length]
            found[min(inside), len(inside)] += 1
        return found

    for axis, size, length in ((0, 8, rows), (2, 12, columns)):
        expected = intervals(size, length)
        counted = Counter(extent[axis : axis + 2] for extent in seen)
        assert set(counted) == set(expected)
        frequencies = [[counts[key] for key in sorted(expected)] for counts in (counted, expected)]
        assert stats.chisquare(frequencies[0], np.array(frequencies[1]) * 3000 / size).pvalue > 1e-3


# --- cutout ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "side"), [(1.0, 18), (1e-9, 31), (0.5, 26), (1.5, 3)])
def test_cutout_zeroes_a_box_of_the_published_side(alpha: float, side: int) -> None:
    """32 * sqrt(1 - 0.66 alpha), rounded down: 18.66 at alpha 1; as wide as the image when alpha vanishes."""
    longest = 0
    for seed in range(30):
        batch = numbered(4, side=32, seed=seed)
        images, labels = made("cutout", alpha=alpha).change_inputs(batch)
        assert torch.equal(labels, batch.labels)
        cut = images[0, 0] == 0
        assert torch.equal(images, batch.images * ~cut)
        _, rows, _, columns = extents(cut)
        assert max(rows, columns) <= side
        longest = max(longest, rows, columns)
    if side <= 18:
        assert longest == side
    else:
        assert longest > 18


def test_cutout_leaves_probabilities_and_the_batch_alone() -> None:
    labels = torch.rand(12, 3, generator=stream(1)).softmax(1)
    batch = replace(batch_of(network()), labels=labels)
    kept = batch.images.clone()
    images, after = made("cutout", copies=3, warmup_epochs=0).change_inputs(batch)
    assert torch.equal(batch.images, kept)
    assert torch.equal(after, labels.repeat(3, 1))
    assert len(images) == 36


# --- cutmix ---------------------------------------------------------------------------------------------------


def test_cutmix_labels_are_the_visible_pixels() -> None:
    active = 0
    for seed in range(300):
        batch = numbered(8, seed=seed)
        images, labels = made("cutmix").change_inputs(batch)
        assert torch.equal(images[:, 0], images[:, 1])
        first = None
        for i in range(8):
            pixels = Counter(images[i, 0].flatten().int().tolist())
            expected = torch.tensor([pixels[number] / 256 for number in range(1, 9)])
            assert torch.equal(labels[i], expected)
            foreign = images[i, 0] != i + 1
            if foreign.any():
                assert first is None or torch.equal(first, foreign)
                first = foreign
                extents(foreign)
        active += first is not None
    # Of the active half, a box is too small to be seen with chance 1/256, or is filled from the same images.
    assert stats.binomtest(active, 300, 0.5 * 255 / 256).pvalue > 1e-3


@pytest.mark.parametrize(("alpha", "side"), [(1e12, 22), (1.0, 32)])
def test_cutmix_draws_the_area_from_a_beta_distribution(alpha: float, side: int) -> None:
    """For a large alpha half of the area, 22 of 32 rows; for alpha 1 uniform: P(n rows) = P(n <= 32 sqrt(share) < n+1).
    Boxes that touch the upper or lower border are left out, as they may have been cut off."""
    rows = []
    for seed in range(600):
        images, _ = made("cutmix", alpha=alpha).change_inputs(numbered(9, side=32, seed=seed))
        foreign = (images[:, 0] != torch.arange(1, 10).view(9, 1, 1)).any(0)
        first, height, _, _ = extents(foreign)
        if first > 0 and first + height < 32:
            rows.append(height)
    if alpha > 1:
        assert set(rows) == {side}
    else:
        # A box of n rows is away from the border for 31 - n of the 32 centres.
        chances = np.array([((n + 1) ** 2 - n**2) / 32**2 * max(31 - n, 0) / 32 for n in range(1, 31)])
        counts = np.bincount(rows, minlength=31)[1:]
        groups = [slice(0, 8), slice(8, 13), slice(13, 18), slice(18, 23), slice(23, 30)]
        expected = np.array([chances[group].sum() for group in groups]) / chances.sum() * len(rows)
        assert stats.chisquare([counts[group].sum() for group in groups], expected).pvalue > 1e-3


# --- maxup ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("soft", [False, True])
def test_maxup_is_the_mean_of_the_worst_copies(soft: bool) -> None:
    """And its gradient that of the worst copies' mean cross-entropy, (p - y) / B."""
    logits = torch.randn(12, 5, dtype=torch.float64, generator=stream(1)).requires_grad_(True)
    labels = torch.arange(12) % 4 % 5
    chosen = torch.rand(12, 5, dtype=torch.float64, generator=stream(2)).softmax(1) if soft else labels
    value = made("cutout", copies=3, warmup_epochs=2).loss(logits, chosen, 2)
    assert value is not None

    targets = (chosen if soft else F.one_hot(labels, 5)).double().numpy()
    scores = logits.detach().numpy()
    losses = [-(y * (z - np.log(np.exp(z).sum()))).sum() for z, y in zip(scores, targets, strict=True)]
    worst = [max((image, image + 4, image + 8), key=lambda place: losses[place]) for image in range(4)]
    assert value.item() == pytest.approx(sum(losses[place] for place in worst) / 4, rel=1e-12)
    (gradient,) = torch.autograd.grad(value, logits)
    expected = np.zeros((12, 5))
    for place in worst:
        expected[place] = (np.exp(scores[place]) / np.exp(scores[place]).sum() - targets[place]) / 4
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_of_the_same_images_each_with_its_own_draw(kind: str) -> None:
    images, labels = made(kind, copies=4, warmup_epochs=0).change_inputs(numbered(8, seed=3))
    assert images.shape == (32, 2, 16, 16)
    assert len(labels) == 32
    alone = stream(3)
    for number, (part, share) in enumerate(zip(images.split(8), labels.split(8), strict=True)):
        expected = made(kind).change_inputs(replace(numbered(8), generator=alone))
        assert torch.equal(part, expected[0]), number
        assert torch.equal(share, expected[1]), number
        if kind == "cutmix":
            assert (share.diagonal() > 0).all()
        elif kind == "mixup":
            assert share.diagonal().min() > 0
        else:
            assert ((part == 0) | (part == numbered(8).images)).all()
    assert len({part.numpy().tobytes() for part in images.split(8)}) > 1


def test_before_the_warm_up_is_over_there_is_one_copy_and_no_loss() -> None:
    defense = made("mixup", copies=4, warmup_epochs=2)
    for epoch, count in ((0, 12), (1, 12), (2, 48), (9, 48)):
        images, labels = defense.change_inputs(replace(batch_of(network()), epoch=epoch))
        assert (len(images), len(labels)) == (count, count)
        value = defense.loss(torch.zeros(count, 3), labels, epoch)
        assert value is None if epoch < 2 else value is not None and value.item() == pytest.approx(np.log(3))
    assert made("mixup", warmup_epochs=0).loss(torch.zeros(3, 3), torch.arange(3), 7) is None


# --- in a batch -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_small_batches(kind: str, count: int) -> None:
    batch = batch_of(network(), count=max(count, 1), seed=1)
    batch = replace(batch, images=batch.images[:count], labels=batch.labels[:count], rows=batch.rows[:count])
    images, labels = made(kind, copies=2, warmup_epochs=0).change_inputs(batch)
    assert images.shape == (2 * count, 2, 6, 6)
    assert labels.shape == ((2 * count,) if kind == "cutout" else (2 * count, 3))
    if count == 1 and kind != "cutout":
        torch.testing.assert_close(images, batch.images.repeat(2, 1, 1, 1))
        torch.testing.assert_close(labels, torch.tensor([[1.0, 0, 0]] * 2))


@pytest.mark.parametrize("kind", KINDS)
def test_one_after_the_other_keeps_the_mass(kind: str) -> None:
    batch = batch_of(network())
    for number, other in enumerate((kind, *KINDS)):
        images, labels = made(other).change_inputs(replace(batch, generator=stream(number)))
        batch = replace(batch, images=images, labels=labels)
    assert labels.shape == (12, 3)
    assert labels.min() >= 0
    torch.testing.assert_close(labels.sum(1), torch.ones(12))
    # Every image counts as much as before: whole batches are permuted.
    torch.testing.assert_close(labels.sum(0), torch.full((3,), 4.0))


def test_the_number_of_classes_does_not_depend_on_the_labels() -> None:
    model = network()
    images = torch.zeros(0, 2, 6, 6)
    model.forward = lambda x: pytest.fail("asked a network whose head says it")  # type: ignore[method-assign]
    assert class_count(model, images) == 3
    assert class_count(cast(nn.Module, SimpleNamespace(_orig_mod=model)), images) == 3
    assert class_count(nn.Sequential(nn.Flatten(), nn.Linear(72, 7)), torch.zeros(2, 2, 6, 6)) == 7
    batch = replace(batch_of(network()), labels=torch.zeros(12, dtype=torch.int64))
    assert torch.equal(made("mixup").change_inputs(batch)[1].argmax(1), batch.labels)


# --- settings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"kind": "cutmix", "ways": 3}, "ways: 3 is for mixup only: leave it out for cutmix"),
        ({"kind": "cutout", "alpha": 1.6}, "alpha 1.6 leaves cutout no box: choose at most 1.5"),
        ({"kind": "mixup", "ways": 1}, "greater than or equal to 2"),
        ({"kind": "mixup", "alpha": 0}, "greater than 0"),
        ({"kind": "mixup", "copies": 0}, "greater than 0"),
        ({"kind": "mix"}, "'mixup', 'cutmix' or 'cutout'"),
        ({}, "Field required"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(settings)
    assert problem in caught.value.errors()[0]["msg"]
