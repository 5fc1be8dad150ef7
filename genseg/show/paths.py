"""Absolute paths as a page shows them: a page may be passed on, and they name its author's account
and folders."""

import re
from pathlib import PurePosixPath, PureWindowsPath

KEPT = 2  # parts of a path, from its end
FIRST = 2  # parts that are never shown when others follow, as in /home/NAME
PART = r"[^\s/\\'\"<>|:;,()=]+"
ABSOLUTE = re.compile(
    rf"(?<![\w.~…/\\])(?:file://)?(?:(?:[A-Za-z]:)?/|[A-Za-z]:\\|\\\\)(?:{PART}[/\\])+(?:{PART})?"
)
ALONE = re.compile(
    r"(\s*(?:- )?(?:[\w.-]+(?:=|: ))?)(['\"]?)((?:[A-Za-z]:)?[/\\].*?)(['\"]?)"
)  # a value, with any spaces


def short_paths(text: str) -> str:
    """Text with each absolute path cut to its last parts: '/home/ann/sets/nuclei/a.json' becomes
    '…/nuclei/a.json'.

    A line that is one path, or `key: path` or `key=path`, may have spaces in it; within prose a
    path ends at a space.
    """
    return "\n".join(map(_line, text.split("\n")))


def _line(line: str) -> str:
    alone = ALONE.fullmatch(line)
    if alone and ": " not in alone[3] and not re.search(r"[\s'\"=](?:[A-Za-z]:)?[/\\]", alone[3]):
        return f"{alone[1]}{alone[2]}{_short(alone[3])}{alone[4]}"
    return ABSOLUTE.sub(lambda m: _short(m[0]), line)


def _short(path: str) -> str:
    path = path.removeprefix("file://")
    windows = "\\" in path or path[1:2] == ":"
    parts = (PureWindowsPath(path) if windows else PurePosixPath(path)).parts[1:]
    kept = parts[-max(1, min(KEPT, len(parts) - FIRST)) :]
    return "/".join(["…", *kept]) if parts else path
