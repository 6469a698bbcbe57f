"""Draw the victims' training loss, test accuracy and adversarial confidence by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonlab.errors import SettingsError
from poisonlab.figures.learning_curves import learning_curves, learning_curves_caption, read_history
from poisonlab.figures.program import drawing, parser
from poisonlab.figures.style import save
from poisonlab.runtime.program import run, settings


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--metrics", type=Path, nargs="+", required=True, help="metrics of the victims (JSON)")
    options = arguments.parse_args(argv)
    sections = settings(options.spec)
    look = drawing(sections)
    def_epoch = sections.get("def_epoch")
    if def_epoch is not None and (type(def_epoch) is not int or def_epoch < 0):
        raise SettingsError(f"def_epoch must be a whole number from 0 up, not {def_epoch!r}")
    histories = [history for path in options.metrics if (history := read_history(path)) is not None]
    figure, caption = learning_curves(histories, def_epoch), learning_curves_caption(histories, def_epoch)
    if diverged := len(options.metrics) - len(histories):
        caption += f" Left out: {diverged} of {len(options.metrics)} victims, whose training diverged."
    save(figure, caption, options.pdf, options.png, options.caption, look.dpi)


if __name__ == "__main__":
    run(main)
