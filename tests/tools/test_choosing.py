"""The tool that asks whether chosen images are worth more than a draw."""

import sys
from pathlib import Path

import pytest
from tool_files import tool

KEY = "model.decoder_weights=false"


def test_keys_may_stand_behind_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys behind --out were refused by argparse, and false was text. The lists are there, so
    nothing is chosen; a set that is not there is the first mistake."""
    made = tool("choosing")
    for by in ("typical", "k-center", "uncertainty", "both"):
        (tmp_path / f"{by}.txt").write_text("a.png\n")
    given = ["choosing.py", "run", "train.json", "val.json", "--out", str(tmp_path), KEY]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(ValueError, match=r"train\.json"):
        made.main()
