"""Make the committed tables of results/reference anew from the committed trials.

Run it after a change of tables, findings or notes, or after adding trials. It needs no images, and trains nothing.
results/reference/README.md lists the tables that stay as they were made.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from poisonlab.config.merging import merged_config
from poisonlab.errors import PoisonlabError, SettingsError
from poisonlab.graph.measured import COMMITTED
from poisonlab.runtime.program import run

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / COMMITTED
PARQUET = "config/overlays/cifar10-parquet.yaml"
PARQUET_MINI = "config/overlays/cifar10-parquet-mini.yaml"
PARQUET_KNN = "config/overlays/cifar10-parquet-deep-knn-mini.yaml"
JPEG = "The images are a copy of CIFAR-10, re-encoded as JPEG (quality 75)."


@dataclass(frozen=True)
class Run:
    """One folder of committed results.

    Attributes:
        configs: files of the study.
        also: other folders whose trials the tables need.
        settings: further settings, as ``--config`` takes them.
        kept: files that stay as they were made.
    """

    configs: tuple[str, ...]
    also: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


FAST = ("config/cifar10-fast.yaml", PARQUET)
EIGHT = f"seeds={list(range(10, 18))}"
RUNS = {
    "attacks-float32-cpu": Run(("config/attacks.yaml",), settings=(EIGHT,)),
    "attacks-transfer-noise-float32-cpu": Run(
        ("config/attacks.yaml", "config/overlays/transfer-noise.yaml"), also=("attacks-float32-cpu",), settings=(EIGHT,)
    ),
    "cifar10-fast-float32-cpu": Run(FAST, also=("cifar10-fast-cpu",)),
    "deep-knn-mini-cpu": Run(("config/deep-knn-mini.yaml", PARQUET_KNN)),
    "defenses-float32-cpu": Run(("config/defenses.yaml",)),
    "derivative-fast-float32-cpu": Run(
        (*FAST, "config/overlays/derivative-fast.yaml"),
        also=("cifar10-fast-cpu",),
        kept=("derivative-fast-matching-losses.md",),
    ),
    "derivative-float32-cpu": Run(
        ("config/derivative.yaml",),
        kept=("derivative-matching-losses.md", "derivative-matching-losses-seeds-10-to-15.md"),
    ),
    "derivative-victims-float32-cpu": Run(("config/derivative.yaml", "config/overlays/derivative-victims.yaml")),
    "digits-cpu": Run(
        ("config.yaml",), kept=("digits-landscape-poison.txt", "digits-landscape-victims.txt", "digits-output-std.txt")
    ),
    "digits-float32-cpu": Run(("config.yaml",), settings=(f"seeds={list(range(10, 28))}",)),
    "digits-strength-float32-cpu": Run(("config/overlays/strength.yaml",), also=("digits-float32-cpu",)),
    "learned-faster-digits-cpu": Run(("config/learned-faster-digits.yaml",)),
    "learned-faster-mini-cpu": Run(
        ("config/learned-faster-mini.yaml", PARQUET_MINI),
        kept=("learned-faster-mini-speed.txt", "learned-faster-mini-transfer.md"),
    ),
    "learned-faster-victims-cpu": Run(
        ("config/learned-faster-victims.yaml", PARQUET_MINI), also=("learned-faster-mini-cpu",)
    ),
}


def remake(folder: str, work: Path) -> list[str]:
    """Make the tables of a folder anew, in ``work``, and copy them. The names of those that changed."""
    run = RUNS[folder]
    files = [str(ROOT / name) for name in run.configs]
    described = merged_config(files, [])
    if any("parquet" in name for name in run.configs):
        described["description"] += f" {JPEG}"
    trials = [str(path) for name in (*run.also, folder) for path in sorted((REFERENCE / name).glob("*-trials.csv"))]
    study = described["study"]
    made = {
        path: f"results/tables/{path.name.replace(study, f'{study}-so-far', 1)}"
        for path in sorted((REFERENCE / folder).iterdir())
        if path.name not in run.kept and not path.name.endswith("-trials.csv")
    }
    words = [sys.executable, "-m", "snakemake", *made.values(), "--cores", "1", "--quiet", "all"]
    words += ["--snakefile", str(ROOT / "workflow/Snakefile"), "--directory", str(work), "--configfile", *files]
    words += ["--config", f"merge={json.dumps(trials)}", f"description={json.dumps(described['description'])}"]
    done = subprocess.run([*words, *run.settings], capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr.strip(), file=sys.stderr)
        raise PoisonlabError(f"{folder}: Snakemake cannot make its tables, for the reason above: correct it")
    changed = [path for path, new in made.items() if not same(path, work / new)]
    for path in changed:
        shutil.copyfile(work / made[path], path)
    return [path.relative_to(REFERENCE).as_posix() for path in changed]


def same(one: Path, other: Path) -> bool:
    """Whether two tables are equal. Processors round the last digits of CSV files differently."""
    if one.suffix != ".csv":
        return one.read_bytes() == other.read_bytes()
    try:
        pd.testing.assert_frame_equal(pd.read_csv(one), pd.read_csv(other), rtol=1e-9)
    except AssertionError:
        return False
    return True


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "folders", nargs="*", metavar="FOLDER", help=f"all without one, or some of: {', '.join(RUNS)}"
    )
    args = arguments.parse_args(argv)
    for folder in args.folders:
        if folder not in RUNS:
            raise SettingsError(f"{folder} has no tables to make anew: name one of {', '.join(RUNS)}")
    for folder in args.folders or RUNS:
        with tempfile.TemporaryDirectory() as work:
            for name in remake(folder, Path(work)):
                print(f"changed: {name}", flush=True)


if __name__ == "__main__":
    run(main)
