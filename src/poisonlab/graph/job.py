"""A job: one call of one program."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_UNTOLD = "files"


@dataclass(frozen=True)
class Job:
    """One call of a stage program.

    Attributes:
        stage: the rule, and the kind of work.
        program: the script below ``workflow/scripts``.
        inputs: paths by the option that names them; those under ``files`` are read although no option names them.
        outputs: one path by the option that names it.
        settings: what the program is told with ``--spec``: ``section.key=value`` strings, sorted.
        roots: the modules that the program loads by name; the digest of its code covers these and all they import.
        method: what does the work, such as an attack's method or an architecture.
        options: further options; no other result comes of them.
        watched: files from outside whose contents the job depends on, and not just on their times.
        depends: strings that the job depends on besides settings and code, and is not told.
        computes: whether the program uses a network, and so takes a device, threads and perhaps a GPU.
        saves: whether it can be interrupted and goes on from a checkpoint.
        piped: whether settings go through a pipe, because a study can have more than a command line may.
        name: its wildcards, parted by slashes.
    """

    stage: str
    program: str
    inputs: Mapping[str, Sequence[str]]
    outputs: Mapping[str, str]
    settings: Sequence[str]
    roots: tuple[str, ...] = ()
    method: str = ""
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)
    watched: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    computes: bool = False
    saves: bool = False
    piped: bool = False
    name: str = ""

    def command(self, python: str, scripts: str, options: Mapping[str, Sequence[str]]) -> str:
        """The shell command.

        Args:
            python: shell words that call the interpreter.
            scripts: folder of the programs.
            options: how the job runs rather than what it computes, such as the device.
        """
        named = {name: paths for name, paths in self.inputs.items() if name != _UNTOLD and paths}
        given = {**named, **{name: [path] for name, path in self.outputs.items()}, **self.options, **options}
        arguments = [part for name, values in given.items() for part in (f"--{name}", *values)]
        program = f"{python} {shlex.quote(f'{scripts}/{self.program}')}"
        if self.piped:
            # NUL ends each, as it can stand in none.
            return f"printf '%s\\0' {shlex.join(self.settings)} | {program} --spec - {shlex.join(arguments)}"
        return f"{program} --spec {shlex.join([*self.settings, *arguments])}"
