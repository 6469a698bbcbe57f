"""What the stage programs share: arguments, one-line errors, devices and run cards."""

from __future__ import annotations

import argparse
import gc
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poisonlab.artifacts.files import write_json
from poisonlab.errors import PoisonlabError, SettingsError
from poisonlab.provenance import parse

# Programs that only read tables and draw should not wait for torch: what needs it imports it.
if TYPE_CHECKING:
    import torch

EXIT_BAD_INPUT = 2


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Run a stage program: exit 0, or print one line on a problem that the user can cure and exit 2."""
    # What was imported stays until the end: without this, collecting it at the exit takes a third of torch's import.
    # But Triton, where it is there, calls what is not collected leaked.
    if "triton" not in sys.modules:
        gc.freeze()
    try:
        main(sys.argv[1:])
    except PoisonlabError as error:
        fail(str(error))
    except MemoryError:
        fail("out of memory: use a smaller dataset or batch size, or run fewer jobs at once (--cores)")
    except OSError as error:
        fail(f"{error.filename or 'file system'}: {error.strerror or error}")
    except RuntimeError as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's
            fail("out of memory on the GPU: lower the batch size, or set device: cpu")
        # The CPU allocator has no exception type of its own.
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):
            fail("out of memory: use a smaller dataset or batch size, or run fewer jobs at once (--cores)")
        raise


def fail(message: str) -> None:
    """Print ``message`` on one line of standard error and exit with status 2."""
    print("error: " + " ".join(message.split()), file=sys.stderr)
    raise SystemExit(EXIT_BAD_INPUT)


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the arguments of every stage program that computes with torch."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument(
        "--spec", nargs="+", required=True, metavar="KEY=VALUE", help="settings, as the workflow passes them"
    )
    arguments.add_argument("--dataset", type=Path, required=True, help="the dataset (.safetensors)")
    arguments.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments.add_argument("--threads", type=int, default=1, help="CPU threads; part of what makes bits repeat")
    return arguments


def settings(strings: Sequence[str]) -> dict[str, Any]:
    """The nested settings of ``--spec``.

    Raises:
        SettingsError: a string is malformed.
    """
    try:
        return parse(strings)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def prepare_torch(device: str, threads: int) -> torch.device:
    """Set threads and determinism, and choose the device.

    Raises:
        SettingsError: a GPU is demanded and there is none.
    """
    import torch

    torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device: cuda is demanded but there is no usable GPU: set device: cpu or auto")
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    # cuBLAS repeats its bits only with a workspace of fixed size.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    # On a CPU all that is used here repeats its bits anyway, and this call would import the compiler: seconds per job.
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda")


class RunCard:
    """The volatile facts of one job: how long, on what, with which software. Nothing consumes them but reports."""

    def __init__(self, device: torch.device, spec: Sequence[str]) -> None:
        self._device = device
        self._spec = list(spec)
        self._begin = time.perf_counter()

    def seconds(self) -> float:
        """Wall time since the card was opened."""
        return round(time.perf_counter() - self._begin, 3)

    def write(self, path: Path, **more: Any) -> None:
        """Write the card; ``more`` is added to it."""
        import torch

        on_gpu = self._device.type == "cuda"
        write_json(
            path,
            {
                "spec": self._spec,
                "seconds": self.seconds(),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine(),
                # Kernels are chosen by it, and with them the last bits.
                "cpu": torch.backends.cpu.get_cpu_capability(),
                "threads": torch.get_num_threads(),
                "peak_host_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "peak_device_mib": torch.cuda.max_memory_allocated() // 2**20 if on_gpu else None,
                "software": {name: version(name) for name in ("torch", "torchvision", "numpy")}
                | {"python": platform.python_version()},
                "commit": commit(),
                **more,
            },
        )


def commit() -> str | None:
    """The checkout's commit, ``-dirty`` if there are changes; None without git."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
