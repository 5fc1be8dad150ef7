"""Freed memory is kept: counted in page faults, of which a system that is short of memory adds some
now and then."""

import json
import resource
import sys
from pathlib import Path

import pytest
import torch
from processes import forked
from torch import nn

from genseg.core.memory import keep_freed_memory


def _counted(_: int, file: str) -> None:
    """In a process of its own: the page faults of some steps before the setting, and after it."""
    torch.set_num_threads(1)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))
    x = torch.randn(16, 3, 96, 96)

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(3):
            net(x).square().sum().backward()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    # now and then the C library keeps its memory for three steps by itself
    given_back = max([faults() for _ in range(4)][1:])
    keep_freed_memory()
    kept = [faults() for _ in range(5)][1:]
    Path(file).write_text(json.dumps([given_back, kept]))


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
def test_what_a_step_frees_is_there_for_the_next(tmp_path: Path) -> None:
    forked(_counted, str(tmp_path / "faults.json"), count=1)
    given_back, kept = json.loads((tmp_path / "faults.json").read_text())
    # nearly always 0, and 13,000
    assert given_back > 1000 and min(kept) < given_back / 2
