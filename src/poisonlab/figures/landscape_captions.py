"""What the loss landscapes show, in numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from poisonlab.figures.style import label_of
from poisonlab.figures.wording import PLUS_MINUS, listed, number, percent


def poison_landscape_caption(
    coordinates: NDArray[Any],
    matching_loss: NDArray[Any],
    training_loss: NDArray[Any],
    matching_at: NDArray[Any],
    training_at: NDArray[Any],
) -> str:
    """Figure 2: both losses at the base image and at the poison, and how low or high they get around them.

    Args:
        coordinates, matching_loss, training_loss: as ``poison_landscape`` draws them; every draw is counted.
        matching_at, training_at: (2,) each loss at the base image and at the poison themselves.
    """
    draws = len(matching_loss)
    plane = "a plane" if draws == 1 else f"{draws} planes"
    lowest, highest = (_over(loss) for loss in (matching_loss.min(axis=(1, 2)), training_loss.max(axis=(1, 2))))
    lower = _over((matching_loss < matching_at[1]).mean(axis=(1, 2)), percent)
    higher = _over((training_loss > training_at[1]).mean(axis=(1, 2)), percent)
    return (
        "After figure 2 of FRIENDS: losses of the attacker's surrogate around one base image, the one whose poison's "
        f"gradient comes closest to the target's, in {plane} through image and poison; up to "
        f"{PLUS_MINUS}{number(coordinates[-1])} levels (1/255) of root mean square change along each direction. "
        "Matching loss is one minus the cosine between the example's gradient and that of the target with the "
        f"adversarial label; training loss is cross-entropy.{_drawn(draws)} Matching loss: {number(matching_at[0])} at "
        f"the base image, {number(matching_at[1])} at the poison; the lowest on the grid is {lowest}, and {lower} of "
        f"the grid points lie lower than the poison. Training loss: {number(training_at[0])} at the base image, "
        f"{number(training_at[1])} at the poison; the highest on the grid is {highest}, and {higher} of the grid "
        "points lie higher than the poison. One poison of one run."
    )


def victim_landscapes_caption(
    coordinates: NDArray[Any],
    names: Sequence[str],
    loss: NDArray[Any],
    at_poisons: NDArray[Any],
    directions: str = "plain",
) -> str:
    """Figure 3: each victim's mean loss at the poisons themselves, and its extremes around them.

    Args:
        coordinates, names, loss, directions: as ``victim_landscapes`` draws them; every draw is counted.
        at_poisons: (V,) mean cross-entropy of the poisons as they are.
    """
    draws = loss.shape[1]
    reach = f"{PLUS_MINUS}{number(coordinates[-1])}"
    moved = (
        f"each poison is moved in pixel space along two random directions of its own, up to {reach} levels (1/255) of "
        "root mean square change along each"
        if directions == "plain"
        else "the victim's weights are moved along two random directions whose filters have the norms of the weights' "
        f"(Li et al. 2018), up to {reach} times these norms along each"
    )
    poisons, highest, lowest = (
        listed([f"{value} ({label_of(name)})" for name, value in zip(names, values, strict=True)])
        for values in (
            [number(value) for value in at_poisons],
            [_over(one.max(axis=(1, 2))) for one in loss],
            [_over(one.min(axis=(1, 2))) for one in loss],
        )
    )
    return (
        f"After figure 3 of FRIENDS: mean training loss (cross-entropy) over all poisons of one run, as {moved}; the "
        f"same directions and scale in every panel, one victim each.{_drawn(draws)} At the poisons themselves the loss "
        f"is {poisons}; the highest on the grid is {highest}; the lowest is {lowest}."
    )


def _drawn(draws: int) -> str:
    """How several draws are put together."""
    if draws == 1:
        return ""
    return (
        f" Surfaces are means over {draws} independent draws of the directions; for numbers that depend on the draw, "
        "the mean over the draws and in brackets their range are given."
    )


def _over(values: NDArray[Any], form: Callable[[float], str] = number) -> str:
    """A number of one draw, or mean and range over several."""
    mean = form(float(values.mean()))
    return mean if len(values) == 1 else f"{mean} [{form(float(values.min()))}, {form(float(values.max()))}]"
