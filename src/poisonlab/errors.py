"""The exceptions and warnings whose messages are written for users of poisonlab."""

from __future__ import annotations

from pathlib import Path

_LONGEST = 3000


class PoisonlabError(Exception):
    """A problem the user can cure.

    The message is one line: what is wrong, where, and how to cure it. Command-line programs print it without a
    traceback and exit with status 2. Text quoted from a file cannot add lines or unprintable characters to a message.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        if not line.isprintable():
            line = "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in line)
        # The cure is at the end of the message.
        half = _LONGEST // 2
        super().__init__(line if len(line) <= _LONGEST else f"{line[:half]} ... {line[-half:]}")


class DataError(PoisonlabError):
    """A dataset or artifact is missing, truncated, corrupt or of the wrong shape."""


class DataWarning(UserWarning):
    """Data are usable, but perhaps not what the user expects: one line that says how many images are affected."""


class SettingsError(PoisonlabError):
    """A setting is unknown, mistyped or impossible."""


class DamagedError(DataError):
    """A file does not hold what was written.

    Attributes:
        path: the file.
        why: what is wrong with it, as ``checksum differs``.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is damaged ({why}): restore it, or delete what the workflow made and run it again")
        self.path = path
        self.why = why


class TooLittleMemoryError(PoisonlabError):
    """A CPU or a GPU ran out of memory, and the message names the cure."""


_SIGNS_OF_FULL_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc", "could not create a memory")
_SIGNS_OF_A_FULL_GPU = ("out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED")
"""Messages of CUDA's driver (``CUDA error: out of memory``), and of cuBLAS and cuDNN, which bypass torch's
allocator."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy or torch ran out of memory, on a GPU or the CPU.

    This needs no import of torch: its CPU allocator raises a plain RuntimeError, recognised by its text.
    """
    if isinstance(error, MemoryError) or is_out_of_gpu_memory(error):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS_OF_FULL_MEMORY)


def is_out_of_gpu_memory(error: BaseException) -> bool:
    """Whether a GPU ran out of memory: for torch's allocator, or for a library that bypasses the allocator."""
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS_OF_A_FULL_GPU)


class DivergedError(PoisonlabError):
    """A training ended in NaN or infinity, so there is no network. This is an outcome: a rerun diverges again.

    Attributes:
        what: the number that diverged, as ``the loss is nan``.
        epoch: the epoch, from 0.
        batch: the batch of the epoch, from 0.
        source: the file that records the divergence, if another job's training diverged.
    """

    def __init__(self, what: str, epoch: int, batch: int, source: Path | None = None) -> None:
        where = f"{what} at epoch {epoch}, batch {batch}"
        super().__init__(
            f"training diverged: {where}; lower the learning rate or switch to precision: float32"
            if source is None
            else f"{source} holds nothing: a training that it needed diverged ({where})"
        )
        self.what = what
        self.epoch = epoch
        self.batch = batch
        self.source = source

    def facts(self) -> dict[str, str | int]:
        """The attributes as plain values; ``source`` only if there is one."""
        own: dict[str, str | int] = {"what": self.what, "epoch": self.epoch, "batch": self.batch}
        return own if self.source is None else {**own, "source": str(self.source)}
