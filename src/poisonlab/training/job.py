"""Where a stage program's training saves its state, and how it knows that a saved state is its own."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from poisonlab.artifacts.files import file_digest
from poisonlab.training.checkpoint import Checkpoint


def add_checkpoint_arguments(arguments: argparse.ArgumentParser) -> None:
    """Add ``--checkpoint``, ``--checkpoint-seconds`` and ``--code``."""
    arguments.add_argument(
        "--checkpoint", type=Path, required=True, help="where an interrupted run goes on from (.safetensors)"
    )
    arguments.add_argument("--checkpoint-seconds", type=float, default=120.0, help="time between two saves")
    arguments.add_argument("--code", nargs="*", default=[], help="digests of the code, as the workflow passes them")


def job_checkpoint(args: argparse.Namespace, inputs: Sequence[Path] = ()) -> Checkpoint:
    """The checkpoint of a run with these settings, code, threads, device, torch and input files, and no other."""
    # As prepare_torch chooses: `auto` may be another device when the run goes on.
    device = "cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu"
    facts = [
        *sorted(args.spec),
        *sorted(args.code),
        f"torch={torch.__version__}",
        f"threads={args.threads}",
        f"device={device}",
        *(file_digest(path) for path in inputs),
    ]
    fingerprint = hashlib.sha256("\n".join(facts).encode()).hexdigest()
    return Checkpoint(args.checkpoint, fingerprint, args.checkpoint_seconds)
