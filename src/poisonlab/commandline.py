"""What the stage programs share: arguments, one-line errors, devices and run cards."""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from poisonlab.artifacts.clock import Clock
from poisonlab.artifacts.files import write_diverged, write_sealed
from poisonlab.artifacts.setting_aside import deal_with
from poisonlab.errors import DamagedError, DivergedError, PoisonlabError, SettingsError
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
    sys.stderr = _Heedless(sys.stderr)
    clock = Clock(sys.argv[1:])
    try:
        main(sys.argv[1:])
        clock.bring_to_present()
    except DamagedError as error:
        fail(deal_with(error))
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


class _Heedless(io.TextIOBase):
    """A stream that drops what it cannot write: on a full disk, the progress in a log should not end a computation."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost = False

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError:
            self.lost = True
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self.lost = True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


def fail(message: str) -> None:
    """Print ``message`` on one line of standard error and exit with status 2."""
    line = f"error: {' '.join(message.split())}"
    print(line, file=sys.stderr, flush=True)
    if isinstance(sys.stderr, _Heedless) and sys.stderr.lost:
        # The log is on the full disk, too; what called this program has another standard error.
        with contextlib.suppress(OSError), open(f"/proc/{os.getppid()}/fd/2", "a", encoding="utf-8") as parent:
            print(line, file=parent)
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

    def write_failed(self, path: Path, artifact: Path, error: DivergedError, **more: Any) -> None:
        """Write the card of a job for which a training diverged, and ``artifact`` to say so to the jobs that need it.

        The job itself succeeds: it would diverge again, and a victim's failure is a result.
        """
        print(f"warning: {error}", file=sys.stderr)
        self.write(path, failed=error.facts(), **more)
        write_diverged(artifact, error)

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
                "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine(),
                "threads": torch.get_num_threads(),
                "peak_host_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "peak_device_mib": torch.cuda.max_memory_allocated() // 2**20 if on_gpu else None,
                "software": {name: version(name) for name in ("torch", "torchvision", "numpy")}
                | {"python": platform.python_version()},
                "commit": _commit(),
                **more,
            },
        )


def _commit() -> str | None:
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
