"""Draw one ablation: success and accuracy against the settings that vary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonlab.figures.ablation import ablation, ablation_caption, read_ablation
from poisonlab.figures.program import drawing, parser
from poisonlab.figures.style import save
from poisonlab.runtime.program import run, settings


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--table", type=Path, required=True, help="the ablation's table (CSV)")
    options = arguments.parse_args(argv)
    look = drawing(settings(options.spec))
    table, varied = read_ablation(options.table)
    caption = ablation_caption(table, varied)
    save(ablation(table, varied), caption, options.pdf, options.png, options.caption, look.dpi)


if __name__ == "__main__":
    run(main)
