"""The live page, and in a browser: drop an image, click a place, move the threshold, download; loopback, no network."""

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
import torch
from decoded import decode_segmentation

from genseg.alpha.decoder import AlphaDecoder, DecoderConfig
from genseg.alpha.generate import GenerateConfig
from genseg.alpha.model import ALPHA_NAME, AlphaModel, Look, load_alpha, save_alpha
from genseg.cli import main
from genseg.data.instances import Instance
from genseg.nn.encoder import Encoder, EncoderConfig

SMALL = DecoderConfig(channels=(16, 16, 8, 8), embedding=5, code=6, hidden=3, tower=8)
PATIENCE = 30_000  # milliseconds, on a machine that is busy


def write_run(run: Path, seed: int) -> Path:
    """Random weights that find something everywhere."""
    torch.manual_seed(seed)
    encoder = Encoder(EncoderConfig())
    look = Look((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 512, True)
    model = AlphaModel(encoder, AlphaDecoder(encoder, SMALL), look, GenerateConfig(candidate=0, score=0.1, min_area=1))
    run.mkdir(parents=True)
    save_alpha(model, run / ALPHA_NAME, {"encoder": {"name": "resnet18"}})
    return run


def seen() -> Any:
    app = pytest.importorskip("genseg.recipes.app", reason="the live page needs gradio")
    pixels = np.full((40, 50, 3), (10, 200, 90), np.uint8)
    found = tuple(Instance(np.full((8, 8), 255, np.uint8), 5, 12 * n, 0.9 - 0.2 * n) for n in range(4))
    return app, app.Seen("<x>.png", pixels, found)


@pytest.mark.filterwarnings("ignore")  # gradio's imports
def test_the_json_of_a_shrunk_image_has_the_pixels_of_the_file(tmp_path: Path) -> None:
    app, _ = seen()
    model, _ = load_alpha(write_run(tmp_path / "run", 0) / ALPHA_NAME)
    cv2.imwrite(str(tmp_path / "large.png"), np.full((300, 2 * app.LONGEST, 3), 90, np.uint8))
    image = app.look(model, str(tmp_path / "large.png"))
    assert image.pixels.shape == (150, app.LONGEST, 3)
    made = app.coco(image, 0.0)
    assert (made["images"][0]["height"], made["images"][0]["width"]) == (300, 2 * app.LONGEST)
    assert made["annotations"][0]["segmentation"]["size"] == [300, 2 * app.LONGEST]
    box = np.array(made["annotations"][0]["bbox"])
    np.testing.assert_allclose(box, 2 * np.array(image.counted(0.0)[0].box), atol=4)


@pytest.mark.filterwarnings("ignore")  # gradio's imports
def test_what_is_shown_is_what_is_downloaded(tmp_path: Path) -> None:
    app, image = seen()
    assert [len(image.counted(s)) for s in (0.0, 0.5, 0.95)] == [4, 3, 0]
    coco = app.coco(image, 0.5)
    masks = [decode_segmentation(a["segmentation"], 40, 50) for a in coco["annotations"]]
    for mask, instance in zip(masks, image.found, strict=False):
        np.testing.assert_array_equal(mask * 255, instance.paint(40, 50))
    json_file, zip_file = app.downloads(image, 0.5, tmp_path)
    assert json.loads(Path(json_file).read_text()) == coco and coco["images"][0]["file_name"] == "<x>.png"
    with zipfile.ZipFile(zip_file) as archive:
        assert len(archive.namelist()) == 3
        rgba = cv2.imdecode(np.frombuffer(archive.read("cutout-1.png"), np.uint8), cv2.IMREAD_UNCHANGED)
    assert rgba.shape == (8, 8, 4) and (rgba == (90, 200, 10, 255)).all()


@pytest.mark.filterwarnings("ignore")
def test_what_was_picked_is_added_unless_it_is_shown_already() -> None:
    app, image = seen()
    new, same = (
        Instance(np.full((9, 9), 255, np.uint8), 25, 25, 0.1),
        Instance(np.full((8, 7), 255, np.uint8), 5, 0, 0.1),
    )
    for picked, more in ((new, 1), (same, 0)):
        got = app.replace(image, picked=(picked,))
        assert len(got.counted(0.5)) == 3 + more and len(got.counted(0.95)) == 1
        times = app.enlargement(got)
        drawn = app.drawn(got, 0.5, "Image")
        assert times == 14 and drawn.shape == (40 * times, 50 * times, 3)
        line = drawn[picked.top * times : (picked.top + 1) * times, (picked.left + 4) * times]
        assert (line == 255).all(1).any() and (line == 0).all(1).any()


@pytest.mark.filterwarnings("ignore")
def test_what_a_user_can_mend_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gradio")
    run = str(write_run(tmp_path / "run", 0))
    assert main(["app", str(tmp_path)]) == 2
    assert main(["app", run, "--port", "0"]) == 2
    assert main(["app", run, "--max-mb", "0"]) == 2
    said = capsys.readouterr().err
    assert "alpha.safetensors" in said and "--port 0: use a number" in said and "--max-mb 0: use 1 or more" in said


def test_a_request_at_work_when_the_server_ends_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the folder of files is not empty while it is removed, and the command ends with 1 instead of 130."""
    pytest.importorskip("gradio")
    from genseg.recipes import app

    class Page:
        """Writes a file after the other, until it is closed."""

        def __init__(self, models: object, folder: Path) -> None:
            self.closed = threading.Event()
            self.folder = folder

        def launch(self, **_: object) -> None:
            self.thread = threading.Thread(target=self.write)
            self.thread.start()
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()  # Ctrl-C, once it serves

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
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    try:
        assert main(["app", run, "--port", "4321"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page of two runs, served by the command itself."""
    pytest.importorskip("gradio", reason="the live page needs gradio")
    root = tmp_path_factory.mktemp("app")
    runs = [str(write_run(root / name, n)) for n, name in enumerate(("one", "two"))]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "genseg.cli", "app", *runs, "--port", str(port), "--max-mb", "1"]
    (root / "tmp").mkdir()
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "TMPDIR": str(root / "tmp")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith(f"http://127.0.0.1:{port} "), line + process.stdout.read()
        yield line.split()[0]
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)
        said = process.stdout.read()
        process.stdout.close()
    assert process.returncode == 130, said
    assert not list((root / "tmp").rglob("cutouts.zip")), "the server's files end with it"


def test_an_image_is_dropped_clicked_and_downloaded(
    chromium: Any, address: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "<b>x.png"), rng.integers(0, 255, (96, 128, 3), dtype=np.uint8))
    (tmp_path / "large.png").write_bytes(bytes(2_000_000))
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    page, elsewhere = context.new_page(), []
    page.on("request", lambda r: elsewhere.append(r.url) if not r.url.startswith((address, "data:", "blob:")) else None)
    page.goto(address)
    count, said = "#count textarea, #count input", "#said textarea, #said input"

    page.set_input_files("#image input[type=file]", str(tmp_path / "<b>x.png"))
    page.wait_for_selector("#result img")
    page.wait_for_function(f"document.querySelector('{count}').value.includes(' of ')")
    before = page.input_value(count)

    box = page.locator("#result img").bounding_box()
    times = 720 // 128  # as large as the picture is; the box may be smaller than it
    scale = times * min(box["width"] / (128 * times), box["height"] / (96 * times), 1)
    place = {"x": box["width"] / 2 + 20.5 * scale, "y": box["height"] / 2 - 10.5 * scale}
    page.locator("#result img").click(position=place)
    page.wait_for_function(f"document.querySelector('{said}').value.startsWith('At ')")
    words = page.input_value(said)
    x, y = map(int, re.findall(r"At (\d+), (\d+):", words)[0])
    assert abs(x - 84) <= 1 and abs(y - 37) <= 1 and (" px, " in words or "no instance" in words)

    number = page.locator("#score input[type=number]")
    number.fill("0.99")
    number.press("Enter")
    page.wait_for_function(f"document.querySelector('{count}').value !== {json.dumps(before)}")
    shown = int(page.input_value(count).split()[0])
    page.wait_for_timeout(500)  # until the button has the new file
    with page.expect_download() as download:
        page.click("#json")
    content = json.loads(Path(download.value.path()).read_text())
    assert len(content["annotations"]) == shown and content["images"][0]["height"] == 96
    with page.expect_download() as download:
        page.click("#cutouts")
    with zipfile.ZipFile(download.value.path()) as archive:
        assert len(archive.namelist()) == shown
    root = tmp_path_factory.getbasetemp()
    assert len(list(root.glob("app[0-9]*/tmp/**/cutouts.zip"))) == 1, "those of before are gone, Gradio's copies too"
    assert page.locator("h1, h2").count() == 2  # both runs, side by side
    assert elsewhere == []
    context.close()


def test_large_uploads_are_refused_and_nothing_but_this_machine_is_served(address: str) -> None:
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
    refused.value.close()
    port = int(address.rsplit(":", 1)[1])
    for other in {a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}:
        if not other.startswith("127."):
            with pytest.raises(OSError, match="refused|unreachable|timed out"):
                socket.create_connection((other, port), timeout=5)
