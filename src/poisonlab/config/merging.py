"""The config as the Snakefile sees it, for programs that stand beside the workflow."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from poisonlab.config.files import check_config_file
from poisonlab.errors import SettingsError

DEFAULT_CONFIG = "config.yaml"


def add_config_arguments(arguments: argparse.ArgumentParser) -> None:
    """Add ``--configfile`` and ``--config``."""
    arguments.add_argument("--configfile", nargs="+", default=[], help="as Snakemake takes it; else config.yaml")
    arguments.add_argument("--config", nargs="+", default=[], help="as Snakemake takes it")


def merged_config(files: Sequence[str], entries: Sequence[str]) -> dict[str, Any]:
    """What Snakemake makes of these arguments and ``config.yaml``.

    Raises:
        SettingsError: a file is missing or no mapping, or an entry is not ``key=value``.
    """
    # Only here, because importing it takes longer than all the rest.
    from snakemake.cli import parse_config
    from snakemake.common.configfile import load_configfile
    from snakemake.exceptions import WorkflowError
    from snakemake.utils import update_config

    given: dict[str, Any] = {}
    try:
        for file in files:
            check_config_file(Path(file))
            update_config(given, load_configfile(file))
        update_config(given, parse_config(entries))
        if "study" in given and "dataset" in given:
            return given
        config: dict[str, Any] = load_configfile(DEFAULT_CONFIG)
        update_config(config, given)
    except OSError as error:
        raise SettingsError(f"config: {error.filename}: {error.strerror}") from error
    except (WorkflowError, ValueError) as error:
        raise SettingsError(f"config: {' '.join(str(error).split())}") from error
    return config
