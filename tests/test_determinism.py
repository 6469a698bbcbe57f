"""The switches of torch on a GPU, with a stand-in for the GPU."""

from __future__ import annotations

import subprocess
import sys

PREPARED = """
import sys, torch
from poisonlab import determinism
torch.cuda.is_available = lambda: True
determinism.hold_gpu = lambda jobs: None
assert determinism.prepare_torch("cuda", 1).type == "cuda"
assert torch.are_deterministic_algorithms_enabled()
assert torch.is_deterministic_algorithms_warn_only_enabled()
assert not torch.utils.deterministic.fill_uninitialized_memory
assert not [name for name in sys.modules if name.startswith("torch._inductor")]
from torch._inductor import config
assert config.deterministic
determinism.demand_determinism(False)
assert not config.deterministic
assert not torch.are_deterministic_algorithms_enabled()
"""


def test_a_job_on_a_gpu_is_deterministic_and_loads_no_compiler_for_it() -> None:
    done = subprocess.run([sys.executable, "-c", PREPARED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
