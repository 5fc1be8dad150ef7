"""The tool that asks whether chosen images are worth more than a draw."""

import sys
from pathlib import Path

import pytest
from tool_files import tool

from genseg.schema import ConfigError


def test_keys_may_stand_behind_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys behind --out were refused by argparse. The lists are there, so nothing is chosen."""
    made = tool("choosing")
    for by in ("k-center", "uncertainty", "both"):
        (tmp_path / f"{by}.txt").write_text("a.png\n")
    given = ["choosing.py", "run", "train.json", "val.json", "--out", str(tmp_path), "nonsense=1"]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(ConfigError, match="nonsense"):
        made.main()
