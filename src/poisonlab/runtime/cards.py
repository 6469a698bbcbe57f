"""Run cards: how long a job took, on which device, with which software and from which commit."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poisonlab.errors import DivergedError
from poisonlab.files import write_sealed

_CHECKOUT = Path(__file__).resolve().parents[3]

# torch is imported only where a card is written: for names of devices and amounts of memory.
if TYPE_CHECKING:
    import torch


class RunCard:
    """The volatile facts of one job: duration, device and software. No measure depends on them."""

    def __init__(self, device: torch.device, spec: Sequence[str]) -> None:
        self._device = device
        self._spec = list(spec)
        self._begin = time.perf_counter()

    def seconds(self) -> float:
        """Wall time since the card was opened."""
        return round(time.perf_counter() - self._begin, 3)

    def write_failed(self, path: Path, error: DivergedError, **more: Any) -> None:
        """Write the card of a job in which a training diverged, and a warning in the log.

        The job itself succeeds, because it would diverge again, and a victim's failure is a result. In place of its
        tensors, the job calls ``write_diverged``, which informs the jobs that need them.
        """
        print(f"warning: {error}", file=sys.stderr)
        self.write(path, failed=error.facts(), **more)

    def write(self, path: Path, **more: Any) -> None:
        """Write the card; ``more`` is added to it."""
        import torch

        on_gpu = self._device.type == "cuda"
        write_sealed(
            path,
            {
                "spec": self._spec,
                "seconds": self.seconds(),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "device": torch.cuda.get_device_name() if on_gpu else processor(),
                # It decides the kernels, and so the last bits.
                "cpu": torch.backends.cpu.get_cpu_capability(),
                "bfloat16": _bfloat16(self._device),
                "threads": torch.get_num_threads(),
                "peak_host_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "peak_device_mib": torch.cuda.max_memory_allocated() // 2**20 if on_gpu else None,
                "software": {name: version(name) for name in _software()} | {"python": platform.python_version()},
                "commit": commit(),
                **more,
            },
        )


def _bfloat16(device: torch.device) -> bool | None:
    """Whether bfloat16 in settings means bfloat16 on the device; None for a job that never asks."""
    asked = sys.modules.get("poisonlab.precision")
    return None if asked is None else bool(asked.multiplies_bfloat16(device))


def _software() -> list[str]:
    """Packages that results depend on; timm only if the job has used it."""
    return ["torch", "torchvision", "numpy", *(["timm"] if "timm" in sys.modules else [])]


def processor() -> str:
    """The CPU's name as Linux knows it, or at least its architecture."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str | None:
    """Commit of the checkout that the code is from, ``-dirty`` if it was changed; None without one or without git."""
    try:
        if Path(_git("rev-parse", "--show-toplevel")).resolve() != _CHECKOUT:
            return None  # an installed package, in a folder below another repository
        return _git("describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(_CHECKOUT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
