"""pytest, which an interrupt ends with a report.

A shell starts programs in the background with SIGINT ignored, and pytest would inherit that.
"""

from __future__ import annotations

import signal
import sys

import pytest

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(pytest.main())
