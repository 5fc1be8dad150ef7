"""A self-contained HTML page: sections one after the other, styles and script inline, nothing from
a network."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from genseg.show.chart import WIDTH
from genseg.show.draw import PALETTE
from genseg.show.paths import short_paths

FONT = "system-ui, DejaVu Sans, Arial, sans-serif"  # of an SVG file
BAND, BESIDE = 26, 44  # pixels of its title, and of room for names that the page lets stand over
DATA = '<script type="application/json" id="page-data">'
REFRESH = 20  # seconds after which the page of a run that goes on reads itself again


@dataclass(frozen=True)
class Section:
    """A part of the page. `body` is HTML that is ready; `title` and `lead` are text. `data` is for
    the script.

    anchor: its id in the page, and the key of its data; word: its name in the row of links
    """

    anchor: str
    word: str
    title: str
    body: str
    lead: str = ""
    data: Any = None


@dataclass(frozen=True)
class Page:
    """All that a page says. `state` is a word or two beside the title; `figures` are (value, what
    it is)."""

    title: str
    state: str
    verdict: str
    sections: Sequence[Section]
    figures: Sequence[tuple[str, str]] = field(default=())
    running: bool = False


def render(page: Page) -> str:
    """The HTML of a page."""
    script, style = _part("report.js"), _part("report.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    data = {"palette": PALETTE} | {s.anchor: s.data for s in page.sections if s.data is not None}
    return Template(_part("report.html")).substitute(
        # Only our own script runs, and nothing is loaded: a name that got past the escaping could
        # do no harm either.
        policy=(
            "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src "
            f"'sha256-{digest}'"
        ),
        title=as_text(page.title),
        state=as_text(page.state),
        kind="running" if page.running else "done",
        refresh=REFRESH if page.running else 0,
        verdict=as_text(page.verdict),
        figures="".join(
            f"<div><dt>{as_text(what)}</dt><dd>{as_text(value)}</dd></div>"
            for value, what in page.figures
        ),
        links="".join(f'<a href="#{s.anchor}">{as_text(s.word)}</a>' for s in page.sections),
        sections="".join(map(_section, page.sections)),
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        style=style,
        script=script,
    )


def data_of(html: str) -> dict[str, Any]:
    """The data of the sections of a page that `render` has made, by anchor; nothing for another
    page."""
    _, found, rest = html.partition(DATA)
    try:
        content = json.loads(rest.partition("</script>")[0]) if found else {}
    except ValueError:  # it was cut off
        return {}
    return content if isinstance(content, dict) else {}


def as_text(text: str) -> str:
    """Text as HTML that says it, with no absolute path in it. All that a page says goes through
    here."""
    return escape(short_paths(text))


def _section(s: Section) -> str:
    lead = f'<p class="lead">{as_text(s.lead)}</p>' if s.lead else ""
    return (
        f'<section id="{s.anchor}" aria-labelledby="{s.anchor}-title"><h2 '
        f'id="{s.anchor}-title">{as_text(s.title)}</h2>{lead}{s.body}</section>'
    )


def svg_file(chart: str, title: str) -> str:
    """A chart as an SVG file that stands alone: titled, on white, with the page's rules and its
    colours by day.

    The colours are written out, since few programs but browsers know a style's variables.
    """
    style = _part("report.css")
    colours = dict(re.findall(r"(--[\w-]+): ([^;]+);", style.partition("}")[0]))
    rules = "".join(
        re.findall(r"^\.chart [^{]+\{[^}]*\}(?: \.chart [^{]+\{[^}]*\})*$", style, re.M)
    )
    rules = re.sub(r"var\((--[\w-]+)\)", lambda m: colours[m[1]], rules)
    height = re.search(r'viewBox="0 0 \d+ (\d+)"', chart)
    assert height
    inner, w, h = chart.partition(">")[2], WIDTH + BESIDE, int(height[1]) + BAND
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 {-BAND} {w} {h}" '
        f'width="{2 * w}" height="{2 * h}" font-family="{FONT}" '
        f'font-size="12"><style>{rules}</style><rect y="{-BAND}" width="{w}" height="{h}" '
        'fill="#fff"/><text x="10" y="-8" font-weight="600" '
        f'fill="{colours["--ink"]}">{escape(title)}</text>{inner}\n'
    )


def _part(name: str) -> str:
    return files("genseg.show").joinpath(name).read_text("utf-8")


def figure(
    source: str,
    caption: str,
    *,
    alt: str,
    size: tuple[int, int],
    jump: tuple[str, int] | None = None,
) -> str:
    """A picture with a line below. `jump` opens an image, by number, in the viewer of a section."""
    h, w = size
    image = f'<img src="{source}" alt="{as_text(alt)}" width="{w}" height="{h}">'
    if jump is not None:
        image = (
            f'<button type="button" class="jump" data-viewer="{jump[0]}" '
            f'data-image="{jump[1]}">{image}</button>'
        )
    return f"<figure>{image}<figcaption>{as_text(caption)}</figcaption></figure>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, row_heads: bool = True) -> str:
    """A table of text. Columns after the first are numbers: they stand to the right."""
    top = "".join(f'<th scope="col">{as_text(h)}</th>' for h in head)
    body = ""
    for row in rows:
        first = (
            f'<th scope="row">{as_text(row[0])}</th>'
            if row_heads
            else f"<td>{as_text(row[0])}</td>"
        )
        body += f"<tr>{first}" + "".join(f"<td>{as_text(c)}</td>" for c in row[1:]) + "</tr>"
    return (
        "<div "
        f'class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values, one below the other."""
    return (
        '<dl class="facts">'
        + "".join(f"<dt>{as_text(k)}</dt><dd>{as_text(v)}</dd>" for k, v in rows)
        + "</dl>"
    )


def folded(title: str, text: str) -> str:
    """Text that opens when it is asked for."""
    return f"<details><summary>{as_text(title)}</summary><pre>{as_text(text)}</pre></details>"
