"""The switches that make torch deterministic to the bit, and the choice of a program's device.

They decide the last bits of every result. So this module is not part of ``poisonlab.runtime``, and a change to it
reruns every job.
"""

from __future__ import annotations

import os
import sys

import torch

from poisonlab.errors import SettingsError
from poisonlab.runtime.gpus import hold_gpu


def prepare_torch(device: str, threads: int, jobs_per_gpu: int = 1) -> torch.device:
    """Set threads and determinism, and choose the device: among GPUs, one with fewer than ``jobs_per_gpu`` jobs.

    Every program that computes with torch calls this first, so that the same seed gives the same bits.

    Raises:
        SettingsError: ``device`` is ``cuda`` and there is no usable GPU.
    """
    torch.set_num_threads(threads)
    if device != "cpu":
        hold_gpu(jobs_per_gpu)
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device: cuda is demanded but there is no usable GPU: set device: cpu or auto")
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    # cuBLAS is deterministic only with a workspace of fixed size.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    # Not on a CPU: there every operation used here is deterministic.
    demand_determinism(True)
    # Filling would write NaN into all new memory. Nothing here reads memory that it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return torch.device("cuda")


def demand_determinism(demanded: bool) -> None:
    """Whether torch takes deterministic algorithms and warns of operations without one, from now on.

    ``torch.use_deterministic_algorithms(demanded, warn_only=True)`` does the same, but first imports the compiler,
    which takes a job two seconds.
    """
    torch._C._set_deterministic_algorithms(demanded, warn_only=True)
    # The compiler, if a recipe uses it, reads this when it is imported.
    os.environ["TORCHINDUCTOR_DETERMINISTIC"] = str(int(demanded))
    if (compiler := sys.modules.get("torch._inductor.config")) is not None:
        compiler.deterministic = demanded  # type: ignore[attr-defined]
