"""``make test-slurm``: start a Slurm cluster of one node, run checks.py on it, take it down."""

from __future__ import annotations

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
    # So that being killed ends the cluster, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # munged has a user of its own.
        with running(folder):
            command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", str(HERE / "checks.py")]
            environment = os.environ | {"POISONLAB_SLURM": name}
            return subprocess.run([*command, *sys.argv[1:]], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
