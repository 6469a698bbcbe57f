"""Make friendly noise for the training images of a dataset, for training programs of your own.

A small network makes the noise; it is trained for a few epochs, unless weights are given. The file holds the noise by
row and, if images are files, by name. poisonlab.FriendlyDataset adds the noise to the images. Repeat an interrupted
call to resume it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from poisonlab.config.class_folders import other_order
from poisonlab.config.data.image_folder import BESIDE_A_PATH, ImageFolder
from poisonlab.config.explaining import explained
from poisonlab.config.files import check_config_file
from poisonlab.config.own_code import source_of
from poisonlab.config.protection import Protection
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.source_at import source_at, with_folder_keys
from poisonlab.determinism import prepare_torch
from poisonlab.errors import SettingsError
from poisonlab.evaluation.fitting import has_learned, largest_share
from poisonlab.files import read_text
from poisonlab.modules import module_name, roots
from poisonlab.pipelines.noise_file import save_noise
from poisonlab.pipelines.protection import protect
from poisonlab.pipelines.reading import read_images
from poisonlab.provenance import code_digests, spec
from poisonlab.runtime.program import run
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.job import job_checkpoint


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", help="folder or file of images and labels; its format is recognised")
    arguments.add_argument("--size", type=_whole("SIZE"), help="resize the images of a folder to size x size")
    arguments.add_argument("--configfile", type=Path, help="settings (.yaml): docs/defend-my-pipeline.md has the keys")
    arguments.add_argument("--out", type=Path, required=True, help="output: the noise (.safetensors)")
    arguments.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments.add_argument(
        "--threads",
        type=_whole("THREADS"),
        default=len(os.sched_getaffinity(0)),
        help="CPU threads (default: all cores)",
    )
    arguments.add_argument("--checkpoint-seconds", type=float, default=120.0, help="seconds between two saves")
    args = arguments.parse_args(argv)
    if args.threads < 1:
        raise SettingsError(f"THREADS={args.threads}: take 1 or more")
    _check_writable(args.out)
    settings = _settings(args.configfile, args.data, args.size)
    device = prepare_torch(args.device, args.threads)
    assert settings.dataset is not None
    dataset, names = read_images(settings.dataset)
    shape = " x ".join(map(str, dataset.image_shape))
    print(f"{len(dataset.train_labels):,} images of {shape}, {dataset.num_classes} classes ({settings.dataset.source})")
    checkpoint = _checkpoint(args, settings, dataset)
    noise, facts = protect(dataset, settings, device=device, checkpoint=checkpoint, progress=True)
    told = {"class_names": list(dataset.class_names), "settings": settings.told("dataset", "weights"), **facts}
    save_noise(args.out, noise, names, told, dataset.train_images)
    checkpoint.clear()
    if not has_learned(facts["fitted"], dataset.train_labels):
        print(
            f"warning: the network gives only {facts['fitted']:.0%} of the images their label, and the largest class "
            f"has {largest_share(dataset.train_labels):.0%}, so that its noise says little: {_cure(settings, dataset)}",
            file=sys.stderr,
        )
    print(
        f"{args.out}: noise of {facts['mean_levels']:.1f} levels on average, {facts['saturated']:.0%} of it at the "
        f"bound of {settings.friendly.zeta:g}; {facts['unchanged']:.1%} of the network's predictions are unchanged"
    )


def _whole(name: str) -> Callable[[str], int]:
    """A reader of whole numbers whose error is one line; the errors of argparse would also print its usage."""

    def read(text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise SettingsError(f"{name}={text}: give a whole number") from None

    return read


def _cure(settings: Protection, dataset: ImageDataset) -> str:
    """How to make the network fit the images better."""
    if settings.weights is None:
        return "raise friendly.def_epoch, and recipe.epochs with it, or choose another model"
    order = None
    if isinstance(settings.dataset, ImageFolder):
        order = other_order(dataset.class_names, settings.dataset.class_order)
    otherwise = f", or set class_order: {order} if they were trained with the classes in that order" if order else ""
    return f"give weights that fit them{otherwise}"


def _check_writable(out: Path) -> None:
    """Check that noise can be written, before the hours that it may take.

    Raises:
        SettingsError: ``out`` cannot be written.
    """
    if out.is_dir():
        raise SettingsError(f"{out} is a folder: name the file to write, such as OUT=noise.safetensors")
    if out.suffix != ".safetensors":
        raise SettingsError(f"{out} must end in .safetensors, the format of the noise: choose another name for OUT")
    folder = out.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise SettingsError(f"{folder} cannot be written: make it writable, or name another place for OUT")


def _checkpoint(args: argparse.Namespace, settings: Protection, dataset: ImageDataset) -> Checkpoint:
    """The checkpoint of a call with these images, settings and code, beside its output."""
    images = hashlib.sha256(dataset.train_images.contiguous().numpy().data)
    images.update(dataset.train_labels.contiguous().numpy().data)
    methods = [*roots("models", settings.model.name), module_name("training", settings.recipe.optimizer)]
    if settings.random is not None:
        methods += roots("defenses", settings.random.method)
    # Of the dataset's settings, only the normalisation acts besides the images.
    used = {"images": images.hexdigest(), "mean": dataset.mean, "std": dataset.std}
    args.spec = spec(protection=settings.told("dataset"), **used)
    args.code = code_digests("workflow/scripts/protect.py", *methods)
    args.capture = "auto"
    args.checkpoint = args.out.with_name(f"{args.out.stem}.unfinished.safetensors")
    return job_checkpoint(args, _own_files(settings))


def _own_files(settings: Protection) -> list[Path]:
    """The weights and source files of the user's own network; a missing file is reported when it is needed."""
    network = () if settings.network is None else source_of(settings.network)
    weights = () if settings.weights is None else (settings.weights,)
    return [Path(file) for file in (*weights, *network) if Path(file).is_file()]


def _settings(configfile: Path | None, data: str | None, size: int | None) -> Protection:
    """The settings of a file; ``data`` and ``size`` override its own. The format of the images is recognised.

    Raises:
        SettingsError: one line that names the file and the first problem.
    """
    values: Any = {}
    if configfile is not None:
        if not configfile.is_file():
            raise SettingsError(f"{configfile} is missing: correct the path of the settings")
        check_config_file(configfile)
        try:
            values = yaml.safe_load(read_text(configfile)) or {}
        except yaml.YAMLError as error:
            raise SettingsError(f"{configfile} is no YAML: {error}") from error
        if not isinstance(values, dict):
            raise SettingsError(f"{configfile} must hold keys and values, such as seed: 1")
    named, keys = values.pop("data", None), {name: values.pop(name, None) for name in BESIDE_A_PATH}
    data = named if data is None else data
    keys["size"] = keys["size"] if size is None else size
    if (data is None) == (values.get("dataset") is None):
        raise SettingsError("name the images once: DATA=folder-or-file, or data: or dataset: in the settings file")
    if data is not None:
        values["dataset"] = source_at(Path(str(data)).expanduser()).told()
    values["dataset"] = with_folder_keys(values["dataset"], keys)
    try:
        return Protection.model_validate(values)
    except ValidationError as error:
        raise explained(error, Protection, str(configfile or "settings"), ("data", *BESIDE_A_PATH)) from error


if __name__ == "__main__":
    run(main)
