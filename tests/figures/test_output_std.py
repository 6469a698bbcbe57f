"""The spread of a network's output: against a slow loop, closed forms, and what the figure shows of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loading import program
from numpy.typing import NDArray
from torch import Tensor, nn

from poisonlab.artifacts.arrays import write_arrays
from poisonlab.errors import DataError
from poisonlab.figures.output_std import clean_rows, output_std
from poisonlab.figures.output_std_plots import output_std_caption, output_std_figure


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


MAGNITUDES = np.array([2.0, 8.0, 32.0])
# Two networks, four poisons, and two other images of the class.
STD = np.zeros((2, 3, 4, 3))
STD[:, 0] = np.array([0.1, 0.2, 0.3, 0.5])[:, None] * [1, 2, 3]
STD[:, 1] = 0.25
STD[1] /= 2
STD[:, 2] = [[0.01] * 3, [0.03] * 3, [np.nan] * 3, [np.nan] * 3]


class TestFigure:
    def test_medians_and_quartiles_on_one_scale(self) -> None:
        figure = output_std_figure(MAGNITUDES, ["surrogate", "none"], STD)
        left, right = figure.axes
        assert [axes.get_title(loc="left") for axes in (left, right)] == ["(a) Attacker's surrogate", "(b) No defense"]
        assert left.get_ylim() == right.get_ylim()
        poisons, bases, clean = left.lines
        assert np.asarray(poisons.get_xdata()).tolist() == [2, 8, 32]
        assert np.asarray(poisons.get_ydata()) == pytest.approx([0.25, 0.5, 0.75])
        assert np.asarray(bases.get_ydata()) == pytest.approx([0.25] * 3)
        assert np.asarray(clean.get_ydata()) == pytest.approx([0.02] * 3)
        band = left.collections[0].get_datalim(left.transData)
        assert (band.y0, band.y1) == pytest.approx((0.175, 1.05))

    def test_without_other_images(self) -> None:
        std = STD.copy()
        std[:, 2] = np.nan
        figure = output_std_figure(MAGNITUDES, ["surrogate", "none"], std)
        assert [len(axes.lines) for axes in figure.axes] == [2, 2]
        assert "other images" not in output_std_caption(MAGNITUDES, ["surrogate", "none"], std, 8)

    def test_caption(self) -> None:
        caption = output_std_caption(MAGNITUDES, ["surrogate", "none"], STD, 8)
        assert "over 8 perturbations" in caption
        assert "4 poisons, their base images and 2 other images of the class" in caption
        assert caption.endswith(
            "Medians at ±8 and ±32 levels: Attacker's surrogate: 0.5 and 0.75 around poisons, 0.25 and 0.25 around "
            "their base images and 0.02 and 0.02 around other images of the class; larger at the poison than at its "
            "own base for 75 % and 100 % of the poisons. No defense: 0.25 and 0.375 around poisons, 0.125 and 0.125 "
            "around their base images and 0.02 and 0.02 around other images of the class; larger at the poison than at "
            "its own base for 75 % and 100 % of the poisons."
        )

    @pytest.mark.parametrize(
        ("magnitudes", "std", "message"),
        [
            (MAGNITUDES[::-1], STD, "ascending"),
            (MAGNITUDES, STD[:1], "2 networks"),
            (MAGNITUDES, STD[:, :2], "3 groups"),
            (MAGNITUDES[:2], STD, "2 magnitudes"),
            (MAGNITUDES, np.full_like(STD, np.nan), "not finite"),
        ],
    )
    def test_bad_arrays(self, magnitudes: NDArray[Any], std: NDArray[Any], message: str) -> None:
        with pytest.raises(DataError, match=message):
            output_std_figure(magnitudes, ["surrogate", "none"], std)

    def test_program_writes_all_files(self, tmp_path: Path) -> None:
        write_arrays(
            tmp_path / "std.npz",
            names=np.array(["surrogate", "none"]),
            magnitudes=MAGNITUDES,
            std=STD,
            draws=np.array(8),
        )
        files = [part for kind in ("pdf", "png", "caption") for part in (f"--{kind}", str(tmp_path / f"a.{kind}"))]
        program("figure_output_std").main(["--spec", "drawing.dpi=60", "--std", str(tmp_path / "std.npz"), *files])
        assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.caption", "a.pdf", "a.png"]


def test_poisons_and_their_bases_are_moved_alike() -> None:
    spreading = program("output_std")
    images, labels = torch.randint(0, 256, (3, 2, 6, 6), dtype=torch.uint8), torch.tensor([0, 1, 1])
    stage = spreading.OutputSpread(networks=(), output_std={"magnitudes": [4, 8], "draws": 5}, seed=1)
    groups = {"poisons": (images, labels), "bases": (images, labels), "clean": (images[:2], labels[:2])}
    spread = spreading.around(network(), groups, stage, torch.device("cpu"))
    assert spread.shape == (3, 3, 2)
    assert torch.equal(spread[0], spread[1])
    assert torch.isnan(spread[2, 2]).all()
    assert torch.isfinite(spread[2, :2]).all()
