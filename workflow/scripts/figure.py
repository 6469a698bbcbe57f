"""Draw one figure: a PDF, a PNG, and a caption with its findings in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonlab.config.stages import read_stage
from poisonlab.figures.style import save
from poisonlab.modules import load
from poisonlab.runtime.program import run, settings, spec_parser

FIGURES = (
    *("examples", "landscape-poison", "landscape-victims", "output-std"),
    *("noise-histogram", "learning-curves", "outcome", "ablation"),
    *("scatter", "perturbations", "poison-curves"),
    *("by-victim", "projection", "layer-distances", "filtered-images"),
)


def main(argv: Sequence[str]) -> None:
    arguments = spec_parser(__doc__)
    arguments.add_argument("--figure", choices=FIGURES, required=True, help="module of poisonlab.figures that draws it")
    arguments.add_argument("--from", dest="inputs", nargs="+", required=True, metavar="INPUT=PATH", help="its inputs")
    for kind in ("pdf", "png", "caption"):
        arguments.add_argument(f"--{kind}", type=Path, required=True, help="output")
    args = arguments.parse_args(argv)
    module = load("figures", args.figure)
    spec = read_stage(module.Spec, settings(args.spec))
    figure, caption = module.draw(inputs_of(args.inputs), spec)
    save(figure, caption, args.pdf, args.png, args.caption, spec.drawing.dpi)


def inputs_of(named: Sequence[str]) -> dict[str, list[Path]]:
    """The input files by name; several files may have the same name."""
    inputs: dict[str, list[Path]] = {}
    for each in named:
        name, _, path = each.partition("=")
        inputs.setdefault(name, []).append(Path(path))
    return inputs


if __name__ == "__main__":
    run(main)
