"""The machine, and the peak speed of its GPU."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict

import torch
from contest import markdown
from peaks import TINY, peaks

from gpu.section import Check, FaultError, Notes
from poisonlab.determinism import prepare_torch
from poisonlab.runtime.cards import processor
from poisonlab.runtime.gpus import visible_gpus

_FIELDS = "driver_version,memory.total,mig.mode.current,compute_mode,power.limit"


def cuda_name() -> str | None:
    """Name of the first GPU that CUDA can use here; None without one. This starts CUDA."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def machine(check: Check, notes: Notes) -> None:
    """Driver, software, GPU, processor, and the peaks of matrix products and copies.

    Raises:
        FaultError: a matrix product or a copy has no speed, or jobs would not see the GPU that CUDA sees.
    """
    notes.fact("processor", f"{processor()}, {os.cpu_count()} threads")
    notes.fact("python", platform.python_version())
    notes.fact("torch", torch.__version__)
    seen = visible_gpus()
    device = prepare_torch(check.device, 1, jobs_per_gpu=1)
    if device.type == "cuda":
        _gpu(notes)
    best = peaks(device, *(TINY if check.tiny else ()))
    notes.fact("peaks", asdict(best))
    rows = [[f"matrix product, {name}", f"{flops / 1e12:.4g} TFLOP/s"] for name, flops in best.flops.items()]
    notes.table("Peaks", markdown(["what", "best"], [*rows, ["copy", f"{best.traffic / 1e9:.4g} GB/s"]]))
    if device.type == "cuda" and not seen:
        raise FaultError("nvidia-smi lists no GPU that CUDA may use, so jobs cannot agree on it (jobs_per_gpu)")


def _gpu(notes: Notes) -> None:
    properties = torch.cuda.get_device_properties(0)
    notes.fact("gpu", properties.name)
    notes.fact("memory_mib", properties.total_memory // 2**20)
    notes.fact("capability", f"{properties.major}.{properties.minor}")
    notes.fact("multiprocessors", properties.multi_processor_count)
    notes.fact("cuda", str(torch.version.cuda))
    notes.fact("cudnn", str(torch.backends.cudnn.version()))
    asked = ["nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30)
    notes.fact(f"nvidia-smi, {_FIELDS}", " / ".join(done.stdout.split("\n")).strip(" /") or done.stderr.strip())
