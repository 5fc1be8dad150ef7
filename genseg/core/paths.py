"""Paths as users write them."""

import os
from pathlib import Path

SHIPPED = "embedded:"  # begins a path below the folder of data that the package ships
EMBEDDED = Path(__file__).parents[1] / "embedded"


def exists(path: Path) -> bool:
    """Whether something has this name, which may be none that a file can have."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, with a null, not to be encoded
        return False


def expand(path: str | Path) -> Path:
    """A path with the home folder for `~`, where it can be determined; `embedded:nuclei/train` is
    data that genseg ships.

    Raises ValueError for embedded data that do not exist.
    """
    if str(path).startswith(SHIPPED):
        shipped = EMBEDDED / str(path).removeprefix(SHIPPED)
        if ".." in shipped.parts or not exists(shipped):
            raise ValueError(f"{path} does not exist; genseg ships {', '.join(_shipped())}")
        return shipped
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _shipped() -> list[str]:
    """What follows `embedded:`."""
    return sorted(SHIPPED + file.relative_to(EMBEDDED).as_posix() for file in EMBEDDED.glob("*/*"))


def name_of(folder: str) -> str:
    """What a run on a folder is called: photos for ~/photos, nuclei-train for
    embedded:nuclei/train."""
    if folder.startswith(SHIPPED):
        return folder.removeprefix(SHIPPED).replace("/", "-")
    return Path(folder).expanduser().absolute().stem


def file_bytes(file: str) -> bytes:
    """A name as the file system has it, or one from a json that none can have."""
    try:
        return os.fsencode(file)
    except UnicodeEncodeError:
        return file.encode("utf-8", "surrogatepass")
