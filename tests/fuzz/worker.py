"""Feed targets with random inputs, in a process of its own, under watch: nothing may run, hang or take all memory.

Prints one JSON object per fault, and one per target with the number of inputs and of those that were read.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from poisonlab.errors import PoisonlabError

_MEMORY = 3 << 30
_LONGEST = 30
_WARM = 20
# What a program has to ask the interpreter for before it can do harm (docs.python.org/3/library/audit_events.html).
_FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.kill", "os.startfile"),
    *(
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.mkdir",
        "os.link",
        "os.symlink",
        "os.chmod",
        "os.truncate",
        "os.putenv",
    ),
    *("subprocess.Popen", "socket.", "ctypes.", "shutil.", "urllib.", "webbrowser.", "pty.", "tempfile."),
    *("pickle.find_class", "code.__new__", "function.__new__", "builtins.input", "sys.settrace"),
)


class Ran(BaseException):
    """An input made the interpreter do something."""


class Hung(BaseException):
    """An input took too long."""


class Watch:
    """Records what the interpreter is asked to do while an input is read."""

    def __init__(self) -> None:
        self.armed = False
        self.seen: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event.startswith(_FORBIDDEN) or (event == "open" and _writes(arguments)):
            self._complain(f"{event} {arguments!r:.200}")
        if event == "exec" and not Path(arguments[0].co_filename).is_file():
            self._complain(f"exec {arguments[0].co_filename}")
        if event == "import" and arguments[0] not in sys.modules and not _known(arguments[0]):
            self._complain(f"import {arguments[0]}")

    def _complain(self, what: str) -> None:
        self.seen.append(what)
        raise Ran(what)


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return any(mark in (mode or "") for mark in "wax+") or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _known(module: str) -> bool:
    """Whether a module belongs to a library that reads files; some parts of them are imported when first needed."""
    return module.split(".")[0] in ("encodings", "numpy", "torch", "PIL", "pyarrow", "pandas", "yaml", "poisonlab")


def fault_of(read: Callable[[Path], object], folder: Path, watch: Watch) -> tuple[str | None, bool]:
    """What is wrong with how an input was taken, if anything is; and whether it was read."""
    watch.seen.clear()
    fault = None
    done = False
    signal.alarm(_LONGEST)
    try:
        watch.armed = True
        read(folder)
        done = True
    except BaseException as error:
        watch.armed = False
        fault = _fault(error)
    finally:
        watch.armed = False
        signal.alarm(0)
    # First, because what an input ran may have been hidden by what came of it.
    return (f"ran {watch.seen[0]}" if watch.seen else fault), done


def _fault(error: BaseException) -> str | None:
    """None if a program would end in one line (``program.run``)."""
    if isinstance(error, PoisonlabError):
        lines = str(error).splitlines()
        fine = len(lines) == 1 and len(lines[0]) < 5000
        return None if fine else f"{len(lines)} lines, {len(str(error))} characters: {str(error)[:300]!r}"
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.strerror):
        return None
    if isinstance(error, RuntimeError) and ("not enough memory" in str(error) or "can't allocate memory" in str(error)):
        return None
    if isinstance(error, Hung):
        return "hung"
    frames = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return f"{type(error).__name__}: {str(error)[:200]} at {' '.join(frames[-6:])}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("targets", nargs="+")
    arguments.add_argument("--seconds", type=float, default=1e9, help="of each target")
    arguments.add_argument("--inputs", type=int, default=10**9, help="of each target")
    arguments.add_argument("--first", type=int, default=0, help="number of the first input; a number repeats an input")
    arguments.add_argument("--keep", type=Path, help="folder in which it says what it is at")
    args = arguments.parse_args()
    warnings.simplefilter("ignore")
    # Libraries, and parts of them that load only now. Tests of the watch alone need none.
    import targets as all_targets
    import torch

    repr(torch.ones(1))
    work = Path(tempfile.mkdtemp())
    try:
        (work / "seeds").mkdir()
        found = dict(all_targets.targets(work / "seeds"))
        watch = Watch()
        signal.signal(signal.SIGALRM, _hang)
        for name in args.targets:
            _run(name, found[name], work / "input", watch, args)
    finally:
        shutil.rmtree(work)


def _run(name: str, target: Any, folder: Path, watch: Watch, args: argparse.Namespace) -> None:
    def tell(**facts: Any) -> None:
        print(json.dumps({"target": name, **facts}), flush=True)

    # The first inputs twice: without watch, because libraries import parts of themselves only now, and with it.
    folder.mkdir(exist_ok=True)
    _empty(folder)
    target.valid(folder)
    for number in range(args.first, args.first + _WARM):
        with contextlib.suppress(Exception):
            target.read(folder)
        _write(target, folder, number)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, resource.RLIM_INFINITY))
    begin = time.monotonic()
    count = read = 0
    while count < args.inputs and time.monotonic() - begin < args.seconds:
        number = args.first + count
        _write(target, folder, number)
        if args.keep is not None:  # if the process ends here, this says at which input
            (args.keep / "now").write_text(json.dumps({"target": name, "number": number}))
        fault, done = fault_of(target.read, folder, watch)
        count, read = count + 1, read + done
        if Path("canary").exists() or Path("/tmp/escaped").exists() or (folder.parent / "escaped").exists():
            fault = fault or "left a file behind"
        if fault:
            tell(number=number, fault=fault)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    tell(inputs=count, read=read)


def _write(target: Any, folder: Path, number: int) -> None:
    _empty(folder)
    target.make(folder, Random(number))


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _hang(*_: object) -> None:
    raise Hung


if __name__ == "__main__":
    main()
