"""genseg from Python: the same instances as the command generates, of every kind of picture."""

import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from app_runs import write_run
from PIL import Image

import genseg
from genseg.cli import main
from genseg.workflows.generate.instances import Instances


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and three pictures."""
    place = tmp_path_factory.mktemp("api")
    write_run(place / "run", 4, score=0.02, overlap=0.99, inside=1.0)
    (place / "photos").mkdir()
    rng = np.random.default_rng(0)
    for n in range(3):
        pixels = cv2.GaussianBlur(
            rng.integers(0, 256, (70, 90 + n, 3)).astype(np.float32), (0, 0), 4
        )
        pixels = ((pixels - pixels.min()) * (255 / np.ptp(pixels))).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"photos/{n}.png")
    return place


def same(a: Instances, b: Instances) -> bool:
    return (a.scores == b.scores).all() and (a.alphas() == b.alphas()).all()


def test_they_are_those_of_the_command(place: Path) -> None:
    assert (
        main(["generate", str(place / "run"), str(place / "photos"), "--out", str(place / "found")])
        == 0
    )
    content = json.loads((place / "found/instances.json").read_text())
    model = genseg.load(place / "run")
    files = [place / "photos" / i["file_name"] for i in content["images"]]
    for image, found in zip(content["images"], model.instances(files), strict=True):
        listed = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        assert len(found) == len(listed) > 0
        mine = found.coco()["annotations"]
        assert [a["segmentation"] for a in mine] == [a["segmentation"] for a in listed]
        assert [a["score"] for a in mine] == [a["score"] for a in listed]


def test_every_kind_of_picture_gives_the_same(place: Path) -> None:
    model, file = genseg.load(str(place / "run")), place / "photos/0.png"
    found, pixels = model.instances(file), np.asarray(Image.open(file))
    deep = pixels.astype(np.uint16) * 257
    for picture in (
        str(file),
        Image.open(file),
        pixels,
        deep,
        np.dstack([pixels, np.full((70, 90), 255, np.uint8)]),
    ):
        assert same(model.instances(picture), found)
    grey = model.instances(pixels[..., 0])
    assert same(model.instances(np.repeat(pixels[..., :1], 3, axis=2)), grey)
    assert (found.image == pixels).all() and (found.height, found.width) == (70, 90)
    with pytest.raises(ValueError, match="is no image; give height x width"):
        model.instances(np.zeros((3, 70, 90)))
    with pytest.raises(ValueError, match=r"nowhere.png"):
        model.instances(place / "nowhere.png")


def test_a_higher_score_leaves_the_best(place: Path) -> None:
    model = genseg.load(place / "run")
    found = model.instances(place / "photos/0.png")
    least = float(np.median(found.scores))
    assert same(model.instances(place / "photos/0.png", score=least), found[found.scores >= least])
    assert found.scores.min() >= model.score and (np.diff(found.scores) <= 0).all()
    assert model.classes == ("instance",)


def test_it_pickles_by_its_path_and_is_used_by_threads(place: Path) -> None:
    model = genseg.load(place / "run")
    again = pickle.loads(pickle.dumps(model))
    assert repr(again) == repr(model) == f"genseg.load({str(place / 'run')!r})"
    files = [place / f"photos/{n}.png" for n in range(3)] * 2
    alone = [model.instances(f) for f in files]
    with ThreadPoolExecutor(3) as pool:
        assert all(map(same, pool.map(again.instances, files), alone))


def test_what_finds_no_instances_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="give a run of genseg pretrain with the alpha task, or a detector of"
    ):
        genseg.load(tmp_path)


def test_importing_genseg_imports_no_torch() -> None:
    script = (
        "import sys, genseg; assert 'torch' not in sys.modules and 'load' in dir(genseg); "
        "genseg.load"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(AttributeError, match="module 'genseg' has no attribute 'nothing'"):
        _ = genseg.nothing
    done = subprocess.run(
        [sys.executable, "-m", "genseg", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"genseg {genseg.__version__}"
