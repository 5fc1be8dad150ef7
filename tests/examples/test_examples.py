"""The examples run: the notebook cell by cell, the scripts as commands."""

import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import notebook_cells
import numpy as np
import pytest
from app_runs import write_run
from PIL import Image

import genseg

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "nuclei.ipynb"
PATIENCE = 240  # seconds that Ray may take
# Ray of this machine alone, and no larger than a test needs
RAY = """
import runpy, sys, ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five images, below the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(5):
        Image.fromarray(rng.integers(0, 256, (48, 40, 3), np.uint8)).save(folder / f"{n}.png")
    return folder


@pytest.mark.usefixtures("few_composites")
def test_the_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENSEG_EXAMPLE_IMAGES", "8")  # one update
    notebook_cells.run(NOTEBOOK)
    said = capsys.readouterr().out
    assert "29 can be read, 0 are broken" in said
    assert said.count("displayed b'\\x89PNG': Instances(") == 2
    (line,) = (line for line in said.splitlines() if line.startswith("mask AP "))
    assert float(line.split()[-1]) > 0.4  # of otsu, which learns nothing
    found = json.loads((tmp_path / "runs/nuclei/found/instances.json").read_text())
    assert len(found["images"]) == 10 and (tmp_path / "runs/nuclei/one.json").is_file()


def test_the_notebook_is_stored_without_outputs() -> None:
    content = json.loads(NOTEBOOK.read_text("utf-8"))
    assert content["nbformat"] == 4
    for cell in content["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_links_of_the_notebook_and_the_readme_lead_somewhere() -> None:
    links = [
        *notebook_cells.cells(NOTEBOOK, "markdown"),
        (EXAMPLES / "README.md").read_text("utf-8"),
    ]
    targets = [part.split(")")[0] for text in links for part in text.split("](")[1:]]
    assert len(targets) >= 4
    for target in targets:
        assert (EXAMPLES / target).exists(), target
    listed = {file.name for file in EXAMPLES.iterdir() if not file.name.startswith((".", "_"))}
    assert listed == {t for t in targets if "/" not in t} | {"README.md"}


def test_an_own_loop_trains_an_encoder_that_genseg_loads(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["own_loop.py", str(photos), "--steps", "2", "--batch", "4", "--run", "own"]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(EXAMPLES / "own_loop.py"), run_name="__main__")
    assert "step 2 of 2: loss " in capsys.readouterr().out
    vectors = genseg.load("own").embed(photos / "0.png")
    assert vectors.shape == (1, 512) and np.isfinite(vectors).all()


def test_ray_finds_what_the_model_finds(photos: Path) -> None:
    """In a process of its own, which may be ended: Ray has waited for ever on a machine that was
    too busy."""
    pytest.importorskip("ray", reason="the script needs Ray: pip install 'ray[data]'")
    write_run(Path("run"), 4, score=0.02, overlap=0.99, inside=1.0)
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0"}
    script = str(EXAMPLES / "ray_generate.py")
    with Path("said.txt").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", RAY, script, "run", str(photos), "--out", "found"],
            env={**os.environ, **quiet},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pytest.skip(f"Ray has not finished within {PATIENCE} s: this machine is too busy")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # Ray's own processes go with this one
                process.wait()
    assert code == 0, Path("said.txt").read_text()
    lines = [line for f in Path("found").glob("*.json") for line in f.read_text().splitlines()]
    found = {Path(row["file"]).name: row["instances"] for row in map(json.loads, lines)}
    assert sorted(found) == [f"{n}.png" for n in range(5)]
    model = genseg.load("run")
    for name, instances in found.items():
        expected = model.instances(photos / name)
        assert len(instances) == len(expected) > 0
        # another number of threads, another sum
        areas = [a["area"] for a in instances]
        np.testing.assert_allclose(areas, expected.areas, rtol=0.02, atol=2)
