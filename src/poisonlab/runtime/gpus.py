"""GPUs of this machine: which of them a process may use, and one for each job.

Standard library only: the Snakefile imports this module, and a job's choice must be made before CUDA starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from poisonlab.errors import PoisonlabError

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_GPU_OR_SLICE = re.compile(r"^(?P<indent>[ \t]*)(?:GPU|MIG) .*\(UUID: (?P<uuid>[^)\s]+)\)", re.MULTILINE)
# The open files whose locks this process holds until it ends, however it ends.
_held: list[int] = []


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """UUIDs of the GPUs that a process with this environment may use; slices replace a divided GPU (MIG).

    Empty without ``nvidia-smi``, as on AMD's GPUs, where torch chooses the GPU.
    """
    return [uuid for gpu in _chosen(_installed(), environment.get(_VISIBLE)) for uuid in gpu]


def _installed() -> list[list[str]]:
    """For each GPU its UUID, or the UUIDs of its slices."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    found: list[tuple[str, list[str]]] = []
    for line in _GPU_OR_SLICE.finditer(listed):
        if not line["indent"]:
            found.append((line["uuid"], []))
        elif found:
            found[-1][1].append(line["uuid"])
    return [slices or [gpu] for gpu, slices in found]


def _chosen(gpus: Sequence[Sequence[str]], visible: str | None) -> list[list[str]]:
    """The GPUs that ``CUDA_VISIBLE_DEVICES`` selects, up to the first unknown entry. An entry is a number of
    ``nvidia-smi``, a UUID or the beginning of one."""
    if visible is None:
        return [list(gpu) for gpu in gpus]
    chosen = []
    for name in (part.strip() for part in visible.split(",")):
        if name.isdecimal() and int(name) < len(gpus):
            chosen.append(list(gpus[int(name)]))
            continue
        fitting = [uuid for gpu in gpus for uuid in gpu if name and uuid.startswith(name)]
        if len(fitting) != 1:
            break
        chosen.append(fitting)
    return chosen


def hold_gpu(jobs_per_gpu: int) -> None:
    """Show CUDA one GPU with room for another job, and hold it until this process ends; wait while all are full.

    Every job of this user on this machine counts, in any checkout. Nothing happens without a GPU, or if this process
    already holds one. Call this before CUDA starts.

    Raises:
        PoisonlabError: the folder of the locks cannot be used.
    """
    gpus = [] if _held else visible_gpus()
    if not gpus:
        return
    locks = _lock_folder()
    told = False
    while (gpu := _taken(gpus, jobs_per_gpu, locks)) is None:
        if not told:
            print(f"waiting for a GPU: each of {len(gpus)} has {jobs_per_gpu} jobs (jobs_per_gpu)", file=sys.stderr)
            told = True
        time.sleep(1)
    os.environ[_VISIBLE] = gpu


def _taken(gpus: Sequence[str], jobs_per_gpu: int, locks: Path) -> str | None:
    """The GPU with the fewest jobs, of which this process is now one; None if each has as many as allowed."""
    # Only one process at a time may look for free places.
    turn = _opened(locks / "turn")
    fcntl.flock(turn, fcntl.LOCK_EX)
    free: dict[str, list[int]] = {}
    jobs: dict[str, int] = {}
    for gpu in gpus:
        # Another study may allow more jobs.
        places = {*locks.glob(f"{gpu}.*"), *(locks / f"{gpu}.{place}" for place in range(jobs_per_gpu))}
        files = [_opened(path) for path in places]
        free[gpu] = [file for file in files if _locked(file)]
        jobs[gpu] = len(places) - len(free[gpu])
    chosen = min(gpus, key=lambda gpu: jobs[gpu])
    own = free[chosen][:1] if jobs[chosen] < jobs_per_gpu else []
    _held.extend(own)
    for file in (turn, *(file for files in free.values() for file in files)):
        if file not in own:
            os.close(file)
    return chosen if own else None


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise PoisonlabError(f"cannot lock {path}, which keeps jobs apart on GPUs: {error.strerror}") from error


def _locked(file: int) -> bool:
    """Whether this process now holds the lock of an open file; if another process does, the file is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    return True


def _lock_folder() -> Path:
    folder = Path(tempfile.gettempdir(), f"poisonlab-gpus-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
        raise PoisonlabError(f"{folder}, where jobs agree on GPUs, belongs to somebody else: remove it or set TMPDIR")
    return folder
