"""The one exception type a user of poisonlab is meant to read."""

_LONGEST = 3000


class PoisonlabError(Exception):
    """A problem the user can cure.

    The message is one line: what is wrong, where, and how to cure it. Command-line programs print it without a
    traceback and exit with status 2. Whatever a message quotes from a file, it stays one line that a terminal can show.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        if not line.isprintable():
            line = "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in line)
        # The cure stands at the end.
        half = _LONGEST // 2
        super().__init__(line if len(line) <= _LONGEST else f"{line[:half]} ... {line[-half:]}")


class DataError(PoisonlabError):
    """A dataset or artifact is missing, truncated, corrupt or of the wrong shape."""


class SettingsError(PoisonlabError):
    """A setting is unknown, mistyped or impossible."""
