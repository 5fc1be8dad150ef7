"""Kinds of arguments that several commands have."""

import argparse
from pathlib import Path

from genseg.core.paths import expand


def path(text: str) -> Path:
    """A path with `~` and `embedded:` resolved. Raises ArgumentTypeError for embedded data that do not exist."""
    try:
        return expand(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def source(text: str) -> str:
    """Where images are, as `path`."""
    return str(path(text))
