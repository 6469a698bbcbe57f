"""Draw poison success and test accuracy of every defense, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonlab.figures.outcome import outcome, outcome_caption, read_results
from poisonlab.figures.program import drawing, parser
from poisonlab.figures.style import save
from poisonlab.runtime.program import run, settings


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--table", type=Path, required=True, help="tidy results (CSV)")
    options = arguments.parse_args(argv)
    look = drawing(settings(options.spec))
    table = read_results(options.table)
    save(outcome(table), outcome_caption(table), options.pdf, options.png, options.caption, look.dpi)


if __name__ == "__main__":
    run(main)
