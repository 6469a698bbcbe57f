"""Draw figure 5c: how far the networks' output spreads around poisons and clean images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonlab.figures.output_std_plots import output_std_caption, output_std_figure
from poisonlab.figures.program import drawing, parser, read_arrays
from poisonlab.figures.style import save
from poisonlab.runtime.program import run, settings


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--std", type=Path, required=True, help="standard deviations (npz)")
    options = arguments.parse_args(argv)
    look = drawing(settings(options.spec))
    arrays = read_arrays(options.std, ("names", "magnitudes", "std", "draws"))
    names = [str(name) for name in arrays["names"].reshape(-1)]
    figure = output_std_figure(arrays["magnitudes"], names, arrays["std"])
    caption = output_std_caption(arrays["magnitudes"], names, arrays["std"], int(arrays["draws"]))
    save(figure, caption, options.pdf, options.png, options.caption, look.dpi)


if __name__ == "__main__":
    run(main)
