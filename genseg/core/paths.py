"""Paths as users write them."""

from pathlib import Path


def expand(path: str | Path) -> Path:
    """A path with the home folder for `~`; as it stands where nobody knows that home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
