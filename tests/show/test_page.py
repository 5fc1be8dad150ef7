"""The page: self-contained, escaped, and with a policy that lets nothing but our own script run."""

import base64
import hashlib
import json
import re
from xml.etree import ElementTree

from genseg.show.chart import Line, chart
from genseg.show.page import Page, Section, data_of, facts, figure, folded, render, svg_file, table

EVIL = "<script>alert(1)</script>"
BODY = figure("data:image/webp;base64,AA", EVIL, alt=f'"{EVIL}', size=(3, 4), jump=("found", 2))
BODY += table([EVIL, "b"], [[EVIL, EVIL]]) + facts([(EVIL, EVIL)]) + folded(EVIL, EVIL)
PAGE = Page(
    EVIL,
    EVIL,
    EVIL,
    [Section("found", EVIL, EVIL, BODY, EVIL, {"name": EVIL, "close": "</script>"})],
    [(EVIL, EVIL)],
)


def test_all_text_is_escaped() -> None:
    html = render(PAGE)
    # the data, and our own
    assert len(re.findall("<script", html)) == 2 and html.count("</script>") == 2
    assert "&lt;script&gt;alert(1)" in html


def test_no_absolute_path_is_said() -> None:
    path = "/home/ann/sets/nuclei/a.png"
    body = (
        figure("data:,", path, alt=path, size=(3, 4))
        + table([path], [[path, path]])
        + facts([(path, path)])
    )
    page = Page(
        path,
        path,
        path,
        [Section("a", path, path, body + folded(path, path), path)],
        [(path, path)],
    )
    html = render(page)
    assert (
        "ann" not in html.partition("<style>")[0] + html.partition("</style>")[2]
        and html.count("…/nuclei/a.png") == 18
    )


def test_the_data_come_back() -> None:
    (text,) = re.findall(
        r'<script type="application/json" id="page-data">(.*?)</script>', render(PAGE), re.S
    )
    data = json.loads(text)
    assert data["found"] == {"name": EVIL, "close": "</script>"} and len(data["palette"]) == 7
    assert data_of(render(PAGE)) == data and data_of("<p>another page") == {}
    cut = render(PAGE).partition('"close"')[0]  # a kill of another program while it copied
    assert data_of(cut) == {}


def test_the_policy_names_the_script_and_allows_no_source() -> None:
    html = render(PAGE)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy.startswith("default-src 'none';") and f"script-src 'sha256-{digest}'" in policy
    assert (
        not re.search(r'(src|href)="(?!data:|#)', html)
        and "@import" not in html
        and "url(" not in html
    )


def test_only_the_page_of_a_run_that_goes_on_reads_itself_again() -> None:
    assert 'data-refresh="0"' in render(PAGE)
    assert 'data-refresh="20"' in render(Page("a", "b", "c", [], running=True))


def test_a_chart_as_a_file_stands_alone() -> None:
    lines = [Line(f"<{n}>", [4, 16], [0.1, 0.2 + n / 10], [0.1, 0.0]) for n in range(3)]
    text = svg_file(chart("AP", lines, x_label="labels", dots=True), "A & <B>")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and "A & <B>" in [
        t.text for t in root.iter()
    ]
    style = next(e.text or "" for e in root.iter() if e.tag.endswith("style"))
    used = {c for e in root.iter() for c in e.get("class", "").split()}
    assert used >= {"c0", "c1", "c2", "bar", "rule"} and all(
        f".{c}" in style for c in used - {"chart"}
    )
    assert "var(" not in text and "url(" not in text and text.count("<svg") == 1
