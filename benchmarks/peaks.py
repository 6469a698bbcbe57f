"""The peak speed of a device: products of large matrices, and copies of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from contest import Result, markdown, timed

from poisonlab.precision import PRECISIONS, computed

TRIES = 5
TINY = (256, 8)
"""Side of the matrices and MiB of the copies in rehearsals."""


@dataclass(frozen=True)
class Peaks:
    """Operations per second of a matrix product, by precision, and bytes per second read and written by a copy.

    Where the device does not multiply bfloat16, both precisions are computed in float32. Only a GPU has ``tf32``.
    """

    flops: dict[str, float]
    traffic: float


def peaks(device: torch.device, side: int | None = None, mib: int | None = None) -> Peaks:
    """The best of a few tries.

    Args:
        side: of the square matrices; if not given, large enough to keep the device busy.
        mib: MiB of the copied memory; if not given, large enough to keep the device busy.
    """
    on_gpu = device.type == "cuda"
    side, mib = side or (8192 if on_gpu else 2048), mib or (2048 if on_gpu else 256)
    flops = {name: matmul(device, name, side) for name in PRECISIONS}
    if on_gpu:
        flops["tf32"] = _in_tf32(lambda: matmul(device, "float32", side))
    return Peaks(flops, copying(device, mib * 2**20))


def _in_tf32(call: Callable[[], float]) -> float:
    """Products of float32 matrices rounded to TF32, as convolutions of float32 images are by default."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        return call()
    finally:
        torch.set_float32_matmul_precision(before)


def matmul(device: torch.device, precision: str, side: int) -> float:
    """Operations per second of the product of two square matrices, in the precision of a network's passes."""
    dtype = getattr(torch, computed(device, precision))
    first, second = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / best(lambda: first @ second, device)


def copying(device: torch.device, size: int) -> float:
    """Bytes per second that a copy of ``size`` bytes reads and writes."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    return 2 * size / best(lambda: target.copy_(source), device)


def best(call: Callable[[], object], device: torch.device) -> float:
    call()
    return min(timed(call, device)[0] for _ in range(TRIES))


def roofline(results: Sequence[Result], peaks: Peaks) -> str:
    """How near each of our ways comes to the device's peak, as Markdown; empty without operations and traffic."""
    rows = []
    for result in results:
        if result.flops is not None and result.precision is not None:
            peak = peaks.flops[result.precision]
            reached = [f"{amount / 1e9:.4g} GFLOP/s" for amount in (result.flops, peak)]
            rows.append([result.contest, *reached, result.precision, f"{result.flops / peak:.0%}"])
        if result.traffic is not None:
            reached = [f"{amount / 1e9:.3g} GB/s" for amount in (result.traffic, peaks.traffic)]
            rows.append([result.contest, *reached, "copy", f"{result.traffic / peaks.traffic:.0%}"])
    return markdown(["ours", "achieved", "peak", "of", "share"], rows) if rows else ""
