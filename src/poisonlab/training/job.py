"""The checkpoint of a stage program, bound to everything that the run depends on."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from poisonlab.files import file_digest
from poisonlab.precision import multiplies_bfloat16
from poisonlab.training.checkpoint import Checkpoint


def job_checkpoint(args: argparse.Namespace, inputs: Sequence[Path] = ()) -> Checkpoint:
    """A checkpoint valid only for a run with the same settings, code, threads, device, torch and input files.

    If settings ask for bfloat16, both processors must have it, or both lack it.
    """
    # The device that prepare_torch chooses: `auto` may mean another device when the run resumes.
    device = "cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu"
    mixed = any("bfloat16" in setting for setting in args.spec)
    facts = [
        *sorted(args.spec),
        *sorted(args.code),
        f"torch={torch.__version__}",
        f"threads={args.threads}",
        f"device={device}",
        *([f"capture={args.capture}"] if device == "cuda" else []),
        *([f"bfloat16={multiplies_bfloat16(torch.device(device))}"] if mixed else []),
        *(file_digest(path) for path in inputs),
    ]
    fingerprint = hashlib.sha256("\n".join(facts).encode()).hexdigest()
    return Checkpoint(args.checkpoint, fingerprint, args.checkpoint_seconds)
