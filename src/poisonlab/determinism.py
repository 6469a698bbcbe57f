"""The switches that make torch repeat its bits, and the device that a program computes on.

They decide the last bits of every result, so they stand outside ``poisonlab.runtime``: a change reruns all.
"""

from __future__ import annotations

import os

import torch

from poisonlab.errors import SettingsError
from poisonlab.runtime.gpus import hold_gpu


def prepare_torch(device: str, threads: int, jobs_per_gpu: int = 1) -> torch.device:
    """Set threads and determinism, and choose the device: of several GPUs one with fewer jobs than ``jobs_per_gpu``.

    All programs that compute with torch begin with it, so that the same seed gives the same bits.

    Raises:
        SettingsError: a GPU is demanded and there is none.
    """
    torch.set_num_threads(threads)
    if device != "cpu":
        hold_gpu(jobs_per_gpu)
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device: cuda is demanded but there is no usable GPU: set device: cpu or auto")
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    # cuBLAS repeats its bits only with a workspace of fixed size.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    # On a CPU all that is used here repeats its bits anyway, and this call would import the compiler: seconds per job.
    torch.use_deterministic_algorithms(True, warn_only=True)
    # It would write NaN into all new memory before use. Nothing here reads memory that it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return torch.device("cuda")
