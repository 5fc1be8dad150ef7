"""Words of a message that depend on numbers, and how any of them can be printed."""

import io
import sys


def rate(number: float) -> str:
    """A number of things a second: whole, of a few also their tenths."""
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


def amount(count: int, what: str) -> str:
    """'1 image', '2,000 images', '2 boxes'."""
    ending = "" if count == 1 else "es" if what.endswith(("x", "s", "sh", "ch")) else "s"
    return f"{count:,} {what}{ending}"


def print_any_name() -> None:
    """From now on `print` writes what the terminal's encoding lacks, such as an odd byte of a name,
    as \\udcNN."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
