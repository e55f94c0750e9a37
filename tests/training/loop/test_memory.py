import os
import platform
import subprocess
import sys

import pytest

STEPS = """
import resource
from parity.training.loop.hardware import Hardware, make_trainer
import torch

def step():
    first = torch.ones(12 * 2**20)
    return (first + first * 2).sum()

if {ours}:
    make_trainer(Hardware("cpu"), logger=False, enable_checkpointing=False)
step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(ours: bool, **environment: str) -> int:
    """How often the system gave a page in 10 steps that free 144 MiB each, in a process of their own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", STEPS.format(ours=ours)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean | environment)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep what they like")
def test_a_step_on_a_cpu_finds_the_memory_that_the_last_one_freed() -> None:
    by_default = page_faults(ours=False)
    assert page_faults(ours=True) < by_default / 10
    assert page_faults(ours=True, MALLOC_TRIM_THRESHOLD_="131072") > by_default / 2  # a person's own settings count
