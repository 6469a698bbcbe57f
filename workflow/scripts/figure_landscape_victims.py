"""Draw figure 3: training loss of several victims around the poisons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonlab.figures.landscape_captions import victim_landscapes_caption
from poisonlab.figures.landscape_plots import victim_landscapes
from poisonlab.figures.program import drawing, parser, read_arrays
from poisonlab.figures.style import save
from poisonlab.runtime.program import run, settings


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--landscape", type=Path, required=True, help="losses of the victims (npz)")
    options = arguments.parse_args(argv)
    look = drawing(settings(options.spec))
    arrays = read_arrays(options.landscape, ("coordinates", "names", "loss", "at_poisons", "directions"))
    names = [str(name) for name in arrays["names"].reshape(-1)]
    coordinates, loss, directions = arrays["coordinates"], arrays["loss"], str(arrays["directions"])
    figure = victim_landscapes(coordinates, names, loss, directions)
    caption = victim_landscapes_caption(coordinates, names, loss, arrays["at_poisons"], directions)
    save(figure, caption, options.pdf, options.png, options.caption, look.dpi)


if __name__ == "__main__":
    run(main)
