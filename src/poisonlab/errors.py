"""The one exception type a user of poisonlab is meant to read."""


class PoisonlabError(Exception):
    """A problem the user can cure.

    The message is one line: what is wrong, where, and how to cure it. Command-line programs print it without a
    traceback and exit with status 2.
    """


class DataError(PoisonlabError):
    """A dataset or artifact is missing, truncated, corrupt or of the wrong shape."""


class SettingsError(PoisonlabError):
    """A setting is unknown, mistyped or impossible."""
