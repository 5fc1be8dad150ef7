"""The peak of memory that a dry run tells, in the units of each system."""

import runpy
import sys
from types import SimpleNamespace

import pytest
import torch

from genseg.workflows.pretrain import dry_run


@pytest.mark.parametrize(
    ("platform", "peak"),
    [("linux", 3 * 2**10), ("darwin", 3 * 2**20)],
    ids=["linux: KiB", "macOS: bytes"],
)
def test_memory_is_in_mib_everywhere(
    platform: str, peak: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("resource.getrusage", lambda _: SimpleNamespace(ru_maxrss=peak))
    assert dry_run._peak(torch.device("cpu")) == "3 MiB"


def test_a_system_that_does_not_tell_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "resource", None)  # importing it raises, as on Windows
    there = runpy.run_path(str(dry_run.__file__))
    assert there["_peak"](torch.device("cpu")) == "not known on this system"
