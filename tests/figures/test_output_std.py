"""The figure of the output's spread: what it shows of the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from poisonlab.errors import DataError
from poisonlab.figures.output_std import output_std_caption, output_std_figure

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
