"""What commands say of how images are looked at: what is not used of them, how they are shrunk,
where work stands."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from genseg.cli import main
from genseg.data.images.png import write_png
from genseg.workflows.generate.records import keep_rows
from genseg.workflows.generate.shrinking import Shrinking
from genseg.workflows.pretrain.config import DataConfig

HOLDS = "it holds 5 z (axes ZYX) of 8 bits, 300 x 200 pixels: say what to use, by --pages max"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stack of 300 x 200 pixels and a plain picture of 90 x 60, with a square in each."""
    root = tmp_path / "photos"
    for name, scale in (("stack.tif", 10), ("b.png", 3)):
        page = np.full((20 * scale, 30 * scale), 30, np.uint8)
        page[5 * scale : 15 * scale, 5 * scale : 20 * scale] = 220
        if name.endswith(".png"):
            write_png(root / name, page)
        else:
            root.mkdir(exist_ok=True)
            tifffile.imwrite(
                root / name, np.stack([page] * 5), imagej=True, metadata={"axes": "ZYX"}
            )
    return root


def test_generate_and_evaluate_say_it_in_console_json_and_page(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, labels = tmp_path / "found", tmp_path / "found/instances.json"
    words = ["generate", "otsu", str(folder), "--out", str(out), "--side", "50"]
    assert main(words) == 2
    assert f"stack.tif: {HOLDS}, each, mean, 1 or 1:5" in capsys.readouterr().err
    assert main([*words, "--pages", "1"]) == 0
    said = capsys.readouterr().out
    shrunk = (
        "2 of 2 images are looked at smaller than they are, at 1/4.0 of their sides or more: "
        "where it is 1/4.0, nothing of less than 18 px across can be found; --side 0 looks at "
        "images in their own size"
    )
    assert said.count(f"note: {shrunk}\n") == 1
    info = json.loads(labels.read_bytes())["info"]
    assert info == {
        "notes": [shrunk],
        "shrunk_images": 2,
        "smallest_object_px": 18,
        "reading": {"channels": "", "pages": "1"},
    }
    page = (out / "report.html").read_text("utf-8")
    assert page.count(shrunk) == 1
    words = ["evaluate", "alpha", "otsu", "--data", _labels(folder, labels), "--side", "50"]
    assert main(words) == 2 and HOLDS in capsys.readouterr().err
    assert main([*words, "--pages", "max"]) == 0
    assert f"{shrunk}\n" in capsys.readouterr().out


def _labels(folder: Path, found: Path) -> str:
    content = json.loads(found.read_bytes())
    (folder / "labels.json").write_text(
        json.dumps({k: content[k] for k in ("images", "annotations", "categories")})
    )
    return str(folder / "labels.json")


def test_nothing_is_said_where_all_is_seen(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "stack.tif").unlink()
    assert (
        main(["generate", "otsu", str(folder), "--out", str(tmp_path / "found"), "--side", "60"])
        == 0
    )
    assert "note:" not in capsys.readouterr().out
    assert "info" not in json.loads((tmp_path / "found/instances.json").read_bytes())


def test_scan_says_it_and_visualize_asks(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scan", str(folder)]) == 0
    assert HOLDS[:60] in " ".join(capsys.readouterr().out.split())
    words = ["--pages", "2", "--out", str(tmp_path / "found")]
    assert main(["generate", "otsu", str(folder), *words]) == 0
    found = str(tmp_path / "found/instances.json")
    command = ["visualize", found, "--images", str(folder), "--out", str(tmp_path / "v.png")]
    assert main(command) == 0  # as the json was made


def test_the_smallest_object_is_that_of_the_most_shrunk_image() -> None:
    shrinking = Shrinking(lambda h, w: min(h, w) / 512, 2.0, "do something")
    found = shrinking.said([(6000, 9000), (1024, 4000), (512, 512), (100, 100)])
    # 2 * 6000 / 512 = 23.4
    assert found["shrunk_images"] == 2 and found["smallest_object_px"] == 24
    assert shrinking.said([(512, 999)]) == shrinking.said([]) == {}


@pytest.mark.parametrize(("images", "allowed"), [(3, 2), (99, 2), (300, 3), (1000, 10)])
def test_two_images_may_always_be_broken(images: int, allowed: int) -> None:
    assert DataConfig("folder").may_be_broken(images) == allowed
    assert DataConfig("folder", max_broken=0).may_be_broken(images) == 0


def test_an_interrupt_says_where_the_work_stands(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"

    def rows() -> object:
        yield {"id": 1}
        raise KeyboardInterrupt

    with pytest.raises(
        KeyboardInterrupt, match="interrupted: 4 of 9 images are done; the same command goes on"
    ):
        keep_rows(file, rows(), done=3, total=9, name="work", after=lambda: None)  # type: ignore[arg-type]
    assert json.loads(file.read_text()) == {"id": 1}


def test_generate_ends_with_130_on_ctrl_c(folder: Path, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom genseg import cli\nfrom genseg.reports import report\n"
        "report.LiveReport.update = lambda self: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    words = ["generate", "otsu", str(folder), "--out", str(tmp_path / "found"), "--pages", "1"]
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert "interrupted: 1 of 2 images are done; the same command goes on from there" in done.stderr
    assert "Traceback" not in done.stderr
