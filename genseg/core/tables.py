"""Tables that are written row by row: csv, and Parquet where pyarrow is installed."""

import csv
import importlib
import itertools
import json
import math
import tempfile
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from genseg.core.files import replacing

ENDINGS = (".csv", ".parquet")
BATCH = 10_000  # rows of a Parquet row group
Value = str | int | float | bool | None
_KINDS = (bool, int, float, str)  # each also holds what those before it hold


def check_table(path: Path) -> None:
    """Raise ValueError for a table whose ending is unknown, or that nothing installed can write."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"--out {path}: end it in {' or '.join(ENDINGS)}")
    if ending == ".parquet":
        _pyarrow()


def _pyarrow() -> Any:
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError:
        raise ValueError(
            "Parquet needs pyarrow: pip install 'genseg[parquet]'; or write a .csv, which needs "
            "nothing more"
        ) from None


class Table:
    """Rows that become one file when the block ends, or none when it ends with an error.

    Rows may have different columns: what one lacks is empty. They wait in a temporary file, so
    of each some bytes alone are in memory. nan and None are empty.
    """

    def __init__(self, path: Path) -> None:
        check_table(path)
        self.path, self.count = path, 0
        self.columns: dict[str, int] = {}  # name -> place in _KINDS, -1 while nothing is known

    def __enter__(self) -> "Table":
        self._kept = tempfile.TemporaryFile("w+b")  # noqa: SIM115
        self._places, self._begins = array("q"), array("q")
        return self

    def add(self, row: Mapping[str, Value], place: int | None = None) -> None:
        """A further row: column -> value. place: where it stands among the rows, by rising number;
        None: behind those that came before."""
        for name, value in row.items():
            kind = -1 if value is None else _KINDS.index(type(value))
            self.columns[name] = max(self.columns.get(name, -1), kind)
        self._places.append(self.count if place is None else place)
        self._begins.append(self._kept.tell())
        self._kept.write(json.dumps(row).encode() + b"\n")
        self.count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._kept:
            if error is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(self.path) as file:
                    (_write_csv if self.path.suffix.lower() == ".csv" else _write_parquet)(
                        file, self.columns, self._rows()
                    )

    def _rows(self) -> Iterator[list[Value]]:
        for n in np.argsort(np.array(self._places), kind="stable"):
            self._kept.seek(self._begins[n])
            row = json.loads(self._kept.readline())
            yield [row.get(name) for name in self.columns]


def _write_csv(file: Path, columns: Mapping[str, int], rows: Iterator[list[Value]]) -> None:
    with file.open("w", newline="", encoding="utf-8", errors="backslashreplace") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Value) -> str | int:
    """Nine digits of a float: more than any measure has."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return int(value)
    return f"{value:.9g}" if isinstance(value, float) else value


def _write_parquet(file: Path, columns: Mapping[str, int], rows: Iterator[list[Value]]) -> None:
    arrow = _pyarrow()
    types = [arrow.bool_(), arrow.int64(), arrow.float64(), arrow.string()]
    schema = arrow.schema([(n, types[max(kind, 0)]) for n, kind in columns.items()])
    with arrow.parquet.ParquetWriter(file, schema) as writer:
        while batch := list(itertools.islice(rows, BATCH)):
            columns_of = zip(*batch, strict=True)
            held = [
                arrow.array([None if v is None else _KINDS[max(k, 0)](v) for v in values], kind)
                for values, k, kind in zip(columns_of, columns.values(), schema.types, strict=True)
            ]
            writer.write_batch(arrow.record_batch(held, schema=schema))
