"""Say how much work a study is, stage by stage, and how long it takes one device, from measured rates.

The work is counted from the settings (poisonlab.cost), nothing is run. Rates are those of benchmarks/rates.csv, to
which benchmarks/rates.py adds a device. Jobs are taken one after another; their start-up is not counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from poisonlab.config.merging import add_config_arguments, merged_config
from poisonlab.config.study import Study, read_study
from poisonlab.cost.amount import total
from poisonlab.cost.rates import Device, read_rates
from poisonlab.cost.sizes import sizes_of
from poisonlab.cost.stages import Stage, stages_of
from poisonlab.files import write_json
from poisonlab.runtime.program import run


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(arguments)
    arguments.add_argument("--rates", type=Path, default=Path("benchmarks/rates.csv"), help="measured rates (.csv)")
    arguments.add_argument("--json", type=Path, help="also write the numbers to this file")
    args = arguments.parse_args(argv)
    study = read_study(merged_config(args.configfile, args.config))
    devices = read_rates(args.rates)
    stages = stages_of(study, sizes_of(study.dataset))
    stages.append(Stage("total", sum(stage.jobs for stage in stages), total(stage.work for stage in stages)))
    print(table(stages, devices), end="\n\n")
    print("\n".join(notes(study, stages[-1], devices)))
    if args.json is not None:
        write_json(args.json, as_json(study, stages, devices))


def table(stages: Sequence[Stage], devices: Sequence[Device]) -> str:
    """A line per stage in Markdown: jobs, work, hours on each device."""
    lines = [
        [stage.name, str(stage.jobs), short(stage.work.flops / 1e15)]
        + [short(device.hours(stage.work)) for device in devices]
        for stage in stages
    ]
    columns = ["stage", "jobs", "PFLOP", *(f"hours: {device.name}" for device in devices)]
    aligned = ["left", *["right"] * (len(columns) - 1)]
    return str(pd.DataFrame(lines, columns=columns).to_markdown(index=False, disable_numparse=True, colalign=aligned))


def short(value: float) -> str:
    """Three significant digits; an exponent only for what is tiny."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def notes(study: Study, everything: Stage, devices: Sequence[Device]) -> list[str]:
    """Where the rates are from, which stand in for others, and what the numbers leave out."""
    recipes = [*(each.recipe for each in study.surrogates), *(each.recipe for each in study.victims)]
    asked = ", ".join(sorted({recipe.precision for recipe in recipes}))
    lines = [
        f"The study trains in {asked}. Jobs one after another; their start-up, a few seconds each, is not counted."
    ]
    if study.merge:
        lines.append("Trials under `merge` are not subtracted: victims that they answer for are counted.")
    lines += [
        f"{device.name}: {rate.kind} on {rate.network} at {rate.tflops:g} TFLOP/s ({rate.source})"
        for device in devices
        for rate in device.rates
    ]
    return lines + [line for device in devices for line in device.stand_ins(everything.work)]


def as_json(study: Study, stages: Sequence[Stage], devices: Sequence[Device]) -> dict[str, Any]:
    """The table and its notes as plain values; the last stage is the total."""
    return {
        "study": study.study,
        "stages": [
            {
                "stage": stage.name,
                "jobs": stage.jobs,
                "pflop": stage.work.flops / 1e15,
                "hours": {device.name: device.hours(stage.work) for device in devices},
            }
            for stage in stages
        ],
        "notes": notes(study, stages[-1], devices),
    }


if __name__ == "__main__":
    run(main)
