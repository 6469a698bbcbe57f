"""``make test-slurm``: start a Slurm cluster of one node, run checks.py on it, take it down."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from cluster import install, obstacle, running

HERE = Path(__file__).parent
CANNOT = 2


def main() -> int:
    reason = obstacle()
    if reason is not None:
        print(f"test-slurm: not run. {reason}.", file=sys.stderr)
        return CANNOT
    install()
    # In a shell's background it is ignored, and so it would be in the Snakemake that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # So that being killed ends the cluster, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # munged has a user of its own.
        with running(folder):
            command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", str(HERE / "checks.py")]
            environment = os.environ | {"POISONLAB_SLURM": name}
            return tests([*command, *sys.argv[1:]], environment)


def tests(command: list[str], environment: dict[str, str]) -> int:
    """Run the tests, and leave no Snakemake behind when stopped."""
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        return process.wait()
    finally:
        # A Snakemake that is asked to end would wait for its jobs, which end with the cluster.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
