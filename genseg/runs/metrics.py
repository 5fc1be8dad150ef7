"""metrics.jsonl and the progress line."""

import json
import math
import shutil
import sys
import time
from pathlib import Path
from typing import TextIO

from genseg.core.files import write_text
from genseg.core.words import rate

Row = dict[str, int | float]  # one line of metrics.jsonl
# what two equal runs may differ in
TIMING = ("images_per_second", "data_wait", "eta_seconds", "seconds")


class MetricsFile:
    """One JSON object a line. Opening it at `step` drops the lines of later steps: a resumed run
    writes them again.

    A number that is not finite is written as null: JSON has no other word for it.
    """

    def __init__(self, path: Path, step: int) -> None:
        kept = (
            [row for row in read_metrics(path) if row["step"] <= step]
            if step and path.exists()
            else []
        )
        text = "".join(map(_as_line, kept))
        write_text(path, text)
        self.file = path.open("a")

    def write(self, row: Row) -> None:
        """Append one line, at once on disk's doorstep (flushed)."""
        self.file.write(_as_line(row))
        self.file.flush()


def read_metrics(path: Path) -> list[Row]:
    """The lines of a metrics.jsonl, NaN for null; a last line that was cut off by a kill is left
    out."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        rows.append({key: math.nan if value is None else value for key, value in row.items()})
    return rows


def _as_line(row: Row) -> str:
    finite = {key: value if math.isfinite(value) else None for key, value in row.items()}
    return json.dumps(finite, allow_nan=False) + "\n"


def duration(seconds: float) -> str:
    """Seconds as 42s, 3m05s or 2h07m."""
    s = int(seconds)
    if s < 60:
        return f"{s}s"
    return f"{s // 60}m{s % 60:02d}s" if s < 3600 else f"{s // 3600}h{s % 3600 // 60:02d}m"


class ProgressLine:
    """Progress on a terminal: one line that is rewritten; elsewhere a line at least every `every`
    seconds."""

    def __init__(self, stream: TextIO | None = None, every: float = 10.0) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.every = 0.2 if self.live else every
        self.last = 0.0
        self.title = ""  # before each line of progress

    def show(self, row: Row, total: int, *, force: bool = False) -> None:
        """Show a metrics row of a run of `total` steps, if it is time."""
        now = time.monotonic()
        if not force and now - self.last < self.every:
            return
        self.last = now
        step = int(row["step"])
        named = [f"{k} {row[k]:.4g}" for k in row if k not in ("step", "epoch", "images", *TIMING)]
        line = self.title + (
            f"{100 * step / total:3.0f}% step {step}/{total} epoch {row['epoch']:.1f} | "
            f"{rate(row['images_per_second'])} images/s  waiting {100 * row['data_wait']:.0f}%  "
            f"ETA {duration(row['eta_seconds'])} | {'  '.join(named)}"
        )
        if self.live:  # what is wider than the terminal would leave rows behind
            line = line[: shutil.get_terminal_size().columns - 1]
        self.stream.write(f"\r\x1b[2K{line}" if self.live else line + "\n")
        self.stream.flush()

    def say(self, text: str) -> None:
        """A message on a line of its own."""
        self.stream.write(("\r\x1b[2K" if self.live else "") + text + "\n")
        self.stream.flush()

    def end(self) -> None:
        """Leave the line that was rewritten."""
        if self.live:
            self.stream.write("\n")
            self.stream.flush()
