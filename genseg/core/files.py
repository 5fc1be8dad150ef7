"""Files that are written whole or not at all, never through a link, with the rights that the user's
umask gives."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

# What a kill may leave: ours, `NAME.HEX.tmp`, and that of safetensors
LEFTOVER = re.compile(r".+\.[0-9a-f]{8}\.tmp|\.tmp[A-Za-z0-9]{6}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` when the block ends; an error leaves nothing, and a former
    file as it was.

    The name is new, so no link is written through; a link in the place of `path` is replaced.
    Several processes may
    write one file: the last one stays.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        # as the umask has it; safetensors lets nobody else read its files
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write all of a text or nothing, in UTF-8; what that lacks, as bytes of an odd file name,
    becomes \\udcNN."""
    with replacing(file) as temporary:
        temporary.write_text(text, "utf-8", errors="backslashreplace")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in a folder that nobody else works
    in now; a linked one may be another run's, too, and is left alone."""
    for file in folder.iterdir() if folder.is_dir() and not folder.is_symlink() else ():
        if LEFTOVER.fullmatch(file.name) and (file.is_symlink() or file.is_file()):
            file.unlink(missing_ok=True)
