"""docs/reference/ says what the code says, and a link of docs/ that leaves it becomes a path."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tool_files import ROOT, tool


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return tool("reference")


def test_the_pages_say_what_the_code_says(reference: ModuleType) -> None:
    old = [file.name for file in reference.stale(ROOT / "docs" / "reference")]
    assert not old, f"run python tools/reference.py: {', '.join(old)}"


def test_a_page_that_is_old_or_missing_is_found(
    reference: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    monkeypatch.setattr(reference, "PAGES", {"run.md": reference.run, "keys.md": reference.keys})
    folder = tmp_path / "docs" / "reference"
    folder.parent.mkdir()

    def said(*words: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["reference.py", *words])
        with pytest.raises(SystemExit) as end:
            reference.main()
        return int(end.value.code or 0), capsys.readouterr().out

    code, words = said("--check")
    assert code == 1 and "docs/reference/run.md" in words and "keys.md" in words
    assert not folder.exists()
    assert said() == (0, "")
    assert said("--check") == (0, "")
    (folder / "run.md").write_text((folder / "run.md").read_text().replace("banks/", "bank/"))
    code, words = said("--check")
    assert code == 1 and "run.md is out of date" in words and "keys.md" not in words
    assert said() == (0, "") and said("--check") == (0, "")


def test_a_help_text_is_the_same_on_every_terminal(
    reference: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = reference.commands()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert reference.commands() == wide
    assert "usage: genseg evaluate alpha " in wide and "\x1b" not in wide
    assert max(map(len, wide.splitlines())) <= 100


def test_every_name_of_the_api_and_every_file_of_a_run_is_explained(reference: ModuleType) -> None:
    import genseg
    from genseg.runs.folder import CONTENT, FOLDERS

    headings = set(re.findall(r"^## (.*)$", reference.api(), re.M))
    wanted = {f"genseg.{verb}" for verb in genseg.VERBS}
    assert headings >= wanted | {"genseg.load", "Model", "Instances"}
    page = reference.run()
    for name in (*CONTENT, *(f"{folder}/" for folder in FOLDERS)):
        assert f"`{name}`" in page, name


def test_text_in_quotes_is_no_name_of_a_module(reference: ModuleType) -> None:
    assert reference._short("file: pathlib.Path = 'a.png'") == 'file: Path = "a.png"'
    assert reference._short("a: float = 0.5, b: typing.Any = ()") == "a: float = 0.5, b: Any = ()"


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("[datasets/README.md](../../datasets/README.md)", "`datasets/README.md`"),
        ("[the `sets`](../../datasets/README.md#x)", "the `sets` (`datasets/README.md`)"),
        *((same, same) for same in ("[log](../DESIGN.md)", "![a](../show/app.png)", "[b](c.md)")),
        *((same, same) for same in ("[gone](../../datasets/no.md)", "[up](../../../a)")),
        ("`[a](../../Makefile)`", "`[a](../../Makefile)`"),
        ("```\n[a](../../Makefile)\n```", "```\n[a](../../Makefile)\n```"),
    ],
)
def test_a_link_that_leaves_the_docs_becomes_a_path(given: str, made: str) -> None:
    assert tool("docs_hook").without_outside_links(given, "results/alpha.md") == made


def test_the_site_can_be_built(tmp_path: Path) -> None:
    """Where mkdocs is installed. Broken links and pages that are missing make it fail."""
    if importlib.util.find_spec("material") is None:
        pytest.skip("the site needs pip install 'genseg[docs]'")
    words = ["build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?([^\" >]+)", page.read_text())
        loaded += re.findall(r"<link[^>]* rel=\"?stylesheet\"?[^>]*>", page.read_text())
        assert not [a for a in loaded if "//" in a], f"{page.name} asks the network"
