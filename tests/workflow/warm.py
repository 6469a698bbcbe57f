"""A Python that has torch or Snakemake loaded: programs of tests are forks of it, so that none waits for the same
imports.

    python warm.py SOCKET jobs|snakemake

A client (see ``harness``) sends arguments, folder, environment, interpreter and its three streams. A fork runs the
program with them and sends back the exit code. No module of the lab is loaded before it: checkouts have their own.
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import multiprocessing.util
import os
import runpy
import signal
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path

LOADED = {
    "jobs": (
        *("matplotlib.figure", "matplotlib.pyplot", "pandas", "pandas.io.formats.string", "pyarrow.pandas_compat"),
        *("safetensors.torch", "scipy.stats", "sklearn.datasets", "tabulate", "torch", "torchvision"),
        *("jinja2", "pydantic.main", "snakemake.cli", "yaml"),
    ),
    "snakemake": (
        *("snakemake.cli", "snakemake.api", "snakemake.dag", "snakemake.jobs", "snakemake.workflow"),
        *("snakemake.storage", "snakemake.report.html_reporter", "smart_open", "yaml", "yte"),
    ),
}

CLIENT = """#!{real} -IS
import json, os, socket, sys
arguments = sys.argv[1:]
if arguments[:2] == ["-m", "snakemake"]:
    address = "{snakemake}"
elif arguments[:2] == ["-m", "pytest"] or arguments and arguments[0].endswith(".py"):
    address = "{jobs}"
else:
    os.execv("{python}", ["{python}", *arguments])
server = socket.socket(socket.AF_UNIX)
server.connect(address)
told = json.dumps([arguments, os.getcwd(), dict(os.environ), "{python}"]).encode()
socket.send_fds(server, [len(told).to_bytes(8, "big")], [0, 1, 2])
server.sendall(told)
sys.exit(int(server.recv(16) or b"1"))
"""


def serve(path: str, kind: str) -> None:
    """Fork for every client, until killed."""
    for name in LOADED[kind]:
        import_module(name)
    use(kind)
    # A fork that collects garbage, or ends as this process would, copies most of its memory page by page.
    gc.collect()
    gc.freeze()
    atexit._clear()
    atexit.register(multiprocessing.util._exit_function)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(64)
        while True:
            client, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _answer(client)
            client.close()


def use(kind: str) -> None:
    """Load what is loaded at first use: plugins, and what writes figures."""
    pydantic = import_module("pydantic")
    pydantic.create_model("Used", share=(float, pydantic.Field(0.0, ge=0)))
    if kind == "snakemake":
        import_module("snakemake.cli").get_argument_parser()
        return
    matplotlib = import_module("matplotlib")
    figure = matplotlib.figure.Figure()
    figure.add_subplot().set_title("Used")
    # A PDF's fonts as those of poisonlab.figures.style.
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        for ending in ("pdf", "png"):
            figure.savefig(io.BytesIO(), format=ending)


def _answer(client: socket.socket) -> None:
    """Run one program in this process, which ends with it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, streams, _, _ = socket.recv_fds(client, 8, 3)
    told = b""
    while len(told) < int.from_bytes(length, "big"):
        told += client.recv(1 << 20)
    arguments, folder, environment, sys.executable = json.loads(told)
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments[1:] if arguments[0] == "-m" else arguments
    sources = [os.path.abspath(entry) for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    is_module = arguments[0] == "-m"
    sys.path[:1] = [folder if is_module else str(Path(arguments[0]).resolve().parent), *sources]
    code = 1
    try:
        for source in sources:
            if (spy := Path(source, "sitecustomize.py")).is_file():
                exec(compile(spy.read_text(encoding="utf-8"), str(spy), "exec"), {"__name__": "sitecustomize"})
        if is_module:
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        client.sendall(str(code).encode())
        os._exit(code)


if __name__ == "__main__":
    serve(*sys.argv[1:])
