"""How a stage program that computes with torch begins."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from poisonlab.config.stages import Stage, read_stage
from poisonlab.determinism import prepare_torch
from poisonlab.runtime.cards import RunCard
from poisonlab.runtime.program import settings


def begin(
    arguments: argparse.ArgumentParser, argv: Sequence[str], kind: type[Stage]
) -> tuple[argparse.Namespace, Stage, torch.device, RunCard]:
    """Its arguments, its settings of this ``kind``, its device, and its run card.

    Raises:
        SettingsError: a setting is malformed or impossible, or ``prepare_torch`` finds no GPU.
    """
    args = arguments.parse_args(argv)
    stage = read_stage(kind, settings(args.spec))
    device = prepare_torch(args.device, args.threads, args.jobs_per_gpu)
    return args, stage, device, RunCard(device, args.spec)
