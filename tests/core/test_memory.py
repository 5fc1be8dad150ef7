"""Freed memory is kept: counted in page faults, of which a system that is short of memory adds some
now and then."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch, torchvision
from genseg.core.memory import keep_freed_memory

torch.set_num_threads(1)
if sys.argv[1] == "keep":
    keep_freed_memory()
net, x = torchvision.models.resnet18(), torch.randn(64, 3, 64, 64)
for step in range(6):
    if step == 3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    net(x).sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
def test_what_a_step_frees_is_there_for_the_next() -> None:
    # measured in three steps: nearly always 0, and 4,000 to 45,000
    given_back = faults("not")
    assert any(faults("keep") < given_back / 2 for _ in range(4))
