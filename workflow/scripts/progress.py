"""Show how far a study or scan is: jobs done, running and failed, hours left, and the last errors of logs.

Only files are read, so the study may run meanwhile, here or on a cluster that shares the file system. Call this program
in the folder in which Snakemake was called.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import time
from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from poisonlab.config.merging import add_config_arguments, checkout, merged_config
from poisonlab.config.scan import Scan
from poisonlab.config.study import Study
from poisonlab.errors import SettingsError
from poisonlab.evaluation.seconds import Measured
from poisonlab.graph.graph import Graph
from poisonlab.graph.measured import measured
from poisonlab.graph.progress import Left, Standing, State, bar, left, look
from poisonlab.graph.records import Records
from poisonlab.graph.scanning import read_config
from poisonlab.runtime.program import run

MOST = 10
"""Largest number of running jobs, and of failed jobs, that are named."""
_STYLES = {State.DONE: "green", State.RUNNING: "cyan", State.FAILED: "bold red", State.STOPPED: "yellow"}
_QUIET = 600
"""Seconds without output after which a log is reported as silent."""


class Watch:
    """Repeated looks at one study or scan.

    Args:
        study: the study, whose paths are relative to the working folder.
        scan: the scan that the study belongs to, if any.
    """

    def __init__(self, study: Study, scan: Scan | None = None) -> None:
        self._study, self._scan = study, scan
        self._graph = Graph(study, checkout(), scan)
        self._graph.check()
        self._jobs = self._graph.all_jobs()
        self._records = Records()
        self._ran: list[Measured] = []
        self._read_at = -1

    def look(self, now: float) -> tuple[list[Standing], Left]:
        """The state of every job, and the time that the jobs left will take.

        Args:
            now: seconds since the epoch.

        Raises:
            DataError: a run card is damaged.
        """
        found = look(self._graph, self._jobs, self._records)
        # Run cards come with results, so they are read again only if there are new results.
        done = sum(each.state is State.DONE for each in found)
        if done != self._read_at:
            self._ran, self._read_at = list(measured(self._study, self._scan, self._jobs)), done
        return found, left(found, self._ran, self._study.study, now)

    def page(self) -> tuple[RenderableType, bool]:
        """The page to show now, and whether every job is done."""
        now = time.time()
        found, rest = self.look(now)
        diverged = sum(job.diverged for job in self._ran if job.study == self._study.study)
        return page(self._graph.name, found, rest, diverged, now), all(each.state is State.DONE for each in found)


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(arguments)
    arguments.add_argument("--watch", action="store_true", help="stay and look again, until all is done or Control-C")
    arguments.add_argument("--every", type=float, default=5.0, help="seconds between two looks (default: 5)")
    args = arguments.parse_args(argv)
    if not 0.1 <= args.every <= 3600:
        raise SettingsError(f"--every {args.every:g}: choose 0.1 to 3600 seconds")
    console = Console()
    if args.watch and not console.is_terminal:
        raise SettingsError("--watch (WATCH=1) needs a terminal: leave it out to print the state once")
    watch = Watch(*read_config(merged_config(args.configfile, args.config)))
    shown, done = watch.page()
    if not args.watch:
        console.print(shown)
        return
    with contextlib.suppress(KeyboardInterrupt), Live(shown, console=console, auto_refresh=False) as live:
        while not done:
            time.sleep(args.every)
            shown, done = watch.page()
            live.update(shown, refresh=True)


def page(study: str, found: Sequence[Standing], rest: Left, diverged: int, now: float) -> Group:
    """The whole state of a study or scan.

    Args:
        study: its name.
        found: every job.
        rest: the time that the jobs left will take.
        diverged: jobs that are done without a result, because their training diverged.
        now: seconds since the epoch.
    """
    parts: list[RenderableType] = [summary(study, found, rest)]
    parts += failed([each for each in found if each.state is State.FAILED])
    parts += running([each for each in found if each.state is State.RUNNING], now)
    # Last, because the terminal's lower edge cuts off a live view.
    parts += [Text(), stages(found, rest), *(Text(note, style="dim") for note in notes(found, rest, diverged))]
    return Group(*parts)


def summary(study: str, found: Sequence[Standing], rest: Left) -> Text:
    """The counts of all states and the hours left in one line."""
    counts = {state: sum(each.state is state for each in found) for state in State}
    text = Text(f"{study}: {counts[State.DONE]:,} of {len(found):,} jobs done")
    for state in (State.RUNNING, State.SUBMITTED, State.FAILED, State.STOPPED, State.WAITING):
        if counts[state] or state in (State.RUNNING, State.FAILED):
            text.append(f", {counts[state]:,} {state}", _STYLES.get(state, "") if counts[state] else "")
    if counts[State.DONE] < len(found):
        unknown = "nothing like the jobs left has been measured"
        hours = unknown if math.isnan(rest.hours) else f"{short(rest.hours)} left, {rest.at_once} at a time"
        text.append(f"; {hours}")
    return text.append(".")


def stages(found: Sequence[Standing], rest: Left) -> Table:
    """A row per stage."""
    shown = [state for state in State if any(each.state is state for each in found) or state is not State.SUBMITTED]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage")
    for name in ("jobs", *shown, "work left"):
        table.add_column(name, justify="right")
    for stage in dict.fromkeys(each.job.stage for each in found):
        own = [each.state for each in found if each.job.stage == stage]
        cells = [Text(f"{own.count(state):,}", _STYLES.get(state, "")) if state in own else "" for state in shown]
        table.add_row(stage, f"{len(own):,}", *cells, short(rest.work[stage]) if stage in rest.work else "")
    return table


def notes(found: Sequence[Standing], rest: Left, diverged: int) -> list[str]:
    """Notes on how to read the numbers, one sentence each."""
    stale = sum(each.stale for each in found)
    stopped = any(each.state is State.STOPPED for each in found)
    said = [
        f"Seconds are medians on {rest.device}." if rest.work and rest.device else "",
        f"Not in the hours: {rest.unmeasured:,} jobs like none that ran." if rest.unmeasured else "",
        f"{stale:,} of those that wait have results of other settings or code (make verify)." if stale else "",
        "Stopped: begun, but without results or error: interrupted, killed, or deleted later." if stopped else "",
        f"{diverged:,} jobs are done without a result, because their training diverged." if diverged else "",
    ]
    return [note for note in said if note]


def running(found: Sequence[Standing], now: float) -> list[RenderableType]:
    """The running jobs with their progress, the longest first; nothing if there are none."""
    if not found:
        return []
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="running", title_justify="left")
    table.add_column("job", overflow="fold")
    table.add_column("since", justify="right", no_wrap=True)
    table.add_column("progress", overflow="fold")
    for each in sorted(found, key=lambda one: one.since or now)[:MOST]:
        silent = now - (each.heard or now)
        said = bar(each.said) or "starting"
        quiet = f" (log silent for {spoken(silent)})" if silent > _QUIET else ""
        table.add_row(Text(named(each)), spoken(now - (each.since or now)), Text(said + quiet))
    return [Text(), table, *more(len(found) - MOST)]


def failed(found: Sequence[Standing]) -> list[RenderableType]:
    """The error of each failed job in one line, the newest first; nothing if there are none."""
    if not found:
        return []
    newest = sorted(found, key=lambda one: one.heard or 0, reverse=True)[:MOST]
    lines = [Text.assemble((named(each), "bold"), f": {each.said}", f" ({each.log})") for each in newest]
    return [Text("\nfailed, the newest first", style="bold red"), *lines, *more(len(found) - MOST)]


def more(count: int) -> list[RenderableType]:
    return [Text(f"and {count:,} more", style="dim")] if count > 0 else []


def named(each: Standing) -> str:
    return f"{each.job.stage} {each.job.name}".rstrip()


def short(hours: float) -> str:
    """Hours with two significant digits below ten, or whole minutes."""
    if hours < 1:
        return f"{math.ceil(60 * hours)} min"
    return f"{hours:,.0f} h" if hours >= 10 else f"{hours:.1f} h"


def spoken(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02} h" if hours else f"{minutes}:{whole % 60:02} min"


if __name__ == "__main__":
    run(main)
