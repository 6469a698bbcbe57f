"""Draw figure 2: matching loss and training loss around one poison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonlab.figures.landscape_captions import poison_landscape_caption
from poisonlab.figures.landscape_plots import poison_landscape
from poisonlab.figures.program import drawing, parser, read_arrays
from poisonlab.figures.style import save
from poisonlab.runtime.program import run, settings


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--landscape", type=Path, required=True, help="losses around a poison (npz)")
    options = arguments.parse_args(argv)
    look = drawing(settings(options.spec))
    drawn = read_arrays(options.landscape, ("coordinates", "matching_loss", "training_loss"))
    figure = poison_landscape(**drawn, **read_arrays(options.landscape, ("poison",)))
    caption = poison_landscape_caption(**drawn, **read_arrays(options.landscape, ("matching_at", "training_at")))
    save(figure, caption, options.pdf, options.png, options.caption, look.dpi)


if __name__ == "__main__":
    run(main)
