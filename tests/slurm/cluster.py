"""A Slurm cluster of one node on the loopback interface, with a GPU that is none.

Debian's packages, started by hand as root: no service manager, no accounting database, no limits enforced.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
SYSTEM = Path("/etc/slurm")  # Where job steps look: they don't get SLURM_CONF.

SLURM_CONF = """\
ClusterName=lab
SlurmctldHost={node}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
MpiDefault=none
ReturnToService=2
KillWait=5
MinJobAge=86400
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={node} NodeAddr=127.0.0.1 CPUs=2 RealMemory=64000 Gres=gpu:1
PartitionName=lab Nodes={node} Default=YES MaxTime=INFINITE State=UP
"""
GRES_CONF = "NodeName={node} Name=gpu Count=1 File=/dev/null\n"
CGROUP_CONF = "CgroupPlugin=cgroup/v1\n"


def obstacle() -> str | None:
    """Why no cluster can be started here."""
    if not Path("/etc/debian_version").exists():
        return "Slurm is installed with apt: this needs Debian or a system made from it"
    if os.geteuid() != 0:
        return "Slurm's daemons and its packages need root"
    if (SYSTEM / "slurm.conf").exists():
        return f"{SYSTEM}/slurm.conf exists: this machine belongs to a cluster, and is left alone"
    return None


def install() -> None:
    """Debian's packages, where they are missing."""
    if all(shutil.which(program) for program in ("slurmctld", "slurmd", "sbatch", "munged")):
        return
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=quiet, check=True)
    subprocess.run(["apt-get", "install", "-qq", "--no-install-recommends", *PACKAGES], env=quiet, check=True)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[None]:
    """A cluster that keeps everything in ``folder``, gone when the block ends, however that happens."""
    with contextlib.ExitStack() as stack:
        _munge(folder / "munge", stack)
        _configure(folder, stack)
        for daemon in (("slurmctld", "-D", "-c"), ("slurmd", "-D", "-c", "-N", _node())):
            _daemon(stack, folder / f"{daemon[0]}.out", *daemon)
        _until(_idle, folder)
        stack.callback(_clear_queue)
        yield


def _munge(folder: Path, stack: contextlib.ExitStack) -> None:
    folder.mkdir()
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    for path in (folder, key):
        shutil.chown(path, "munge", "munge")
    files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed", "key-file": "key"}
    options = [f"--{option}={folder / name}" for option, name in files.items()]
    _daemon(stack, folder.parent / "munged.out", "munged", "--foreground", *options, user="munge")
    _until((folder / "socket").exists, folder.parent)


def _configure(folder: Path, stack: contextlib.ExitStack) -> None:
    ports = dict(zip(("controller_port", "node_port"), _free_ports(2), strict=True))
    for name, text in (("slurm.conf", SLURM_CONF), ("gres.conf", GRES_CONF), ("cgroup.conf", CGROUP_CONF)):
        (folder / name).write_text(text.format(folder=folder, node=_node(), **ports), encoding="utf-8")
        (SYSTEM / name).symlink_to(folder / name)
        stack.callback((SYSTEM / name).unlink)


def _daemon(stack: contextlib.ExitStack, log: Path, *command: str, user: str | None = None) -> None:
    """Start a daemon that ends with the stack."""
    groups = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"},
            start_new_session=True,  # Control-C is for Snakemake; the daemons end last.
            **groups,  # type: ignore[call-overload]
        )
    stack.callback(_stop, process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _idle() -> bool:
    states = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False)
    return states.stdout.strip() == "idle"


def _clear_queue() -> None:
    """Cancel what is left, and wait until its processes are gone."""
    subprocess.run(["scancel", "--user=root"], check=False)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and queue():
        time.sleep(0.5)


def queue() -> list[str]:
    """Ids of the jobs that wait or run."""
    listed = subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=False)
    return listed.stdout.split()


def _until(ready: object, folder: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():  # type: ignore[operator]
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.[lo][ou][gt]")))
            raise RuntimeError(f"the cluster does not start:\n{logs}")
        time.sleep(0.2)


def _node() -> str:
    return socket.gethostname().split(".")[0]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]
