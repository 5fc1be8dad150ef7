"""Paths as users write them."""

from pathlib import Path


def exists(path: Path) -> bool:
    """Whether something has this name, which may be none that a file can have."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, with a null, not to be encoded
        return False


def expand(path: str | Path) -> Path:
    """A path with the home folder for `~`; as it stands where nobody knows that home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
