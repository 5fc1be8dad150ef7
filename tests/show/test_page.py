"""The page: self-contained, escaped, and with a policy that lets nothing but our own script run."""

import base64
import hashlib
import json
import re

from genseg.show.page import Page, Section, facts, figure, folded, render, table

EVIL = "<script>alert(1)</script>"
BODY = figure("data:image/webp;base64,AA", EVIL, alt=f'"{EVIL}', size=(3, 4), jump=("found", 2))
BODY += table([EVIL, "b"], [[EVIL, EVIL]]) + facts([(EVIL, EVIL)]) + folded(EVIL, EVIL)
PAGE = Page(
    EVIL, EVIL, EVIL, [Section("found", EVIL, EVIL, BODY, EVIL, {"name": EVIL, "close": "</script>"})], [(EVIL, EVIL)]
)


def test_all_text_is_escaped() -> None:
    html = render(PAGE)
    assert len(re.findall("<script", html)) == 2 and html.count("</script>") == 2  # the data, and our own
    assert "&lt;script&gt;alert(1)" in html


def test_the_data_come_back() -> None:
    (text,) = re.findall(r'<script type="application/json" id="page-data">(.*?)</script>', render(PAGE), re.S)
    data = json.loads(text)
    assert data["found"] == {"name": EVIL, "close": "</script>"} and len(data["palette"]) == 7


def test_the_policy_names_the_script_and_allows_no_source() -> None:
    html = render(PAGE)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy.startswith("default-src 'none';") and f"script-src 'sha256-{digest}'" in policy
    assert not re.search(r'(src|href)="(?!data:|#)', html) and "@import" not in html and "url(" not in html


def test_only_the_page_of_a_run_that_goes_on_reads_itself_again() -> None:
    assert 'data-refresh="0"' in render(PAGE)
    assert 'data-refresh="20"' in render(Page("a", "b", "c", [], running=True))
