"""The live page, and in a browser: drop an image, click a place, move the threshold, download;
loopback, no network."""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from app_runs import write_run

from genseg.cli import main

PATIENCE = 30_000  # milliseconds, on a machine that is busy


@pytest.mark.filterwarnings("ignore")
def test_what_a_user_can_mend_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gradio")
    run = str(write_run(tmp_path / "run", 0))
    assert main(["app", str(tmp_path)]) == 2
    assert main(["app", run, "--port", "0"]) == 2
    assert main(["app", run, "--max-mb", "0"]) == 2
    said = capsys.readouterr().err
    assert (
        "alpha.safetensors" in said
        and "--port 0: use a number" in said
        and "--max-mb 0: use 1 or more" in said
    )


def test_a_request_at_work_when_the_server_ends_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the folder of files is not empty while it is removed, and the command ends with 1
    instead of 130."""
    pytest.importorskip("gradio")
    from genseg.reports import app

    class Page:
        """Writes a file after the other, until it is closed."""

        def __init__(self, models: object, folder: Path) -> None:
            self.closed = threading.Event()
            self.folder = folder

        def launch(self, **_: object) -> None:
            self.thread = threading.Thread(target=self.write)
            self.thread.start()
            # Ctrl-C, once it serves
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

        def write(self) -> None:
            for n in itertools.count():
                if self.closed.is_set() or not self.folder.exists():
                    return
                with contextlib.suppress(FileNotFoundError):
                    (self.folder / f"{n}.zip").touch()

        def close(self, **_: object) -> None:
            self.closed.set()
            self.thread.join()

    run = str(write_run(tmp_path / "run", 0))
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # put back afterwards
    monkeypatch.setattr(app, "page", Page)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # ignored where tests run in the background
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["app", run, "--port", "4321"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@contextlib.contextmanager
def served(root: Path, end: signal.Signals = signal.SIGINT, code: int = 130) -> Iterator[str]:
    """A page of two runs, served by the command itself until a signal, which leaves nothing of
    it."""
    pytest.importorskip("gradio", reason="the live page needs gradio")
    runs = [str(write_run(root / name, n)) for n, name in enumerate(("one", "two"))]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "genseg.cli", "app", *runs, "--port", str(port), "--max-mb", "1"]
    (root / "tmp").mkdir()
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(root / "tmp")},
        # ignored where tests run in the background
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    try:
        line, limits = process.stdout.readline(), process.stdout.readline()
        assert line.startswith(f"http://127.0.0.1:{port} "), line + process.stdout.read()
        assert "1 MB at most (--max-mb); 1,000 MB of temporary files" in limits
        yield line.split()[0]
    finally:
        os.killpg(process.pid, end)
        process.wait(90)
        said = process.stdout.read()
        process.stdout.close()
    assert process.returncode == code, said
    assert not [p for p in (root / "tmp").rglob("*") if p.is_file()], (
        "the server's files end with it"
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("app")) as address:
        yield address


COUNT, SAID, NOTE = (f"#{name} textarea, #{name} input" for name in ("count", "said", "note"))


@contextlib.contextmanager
def opened(chromium: Any, address: str, width: int = 1280) -> Iterator[Any]:
    """The page in a browser; at its end, nothing has been asked of another server."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    page, elsewhere = context.new_page(), []
    page.on(
        "request",
        lambda r: (
            elsewhere.append(r.url) if not r.url.startswith((address, "data:", "blob:")) else None
        ),
    )
    page.goto(address)
    yield page
    assert elsewhere == []
    context.close()


def drop(page: Any, file: Path) -> str:
    """Drop an image; how many instances the page says there are."""
    page.set_input_files("#image input[type=file]", str(file))
    page.wait_for_selector("#result img")
    page.wait_for_function(f"document.querySelector('{COUNT}').value.includes(' of ')")
    return str(page.input_value(COUNT))


def noise(file: Path, height: int = 96, width: int = 128) -> Path:
    cv2.imwrite(
        str(file), np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    )
    return file


def click(page: Any, x: float, y: float) -> str:
    """Click in the picture of an image of 128 x 96 pixels, at x and y from its middle; what the
    page says there is."""
    before = page.input_value(SAID)
    box = page.locator("#result img").bounding_box()
    times = 720 // 128  # as large as the picture is; the box may be smaller than it
    scale = times * min(box["width"] / (128 * times), box["height"] / (96 * times), 1)
    page.locator("#result img").click(
        position={"x": box["width"] / 2 + x * scale, "y": box["height"] / 2 + y * scale}
    )
    page.wait_for_function(f"document.querySelector('{SAID}').value !== {json.dumps(before)}")
    return str(page.input_value(SAID))


def exported(page: Any) -> dict[str, Any]:
    page.wait_for_timeout(500)  # until the button has the new file
    with page.expect_download() as download:
        page.click("#json")
    content: dict[str, Any] = json.loads(Path(download.value.path()).read_text())
    return content


def test_an_image_is_dropped_clicked_and_downloaded(
    chromium: Any, address: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with opened(chromium, address) as page:
        before = drop(page, noise(tmp_path / "<b>x.png"))
        words = click(page, 20.5, -10.5)
        x, y = map(int, re.findall(r"at (\d+), (\d+)", words)[0])
        assert abs(x - 84) <= 1 and abs(y - 37) <= 1 and "best guess" in words

        number = page.locator("#score input[type=number]")
        number.fill("0.05")
        number.press("Enter")
        page.wait_for_function(f"document.querySelector('{COUNT}').value !== {json.dumps(before)}")
        assert "counts already" in page.input_value(SAID), (
            "a guess of less than the threshold before"
        )
        shown = int(page.input_value(COUNT).split()[0])
        content = exported(page)
        assert len(content["annotations"]) == shown and content["images"][0]["height"] == 96
        with page.expect_download() as download:
            page.click("#cutouts")
        with zipfile.ZipFile(download.value.path()) as archive:
            assert len(archive.namelist()) == shown
        temporary = next(tmp_path_factory.getbasetemp().glob("app[0-9]*/tmp"))
        assert len(list(temporary.glob("**/cutouts.zip"))) == 1, (
            "those of before are gone, Gradio's copies too"
        )
        assert not [p for p in temporary.rglob("*") if "x.png" in p.name], "the upload is gone"
        assert page.locator("h1, h2").count() == 2  # both runs, side by side


def test_a_guess_counts_when_it_is_kept_until_it_is_clicked_again(
    chromium: Any, address: str, tmp_path: Path
) -> None:
    with opened(chromium, address) as page:
        number = page.locator("#score input[type=number]")
        number.fill("1")
        number.press("Enter")
        assert drop(page, noise(tmp_path / "x.png")).startswith("0 of ")
        places = ((x, y) for y in range(-40, 41, 16) for x in range(-56, 57, 16))
        x, y = next(p for p in places if "best guess" in click(page, *p))
        assert re.match(r"Nothing here \(best guess 0\.\d\d\)\.", page.input_value(SAID))
        assert page.input_value(COUNT).startswith("0 of ") and exported(page)["annotations"] == []
        page.click("#keep")
        page.wait_for_function(f"document.querySelector('{COUNT}').value.startsWith('1 of ')")
        assert (
            "1 kept by you" in page.input_value(COUNT) and len(exported(page)["annotations"]) == 1
        )
        assert not page.is_enabled("#keep")
        assert click(page, x, y).startswith("Removed")
        assert page.input_value(COUNT).startswith("0 of ") and exported(page)["annotations"] == []


def test_a_file_that_cannot_be_read_is_named_in_the_page_and_a_tiff_is_shown(
    chromium: Any, address: str, tmp_path: Path
) -> None:
    (tmp_path / "no.png").write_bytes(b"hello, this is no png")
    tifffile.imwrite(
        tmp_path / "dim.tif", np.arange(96 * 128, dtype=np.uint8).reshape(96, 128) % 32
    )
    (tmp_path / "large.png").write_bytes(bytes(2_000_000))
    with opened(chromium, address, width=390) as page:
        page.set_input_files("#image input[type=file]", str(tmp_path / "no.png"))
        page.wait_for_selector(NOTE)
        assert page.input_value(NOTE).startswith(
            "no.png cannot be read: no image format that can be read"
        )
        assert page.locator(".toast-body").count() == 0
        drop(page, tmp_path / "dim.tif")
        assert page.input_value(NOTE) == "dim.tif: shown 8.2 times as bright."
        page.wait_for_function("document.querySelector('#image img').naturalWidth === 128")
        assert page.evaluate("document.documentElement.scrollWidth") == 390, "nothing is cut off"
        page.click("#image button[aria-label='Remove Image']")
        page.wait_for_function(f"document.querySelector('{COUNT}').value.startsWith('Drop')")
        assert page.locator(NOTE).count() == 0
        page.set_input_files("#image input[type=file]", str(tmp_path / "large.png"))
        page.wait_for_selector(".toast-body")
        assert "larger than 1 MB" in page.inner_text(
            ".toast-body"
        ) and "--max-mb 2" in page.inner_text(".toast-body")


def test_large_uploads_and_strangers_are_refused_and_nothing_but_this_machine_is_served(
    address: str,
) -> None:
    import urllib.error
    import urllib.request

    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        + bytes(2_000_000)
        + b"\r\n--x--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{address}/gradio_api/upload", body, headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 413
    assert b"--max-mb 2" in refused.value.read()
    refused.value.close()
    small = body.replace(bytes(2_000_000), b"small")
    for stranger in (
        {"Origin": "http://evil.example"},
        {"Host": "evil.example"},
        {"Origin": "null"},
    ):
        for path, content in (("upload", small), ("info", None)):
            request = urllib.request.Request(
                f"{address}/gradio_api/{path}", content, headers | stranger
            )
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=30)
            assert refused.value.code == 403 and not [
                h for h in refused.value.headers if "allow-origin" in h.lower()
            ]
            refused.value.close()
    with urllib.request.urlopen(
        urllib.request.Request(f"{address}/gradio_api/upload", small, headers), timeout=30
    ) as got:
        assert got.status == 200
    port = int(address.rsplit(":", 1)[1])
    for other in {
        a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
    } - {"127.0.0.1"}:
        if not other.startswith("127."):
            with pytest.raises(OSError, match="refused|unreachable|timed out"):
                socket.create_connection((other, port), timeout=5)


def test_the_end_waits_for_an_image_that_is_being_looked_at(chromium: Any, tmp_path: Path) -> None:
    """Else PyTorch aborts the process: its thread is ended in the middle of an operator."""
    (tmp_path / "app").mkdir()
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((300, 300, 3), np.uint8))  # takes seconds
    with (
        served(tmp_path / "app", signal.SIGTERM, 143) as address,
        opened(chromium, address) as page,
    ):
        with page.expect_response("**/queue/join*"):
            page.set_input_files("#image input[type=file]", str(tmp_path / "x.png"))
        page.wait_for_timeout(300)
        assert page.locator("#result img").count() == 0
