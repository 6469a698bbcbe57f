"""Draw figure 3: training loss of several victims around the poisons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonlab.commandline import run, settings
from poisonlab.figures.landscape_plots import victim_landscapes
from poisonlab.figures.program import drawing, parser, read_arrays
from poisonlab.figures.style import save


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--landscape", type=Path, required=True, help="losses of the victims (npz)")
    options = arguments.parse_args(argv)
    look = drawing(settings(options.spec))
    arrays = read_arrays(options.landscape, ("coordinates", "names", "loss"))
    names = [str(name) for name in arrays["names"].reshape(-1)]
    figure = victim_landscapes(arrays["coordinates"], names, arrays["loss"])
    save(figure, options.pdf, options.png, look.dpi)


if __name__ == "__main__":
    run(main)
