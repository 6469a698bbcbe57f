"""The spread of a network's output: against a slow loop and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from poisonlab.config.figures import OutputStd
from poisonlab.landscapes.output_std import around_network, clean_rows, output_std


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 3)]
    return nn.Sequential(*layers).eval()


class TestNumbers:
    images = torch.rand(5, 2, 6, 6, generator=drawn(3))
    labels = torch.tensor([0, 1, 2, 1, 0])

    @pytest.mark.parametrize("chunk", [1, 7, 256])
    def test_is_the_loop(self, chunk: int) -> None:
        magnitudes, draws = (4.0, 64.0), 6
        per_pass = max(1, chunk // draws)
        ours = output_std(network(), self.images, self.labels, magnitudes, draws, drawn(1), chunk)
        assert ours.shape == (5, 2)
        assert ours.dtype == torch.float32
        stream = drawn(1)
        for begin in range(0, 5, per_pass):
            some = self.images[begin : begin + per_pass]
            noise = torch.rand(draws, *some.shape, generator=stream) * 2 - 1
            for place, image in enumerate(some):
                for column, magnitude in enumerate(magnitudes):
                    own = []
                    for k in range(draws):
                        noisy = (image + noise[k, place] * magnitude / 255).clamp(0, 1)
                        logits = network()(noisy[None])[0]
                        own.append(logits.softmax(0)[self.labels[begin + place]].item())
                    expected = math.sqrt(sum((p - sum(own) / draws) ** 2 for p in own) / draws)
                    assert ours[begin + place, column].item() == pytest.approx(expected, abs=1e-6)

    def test_nothing_moves_without_noise(self) -> None:
        spread = output_std(network(), self.images, self.labels, (0.0, 8.0), 4, drawn(1))
        assert (spread[:, 0] < 1e-7).all()
        assert (spread[:, 1] > 1e-5).all()

    def test_pixels_stay_valid(self) -> None:
        """White pixels move only down: a network that sees nothing but excess sees nothing."""

        class Excess(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                excess = (x - 1).clamp(min=0).sum((1, 2, 3))
                return torch.stack([1000 * excess, torch.zeros_like(excess)], 1)

        spread = output_std(Excess(), torch.ones(2, 1, 4, 4), torch.tensor([0, 1]), (8.0,), 16, drawn(1))
        assert spread.abs().max() == 0

    def test_of_a_linear_softmax(self) -> None:
        """One pixel's logit a u against 0: near 0.5 the probability moves by a u / 4, u uniform within +-m / 255."""

        class Linear(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                pixel = 2 * (x[:, 0, 0, 0] - 0.5)
                return torch.stack([pixel, torch.zeros_like(pixel)], 1)

        image = torch.full((1, 1, 1, 1), 0.5)
        spread = output_std(Linear(), image, torch.tensor([1]), (4.0, 8.0), 20_000, drawn(1), chunk=4096)
        expected = [2 / 4 * m / 255 / math.sqrt(3) for m in (4, 8)]
        assert spread[0].tolist() == pytest.approx(expected, rel=0.02)

    def test_equal_seeds_give_equal_bits_and_equal_noise_to_both_groups(self) -> None:
        first, second = (output_std(network(), self.images, self.labels, (8.0,), 4, drawn(1)) for _ in range(2))
        assert torch.equal(first, second)
        assert not torch.equal(first, output_std(network(), self.images, self.labels, (8.0,), 4, drawn(2)))


class TestCleanRows:
    labels = torch.tensor([0, 1] * 10)

    def test_as_many_of_each_class_and_none_that_is_replaced(self) -> None:
        replaced, classes = torch.tensor([0, 2, 1, -1]), torch.tensor([0, 0, 1, 0])
        rows = clean_rows(self.labels, replaced, classes, drawn(0))
        assert len(set(rows.tolist())) == 4
        assert not set(rows.tolist()) & {0, 1, 2}
        assert self.labels[rows].tolist() == [0, 0, 0, 1]
        assert rows.tolist() != clean_rows(self.labels, replaced, classes, drawn(1)).tolist()

    def test_fewer_where_the_class_is_used_up(self) -> None:
        replaced = torch.arange(0, 16, 2)
        assert sorted(clean_rows(self.labels, replaced, torch.zeros(8, dtype=torch.int64), drawn(0))) == [16, 18]
        # Appended poisons replace no row, the last one no more than others.
        appended = clean_rows(self.labels, torch.full((10,), -1), torch.ones(10, dtype=torch.int64), drawn(0))
        assert sorted(appended) == list(range(1, 20, 2))


def test_poisons_and_their_bases_are_moved_alike() -> None:
    images, labels = torch.randint(0, 256, (3, 2, 6, 6), dtype=torch.uint8), torch.tensor([0, 1, 1])
    groups = {"poisons": (images, labels), "bases": (images, labels), "clean": (images[:2], labels[:2])}
    spread = around_network(network(), groups, OutputStd(magnitudes=(4, 8), draws=5), 1, torch.device("cpu"))
    assert spread.shape == (3, 3, 2)
    assert torch.equal(spread[0], spread[1])
    assert torch.isnan(spread[2, 2]).all()
    assert torch.isfinite(spread[2, :2]).all()
