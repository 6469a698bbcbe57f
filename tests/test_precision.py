"""Mixed precision, only where the hardware multiplies bfloat16."""

from __future__ import annotations

import ast
import platform
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import nn

from poisonlab import precision
from poisonlab.defenses.friendly_noise import friendly_noise
from poisonlab.errors import SettingsError
from poisonlab.precision import computed, passes

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
IMAGES = torch.rand(2, 1, 4, 4)

asked_of_torch = precision.multiplies_bfloat16
"""As it is outside the tests, whose session replaces it; this module is imported before."""


def having(*, machine: str, avx512: bool = False, amx: bool = False, onednn: bool = False) -> bool:
    ops = mock.Mock()
    ops.mkldnn._is_mkldnn_bf16_supported = lambda: onednn
    with (
        mock.patch.object(platform, "machine", return_value=machine),
        mock.patch.object(torch.cpu, "_is_avx512_bf16_supported", return_value=avx512),
        mock.patch.object(torch.cpu, "_is_amx_tile_supported", return_value=amx),
        mock.patch.object(torch, "ops", ops),
    ):
        return asked_of_torch(CPU)


@pytest.mark.parametrize("machine", ["x86_64", "AMD64"])
def test_x86_needs_avx512_bf16_or_amx(machine: str) -> None:
    # oneDNN says yes for every AVX-512, as it converts there and back.
    assert not having(machine=machine, onednn=True)
    assert having(machine=machine, avx512=True)
    assert having(machine=machine, amx=True)


def test_arm_is_asked_of_onednn() -> None:
    with mock.patch.object(torch._C, "_has_mkldnn", True):
        assert having(machine="aarch64", onednn=True)
        assert not having(machine="aarch64")
    with mock.patch.object(torch._C, "_has_mkldnn", False):
        assert not having(machine="arm64", onednn=True)


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_that_emulates_has_none(native: bool) -> None:
    with mock.patch.object(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native
    ):
        assert asked_of_torch(torch.device("cuda")) == native


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="Linux lists the processor's instructions")
def test_it_is_what_linux_says_of_this_processor() -> None:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    words = " ".join(line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    assert asked_of_torch(CPU) == bool(set(words.split()) & {"avx512_bf16", "amx_bf16", "bf16"})


def test_other_precisions_are_refused() -> None:
    for wrong in ("bf16", "float16", torch.bfloat16):
        with pytest.raises(SettingsError, match="choose float32 or bfloat16"):
            friendly_noise(nn.Flatten(), IMAGES, precision=wrong)  # type: ignore[arg-type]


def test_without_the_instructions_bits_are_those_of_float32() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten())

    def made(setting: str) -> torch.Tensor:
        with passes(CPU, setting):
            return network(IMAGES)

    assert computed(CPU, "bfloat16") == "bfloat16"
    assert made("bfloat16").dtype == torch.bfloat16
    with mock.patch.object(precision, "multiplies_bfloat16", return_value=False):
        assert computed(CPU, "bfloat16") == "float32"
        assert torch.equal(made("bfloat16"), made("float32"))


@pytest.mark.parametrize("setting", ["float32", "bfloat16"])
def test_float32_is_never_reduced_and_a_wider_network_never_narrowed(setting: str) -> None:
    native = setting == "float32"
    with mock.patch.object(precision, "multiplies_bfloat16", return_value=native), passes(CPU, setting):
        assert nn.Linear(4, 2).double()(torch.rand(3, 4).double()).dtype == torch.float64


def test_nothing_else_chooses_bfloat16() -> None:
    """Elsewhere autocast is only switched off."""
    for path in (*ROOT.glob("src/**/*.py"), *ROOT.glob("workflow/**/*.py"), *ROOT.glob("benchmarks/**/*.py")):
        if path.name == "precision.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("autocast"):
                assert "enabled=False" in ast.unparse(node), f"{path}:{node.lineno}"
