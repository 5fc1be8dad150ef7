"""What genseg convert returns."""

from dataclasses import dataclass
from pathlib import Path

from genseg.core.result import Result


@dataclass(frozen=True)
class Converted(Result):
    """Files that were written, and what is in them, a line for each and for each doubt."""

    files: tuple[Path, ...]
    lines: tuple[str, ...]

    def text(self) -> str:
        return "\n".join(self.lines)
