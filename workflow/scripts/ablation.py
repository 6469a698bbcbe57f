"""Make the table of one ablation: a defense or an attack with some of its settings varied."""

from __future__ import annotations

from collections.abc import Sequence

from poisonlab.config.stages import read_stage
from poisonlab.evaluation.ablation_layout import AblationTable, compare_variants, exchanged, readable_variants
from poisonlab.evaluation.choosing import choose_trials, diverged, missing, refusal
from poisonlab.evaluation.findings import ablation_changes, ablation_finding
from poisonlab.evaluation.layouts import write_table
from poisonlab.evaluation.table_program import parser
from poisonlab.runtime.program import run, settings

_OF_ROWS = (
    "Measures, intervals and tests as in the study's table. p: paired test against the study's own row on the same "
    "poisons, Holm-corrected over the attack's other rows."
)
_OF_ATTACKS = (
    "Measures, intervals and tests as in the study's table. p: paired test against the study's own attack on the same "
    "seeds, Holm-corrected over the row's other attacks. Settings that decide targets or bases, such as budget and "
    "surrogate, leave a pair no more than its seed in common."
)


def main(argv: Sequence[str]) -> None:
    args = parser(__doc__).parse_args(argv)
    stage = read_stage(AblationTable, settings(args.spec))

    trials, refused, contradicted = choose_trials(stage, args.trials)
    of_attack = stage.attack is not None
    lines, told = stage, trials
    if of_attack:
        lines, told = exchanged(stage, trials)
    base = str(stage.attack or stage.defense)
    compared = compare_variants(told, lines, stage.variants, base, stage.settings)
    undefended = lines.compare[0] if lines.compare else None
    what = f"Attack {base}" if of_attack else f"{stage.method} of row {base}"
    notes = [
        stage.title or f"{what} with other {' and '.join(stage.settings)}.",
        stage.description,
        *stage.scale,
        _OF_ATTACKS if of_attack else _OF_ROWS,
        *diverged(trials),
        *missing(stage.lines, trials),
        *map(refusal, refused),
        *contradicted,
    ]
    own_line = "attack" if of_attack else "row"
    findings = [
        *ablation_finding(compared, lines.by_attack, stage.settings, undefended, own_line),
        *ablation_changes(compared, lines.by_attack, stage.settings, own_line),
    ]
    table = readable_variants(compared, lines.by_attack, stage.settings, undefended)
    cells = zip(compared["attack"], compared["victim"], compared["row"], strict=True)
    counted = [[cell[::-1] if of_attack else cell] for cell in cells]
    numbers = compared.rename(columns={"attack": "defense", "row": "attack"}) if of_attack else compared
    write_table(vars(args), numbers, table, findings, notes, counted)


if __name__ == "__main__":
    run(main)
