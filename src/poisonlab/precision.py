"""The precision of a network's passes: bfloat16 where the hardware multiplies it, float32 elsewhere.

A processor without instructions for bfloat16 converts every number back and forth, and takes three times as long as in
float32 or longer. So ``precision: bfloat16`` allows bfloat16 and does not force it.
"""

from __future__ import annotations

import platform

import torch

from poisonlab.errors import SettingsError

PRECISIONS = ("float32", "bfloat16")


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16: AVX-512 BF16, AMX, Arm's BF16, or CUDA from Ampere
    on. Devices of other kinds count as having them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return True
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch._C._has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def computed(device: torch.device, precision: str) -> str:
    """The precision that passes on the device have: ``bfloat16`` if it is asked for and native there, or ``float32``.

    Raises:
        SettingsError: a precision of another name.
    """
    if precision not in PRECISIONS:
        raise SettingsError(f"precision is {precision!r}: choose float32 or bfloat16")
    return "bfloat16" if precision == "bfloat16" and multiplies_bfloat16(device) else "float32"


def passes(device: torch.device, precision: str, *, cache_enabled: bool = True) -> torch.autocast:
    """The context for a network's passes.

    Args:
        precision: ``bfloat16`` for mixed precision where the device multiplies it, or ``float32``, which leaves the
            network's own precision.
        cache_enabled: keep the weights' copies in bfloat16 until the context ends.
    """
    enabled = computed(device, precision) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=cache_enabled)
