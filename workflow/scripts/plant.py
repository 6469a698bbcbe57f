"""Craft a number of one attack's poisons, rather than a share of the data, so that data of any size can hold them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import craft
from poisonlab.artifacts.dataset import read_dataset
from poisonlab.config.stages import read_stage
from poisonlab.config.types import PositiveInt, Settings
from poisonlab.errors import SettingsError
from poisonlab.provenance import spec
from poisonlab.runtime.program import run, settings
from poisonlab.scanning.amounts import usual_poisons


class Planting(Settings):
    """How many poisons."""

    poisons: PositiveInt | None = None


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, add_help=False, allow_abbrev=False)
    arguments.add_argument("--spec", nargs="+", required=True)
    arguments.add_argument("--dataset", type=Path, required=True)
    args, others = arguments.parse_known_args(argv)
    values = settings(args.spec)
    planting = read_stage(Planting, values.pop("planted", {}))
    labels = read_dataset(args.dataset).train_labels
    count = planting.poisons or usual_poisons(labels)
    if count > len(labels):
        raise SettingsError(f"poisons: {count} cannot be planted in {len(labels)} training images: plant fewer")
    values["attack"]["budget"] = count / len(labels)
    craft_by = ["--dataset", str(args.dataset), *others]
    try:
        craft.main(["--spec", *spec(**values), *craft_by])
    except SettingsError as error:
        if values["attack"].get("target") != "recognised":
            raise
        # A weak network may recognise no image of the drawn class. Any other error is raised again below.
        print(f"{error}; so the target is an image that it does not recognise", flush=True)
        values["attack"]["target"] = "random"
        craft.main(["--spec", *spec(**values), *craft_by])


if __name__ == "__main__":
    run(main)
