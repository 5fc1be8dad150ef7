"""The tool that makes the table of energies: one look at the labels, and rows that stay."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tool_files import tool

from genseg.energies.corrupt import KINDS

MORE = {"critic": 0.0, "denoising": 0.05, "pca": -0.1, "value": 0.2}


def row(name: str, seed: int) -> dict[str, Any]:
    """As tools/energies.py keeps it: every number differs by shape, and by seed in pairs but for a
    hundredth."""
    x = 0.5 + 0.02 * seed + MORE[name] * (1 + 0.01 * seed)
    group = {
        "separation": dict.fromkeys(KINDS, x),
        **{"reconstruction": x, "copy": x, "ignore": x},
        "spearman": {"score": x, "energy": x, "ranked": x},
    }
    return {
        **{"seconds": 90.0, "maps": 1234, "moved": x, "code": 0.0},
        **{"wide": {"all": group}, "near": {"all": group}},
    }


def test_differences_are_those_of_the_same_seed() -> None:
    made = tool("energies")
    rows = {
        f"{name}-{seed}": row(name, seed) for name in ("critic", "denoising") for seed in (0, 1)
    }
    rows["pca-0"] = row("pca", 0)  # a seed alone says nothing
    rows["value-7"], rows["value-8"] = row("value", 7), row("value", 8)  # no seed of the default
    lines = made.differences(rows).splitlines()
    assert [line.split(" |")[0] for line in lines[3:]] == ["| denoising"]
    # 0.05 and 0.0505: mean 0.05025, deviation 0.00035
    assert lines[3].count("+0.050 ± 0.000") == len(KINDS) + 9
    assert len(lines[1].split("|")) == len(lines[3].split("|"))
    assert made.differences({"critic-0": rows["critic-0"], "pca-0": rows["pca-0"]}) == ""
    table = made.table(rows).splitlines()
    assert len(table) == 2 + len(rows) and "| critic-0 | 1,234 | 1.5 | 0.500 |" in table[2]


def test_rows_that_are_there_are_printed_and_nothing_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {f"{name}-{seed}": row(name, seed) for name in ("critic", "pca") for seed in (0, 1)}
    kept = json.dumps(rows)
    (tmp_path / "rows.json").write_text(kept)
    given = ["energies.py", "no-run", "--data", "no.json", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*given, "--only", "pca", "critic", "--seeds", "0", "1"])
    tool("energies").main()
    said = capsys.readouterr().out
    assert "| critic-1 |" in said and "| minus critic |" in said and "-0.100 ± 0.001" in said
    assert (tmp_path / "rows.json").read_text() == kept
