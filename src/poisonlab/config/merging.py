"""Merging of config files, for the Snakefile and for programs outside the workflow."""

from __future__ import annotations

import argparse
import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from poisonlab.config.files import check_config_file
from poisonlab.errors import SettingsError

DEFAULT_CONFIG = "config.yaml"
_OF_A_WHOLE_STUDY = {"study", "dataset", "attacks", "victims"}


def checkout() -> str:
    """The repository's folder, relative to the current one: ``.`` in a checkout, else the one that holds this
    package."""
    return "." if Path("src/poisonlab").is_dir() else os.path.relpath(Path(__file__).resolve().parents[3])


def add_config_arguments(arguments: argparse.ArgumentParser) -> None:
    """Add ``--configfile`` and ``--config``."""
    arguments.add_argument("--configfile", nargs="+", default=[], help="config files (default: config.yaml)")
    arguments.add_argument("--config", nargs="+", default=[], help="key=value entries")


def is_scan(config: Mapping[str, Any]) -> bool:
    """Whether a config describes a scan rather than a study."""
    return "scan" in config or "data" in config


def stands_alone(config: Mapping[str, Any]) -> bool:
    """Whether a config is a complete study or a scan; any other is laid over ``config.yaml``."""
    return is_scan(config) or config.keys() >= _OF_A_WHOLE_STUDY


def over_default(config: Mapping[str, Any], given: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` without what the default study says about its own data, if ``given`` names another source.

    Args:
        config: ``given`` laid over ``default``.
        given: what the user gave.
        default: ``config.yaml``.

    Raises:
        SettingsError: data of another source would go by the default study's name.
    """
    own, usual = given.get("dataset"), default.get("dataset")
    if not isinstance(own, Mapping) or not isinstance(usual, Mapping):
        return dict(config)
    if "source" not in own or own["source"] == usual.get("source"):
        return dict(config)
    if given.get("study") is None:
        raise SettingsError(
            f"config: these data would go by the name of the default study, {default.get('study')!r}: add a name of "
            "their own, such as study: my-data (or scan: my-data, to scan them)"
        )
    # Left out: the default study's description of its data, and the numbers published for CIFAR-10.
    kept = {name: value for name, value in config.items() if name not in ("description", "paper") or name in given}
    for name in {"attacks", "defenses"} & (config.keys() - given.keys()) if "paper" not in given else ():
        kept[name] = [{key: value for key, value in each.items() if key != "published"} for each in config[name]]
    return kept


def taken_over(given: Mapping[str, Any]) -> str:
    """A line for the user: which keys the default study supplies to a config laid over it."""
    parts = [name for name in ("dataset", "surrogates", "attacks", "victims", "defenses", "seeds") if name not in given]
    return f"laid over {DEFAULT_CONFIG}, which gives {', '.join(parts) or 'the figures'}"


def merged_config(files: Sequence[str], entries: Sequence[str]) -> dict[str, Any]:
    """The config that Snakemake makes of these arguments, laid over ``config.yaml`` unless they are complete.

    Raises:
        SettingsError: a file is missing or holds no mapping, a complete study is not the first file, an entry is not
            ``key=value``, or data of another source would keep the default study's name.
    """
    # Imported here, because this import takes longer than all the rest.
    from snakemake.cli import parse_config
    from snakemake.common.configfile import load_configfile
    from snakemake.exceptions import WorkflowError

    try:
        for file in files:
            check_config_file(Path(file))
        check_order(files)
        layers = [*map(_loaded, files), parse_config(entries)]
        given = laid_over(layers)
        if stands_alone(given):
            return given
        default = load_configfile(os.path.normpath(f"{checkout()}/{DEFAULT_CONFIG}"))
        return over_default(laid_over([default, *layers]), given, default)
    except OSError as error:
        raise SettingsError(f"config: {error.filename}: {error.strerror}") from error
    except (WorkflowError, ValueError) as error:
        raise SettingsError(f"config: {' '.join(str(error).split())}") from error


def check_order(files: Sequence[str]) -> None:
    """Refuse a complete study after other files, most of which it would replace without a word.

    Raises:
        SettingsError: one line that names the study.
    """
    for file in files[1:]:
        if _loaded(file).keys() >= _OF_A_WHOLE_STUDY:
            raise SettingsError(
                f"config: {file} is a complete study: name it first or alone, because it replaces {files[0]}"
            )


def _loaded(file: str) -> Any:
    """A config file as Snakemake reads it; errors name the file."""
    from snakemake.common.configfile import load_configfile
    from snakemake.exceptions import WorkflowError

    try:
        return load_configfile(file)
    except UnicodeDecodeError as error:
        raise SettingsError(f"config: {file} is no text in UTF-8 (byte {error.start}): save it as UTF-8") from error
    except WorkflowError as error:
        raise SettingsError(f"config: {file}: {' '.join(str(error).split())}") from error


def _from_elsewhere(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a lower ``dataset`` that remain: all, or only ``validation`` if the upper one has another source."""
    if "source" in above and above["source"] != below.get("source"):
        return {"validation": below["validation"]} if "validation" in below else {}
    inner = below.get("of"), above.get("of")
    if isinstance(inner[0], Mapping) and isinstance(inner[1], Mapping):
        return {**below, "of": _from_elsewhere(inner[0], inner[1])}
    return dict(below)


def laid_over(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge configs as Snakemake does, mappings key by key, except for ``dataset``.

    A ``dataset`` of another source replaces the lower one, limits included. Only ``validation`` stays, because it
    belongs to the study.
    """
    from snakemake.utils import update_config

    config: dict[str, Any] = {}
    for layer in layers:
        below, above = config.get("dataset"), layer.get("dataset")
        if isinstance(below, Mapping) and isinstance(above, Mapping):
            config["dataset"] = _from_elsewhere(below, above)
        update_config(config, copy.deepcopy(dict(layer)))
    return config
