"""Runs every test that takes a device on this device."""

from __future__ import annotations

import os
import signal
import subprocess
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path

from gpu.section import Check, FaultError, Notes

ROOT = Path(__file__).resolve().parents[2]
TESTS = (
    # These few are the only tests of CUDA graphs, so they come first: time may run out.
    "tests/training/test_capture.py",
    "tests/contracts",
    "tests/defenses",
    "tests/filters",
    "tests/benchmarks",
    "tests/programs",
)
REHEARSED = ("tests/contracts/test_filters.py", "-k", "random-filter")
DEVICES = "POISONLAB_TEST_DEVICES"
# Without the tests of the check itself, which rehearse on the CPU.
CHOSEN = "(cuda or test_on_a_gpu) and not gpu_check"
_AT_ONCE = 8
_SHOWN = 20
_GRACE = 8.0


def contracts(check: Check, notes: Notes) -> None:
    """Run every test that takes a device, only on this device.

    Raises:
        FaultError: a test failed, no test ran, or time ran out; tests that ended before are noted.
    """
    report, log = check.folder / "tests.xml", check.folder / "tests.log"
    options = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}", f"--basetemp={check.folder / 'files'}"]
    if not check.tiny and find_spec("xdist"):
        options += ["-n", str(min(_AT_ONCE, os.cpu_count() or 1))]
    chosen = REHEARSED if check.tiny else (*TESTS, "-k", CHOSEN)
    command = [check.python, "-m", "pytest", *options, *chosen]
    # A shell starts programs in the background with SIGINT ignored, and pytest would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    environment = {**os.environ, DEVICES: check.device}
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
        code, in_time = _ended(process, max(1.0, check.seconds - _GRACE))
    if not report.is_file():
        raise FaultError(f"pytest ended with status {code}: {log.read_text(encoding='utf-8').strip()[-400:]}")
    passed = _told(report, notes)
    if not in_time:
        # The report counts interrupted tests as passed.
        raise FaultError(
            f"pytest was interrupted after {check.seconds - _GRACE:.0f} s; {passed} tests had passed or run"
        )
    if code != 0:
        raise FaultError(f"pytest ended with status {code}; {passed} tests passed")
    if passed == 0:
        raise FaultError("no test ran")


def _ended(process: subprocess.Popen[bytes], seconds: float) -> tuple[int, bool]:
    """The exit status of pytest, and whether it ended within ``seconds``; else it is interrupted, so that it writes its
    report."""
    try:
        return process.wait(timeout=seconds), True
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(timeout=_GRACE / 2), False
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(), False


def _told(report: Path, notes: Notes) -> int:
    """Note the counts and the first failures; returns how many tests passed."""
    # The XML is safe to parse: pytest has just written it.
    cases = list(ET.parse(report).getroot().iter("testcase"))
    broken = {case: part for case in cases for part in case if part.tag in ("failure", "error")}
    skipped = [case for case in cases if case.find("skipped") is not None]
    passed = len(cases) - len(broken) - len(skipped)
    notes.fact("passed", passed)
    notes.fact("skipped", len(skipped))
    notes.fact("failed", len(broken))
    lines = [
        f"{case.get('classname')}.{case.get('name')}: {' '.join((part.get('message') or '').split())[:200]}"
        for case, part in broken.items()
    ]
    notes.fact("failures", lines[:_SHOWN])
    return passed
