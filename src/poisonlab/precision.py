"""The precision of a network's passes: bfloat16 where the hardware multiplies it, float32 elsewhere.

A processor without instructions for bfloat16 converts every number back and forth, and takes at least three times as
long as in float32. So ``precision: bfloat16`` allows bfloat16 but does not force it.
"""

from __future__ import annotations

import platform

import torch

from poisonlab.errors import SettingsError

PRECISIONS = ("float32", "bfloat16")


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions that multiply bfloat16: AVX-512 BF16, AMX, Arm's BF16, or CUDA from Ampere
    on. Any other kind of device counts as having them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return True
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch._C._has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def computed(device: torch.device, precision: str) -> str:
    """The precision of passes on the device: ``bfloat16`` if it is requested and native there, else ``float32``.

    Raises:
        SettingsError: ``precision`` is neither float32 nor bfloat16.
    """
    if precision not in PRECISIONS:
        raise SettingsError(f"precision is {precision!r}: choose float32 or bfloat16")
    return "bfloat16" if precision == "bfloat16" and multiplies_bfloat16(device) else "float32"


def passes(device: torch.device, precision: str) -> torch.autocast:
    """The context for a network's passes.

    Args:
        precision: ``bfloat16`` for mixed precision where the device multiplies it, or ``float32``, which keeps the
            network's own dtype.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=computed(device, precision) == "bfloat16")
