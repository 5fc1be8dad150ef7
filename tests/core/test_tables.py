"""Tables, read back with the library of each format."""

import csv
import math
import sys
from pathlib import Path

import pytest

from genseg.core.tables import Table, Value

ROWS: list[dict[str, Value]] = [
    {"image": 'a,"b".png', "id": 1, "score": 0.1 + 0.2, "right": True, "none": None},
    {"image": "ä\n.png", "id": 2**40, "score": 1, "right": False, "none": None, "late": 2.5},
    {"image": "c.png", "id": 3, "score": math.nan, "right": True, "none": None},
]


def written(path: Path) -> Path:
    with Table(path) as table:
        for row in ROWS:
            table.add(row)
    assert table.count == 3
    return path


def test_csv_holds_what_went_in(tmp_path: Path) -> None:
    with written(tmp_path / "new/t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "id", "score", "right", "none", "late"]
    assert [r["image"] for r in rows] == ['a,"b".png', "ä\n.png", "c.png"]
    assert [int(r["id"]) for r in rows] == [1, 2**40, 3]
    assert [r["score"] for r in rows] == ["0.3", "1", ""]
    assert [r["late"] for r in rows] == ["", "2.5", ""] and [r["none"] for r in rows] == [""] * 3
    assert [r["right"] for r in rows] == ["1", "0", "1"]


def test_parquet_holds_what_went_in(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(written(tmp_path / "t.parquet")).to_pylist()
    assert rows[0] == {**ROWS[0], "late": None}
    assert rows[1] == ROWS[1]
    assert math.isnan(rows[2]["score"]) and isinstance(rows[1]["score"], float)


def test_an_error_leaves_no_file_and_the_former_one_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("mine")
    with pytest.raises(RuntimeError), Table(tmp_path / "t.csv") as table:
        table.add(ROWS[0])
        raise RuntimeError
    assert [f.name for f in tmp_path.iterdir()] == ["t.csv"]
    assert (tmp_path / "t.csv").read_text() == "mine"


def test_what_cannot_be_written_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"t\.xlsx: end it in \.csv or \.parquet"):
        Table(tmp_path / "t.xlsx")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=r"pip install 'genseg\[parquet\]'; or write a \.csv"):
        Table(tmp_path / "t.parquet")
