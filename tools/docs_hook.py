"""What `mkdocs build` does to a page of docs/ before it reads it.

A link to a file of the repository that lies outside docs/ leads somewhere on a code host and in a
clone, but nowhere in the site: it becomes the file's path. Links to files that do not exist stay,
and the build fails on them.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CODE = re.compile(r"(^ *```.*?^ *```|`[^`\n]+`(?!\]))", re.M | re.S)
LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\((\.\./[^()\s#]+)(?:#[^()\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Called by mkdocs for each page."""
    return without_outside_links(markdown, page.file.src_uri)


def without_outside_links(markdown: str, page: str) -> str:
    """The text of `page`, a path below docs/, with paths in place of links that leave docs/."""

    def as_path(link: re.Match[str]) -> str:
        words, target = link[1], link[2]
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
        if path.startswith(("docs/", "../")) or not (ROOT / path).exists():
            return link[0]
        return f"`{path}`" if words.strip("`") in (path, target) else f"{words} (`{path}`)"

    parts = CODE.split(markdown)  # every second one is code
    return "".join(part if i % 2 else LINK.sub(as_path, part) for i, part in enumerate(parts))
