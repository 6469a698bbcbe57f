"""The frame of every stage program: arguments, and problems as one line."""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from poisonlab.errors import (
    DamagedError,
    DataWarning,
    PoisonlabError,
    SettingsError,
    is_out_of_gpu_memory,
    is_out_of_memory,
)
from poisonlab.provenance import changed_sources, parse
from poisonlab.runtime.clock import Clock
from poisonlab.runtime.setting_aside import deal_with

EXIT_BAD_INPUT = 2
INTERRUPTED = 130
"""The exit status after Ctrl-C, as in shells."""

OUT_OF_MEMORY = "out of memory: run fewer jobs at once (--cores), or take fewer or smaller images or a smaller network"
OUT_OF_MEMORY_ON_GPU = (
    "out of memory on the GPU: run fewer jobs on it (jobs_per_gpu), take fewer or smaller images or a smaller network, "
    "or set device: cpu"
)


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Run a stage program: exit 0, or print one line on a problem that the user can cure and exit 2."""
    # Imported objects stay until the end. Otherwise collecting them at the exit takes a third of torch's import time.
    # But Triton, if it is loaded, reports uncollected objects as leaked.
    if "triton" not in sys.modules:
        gc.freeze()
    sys.stderr = _Heedless(sys.stderr)
    warnings.simplefilter("always", DataWarning)
    warnings.formatwarning = _formatted
    # Not every shell replaces ~ in `make protect OUT=~/noise.safetensors`.
    argv = [os.path.expanduser(word) for word in sys.argv[1:]]
    clock = Clock(argv)
    try:
        _check_code(argv)
        main(argv)
        clock.bring_to_present()
    except KeyboardInterrupt:
        print("error: interrupted: call it again to go on", file=sys.stderr, flush=True)
        raise SystemExit(INTERRUPTED) from None
    except DamagedError as error:
        fail(deal_with(error))
    except PoisonlabError as error:
        fail(str(error))
    except MemoryError:
        fail(OUT_OF_MEMORY)
    except OSError as error:
        fail(f"{error.filename or 'file system'}: {error.strerror or error}")
    except ValueError as error:
        if "Expected more than 1 value per channel" in str(error):  # torch's
            fail(
                "batch norm cannot train on one example of so small an image: choose a batch_size that leaves no last "
                "batch of one, larger images, or a model with norm: group"
            )
        raise
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        fail(OUT_OF_MEMORY_ON_GPU if is_out_of_gpu_memory(error) else OUT_OF_MEMORY)


def _check_code(argv: Sequence[str]) -> None:
    """Check that the code is still that of the plan, because results are stamped with the planned digests.

    Raises:
        PoisonlabError: the code was edited meanwhile.
    """
    place = argv.index("--code") + 1 if "--code" in argv else len(argv)
    planned = itertools.takewhile(lambda word: not word.startswith("--"), argv[place:])
    if changed := changed_sources(planned, newer_than=int(os.environ.get("POISONLAB_NEWEST", 0))):
        raise PoisonlabError(
            f"the code has changed since this job was planned ({', '.join(changed)}): restore it, or call Snakemake "
            "again"
        )


def _formatted(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> str:
    """A warning about data as one line without the place in the code."""
    if issubclass(category, DataWarning):
        return f"warning: {' '.join(str(message).split())}\n"
    return _FORMATTED(message, category, *place, **more)


_FORMATTED = warnings.formatwarning


class _Heedless(io.TextIOBase):
    """A stream that drops text it cannot write: on a full disk, the progress in a log must not end a computation."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


def fail(message: str) -> None:
    """Print ``message`` on one line of standard error and exit with status 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    raise SystemExit(EXIT_BAD_INPUT)


def spec_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with ``--spec``, the argument of every stage program."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument(
        "--spec", nargs="+", required=True, metavar="KEY=VALUE", help="settings, as the workflow passes them"
    )
    return arguments


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the arguments of every stage program that computes with torch."""
    arguments = spec_parser(description)
    arguments.add_argument("--dataset", type=Path, required=True, help="the dataset (.safetensors)")
    arguments.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments.add_argument("--threads", type=int, default=1, help="CPU threads; the same number repeats the same bits")
    arguments.add_argument("--jobs-per-gpu", type=int, default=1, help="wait for a GPU with fewer jobs than this")
    arguments.add_argument("--code", nargs="*", default=[], help="digests of the code, as the workflow passes them")
    return arguments


def add_checkpoint_arguments(arguments: argparse.ArgumentParser) -> None:
    """Add ``--checkpoint``, ``--checkpoint-seconds`` and ``--capture``, of programs that train."""
    arguments.add_argument(
        "--checkpoint", type=Path, required=True, help="file from which an interrupted run resumes (.safetensors)"
    )
    arguments.add_argument("--checkpoint-seconds", type=float, default=120.0, help="seconds between two saves")
    arguments.add_argument("--capture", choices=["auto", "off"], default="auto", help="steps as CUDA graphs on a GPU")


def settings(strings: Sequence[str]) -> dict[str, Any]:
    """The nested settings of ``--spec``. If it is only ``-``, standard input has the settings, each followed by a NUL.

    Raises:
        SettingsError: a string is malformed.
    """
    try:
        piped = list(strings) == ["-"]
        return parse(sys.stdin.buffer.read().decode("utf-8").split("\0")[:-1] if piped else strings)
    except ValueError as error:
        raise SettingsError(str(error)) from error
