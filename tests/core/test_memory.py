"""Freed memory is kept: counted in page faults, which no other process changes."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from genseg.core.memory import keep_freed_memory

torch.set_num_threads(1)
if sys.argv[1] == "keep":
    keep_freed_memory()

def step():
    kept = [torch.ones(2**20 * n) for n in (1, 3, 5, 7)]  # 4 MiB each; 16,384 pages in all

for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
def test_what_a_step_frees_is_there_for_the_next() -> None:
    assert faults("keep") < 200
    assert faults("not") > 5000  # else there is nothing to gain any more
