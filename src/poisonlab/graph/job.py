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
        stage: name of the rule and of the kind of work.
        program: the script below ``workflow/scripts``.
        inputs: paths by the option that names them; ``files`` are read without an option.
        outputs: one path by the option that names it.
        settings: the program's ``--spec``: sorted ``section.key=value`` strings.
        roots: modules that the program loads by name; its code digest covers these and all that they import.
        method: the attack's method, the architecture, or the like.
        options: further options, which do not change the result.
        watched: outside files on whose contents, not just times, the job depends.
        depends: further strings that the job depends on but does not receive.
        computes: whether the program uses a network, and so takes a device, threads and perhaps a GPU.
        saves: whether an interrupted job goes on from a checkpoint.
        piped: whether settings go through a pipe, because they can be too long for a command line.
        wildcards: those of its rule, by name; they tell the stage's jobs apart.
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
    wildcards: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its wildcards, separated by slashes; an empty one is left out."""
        return "/".join(str(value) for value in self.wildcards.values() if value != "")

    def command(self, python: str, scripts: str, options: Mapping[str, Sequence[str]]) -> str:
        """The shell command.

        Args:
            python: shell words that call the interpreter.
            scripts: folder of the programs.
            options: options on how the job runs, such as the device.
        """
        named = {name: paths for name, paths in self.inputs.items() if name != _UNTOLD and paths}
        given = {**named, **{name: [path] for name, path in self.outputs.items()}, **self.options, **options}
        arguments = [part for name, values in given.items() for part in (f"--{name}", *values)]
        program = f"{python} {shlex.quote(f'{scripts}/{self.program}')}"
        if self.piped:
            # NUL ends each setting, because no setting can hold it.
            return f"printf '%s\\0' {shlex.join(self.settings)} | {program} --spec - {shlex.join(arguments)}"
        return f"{program} --spec {shlex.join([*self.settings, *arguments])}"
