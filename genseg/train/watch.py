"""What looks on while a command works, such as a report that is written as a run goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Watch(Protocol):
    """Looks on at a run directory. Nothing that it does may end the command."""

    def update(self) -> None:
        """Something is new. Called often: the watch decides how often it acts."""

    def done(self, *, complete: bool) -> None:
        """The command ends; `complete`: with all that it was asked for."""


# makes the watch of a run directory; it may say something
Watcher = Callable[[Path, Callable[[str], None]], Watch]
