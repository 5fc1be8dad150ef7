"""genseg evaluate representation: its numbers, where they are left, what it refuses, and the pages
that show them."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_made import write_blobs
from noise import write_classes

import genseg
from genseg.cli import main
from genseg.core.names import CONFIG_NAME, ENCODER_NAME, REPRESENTATION_NAME
from genseg.data.images.pixels import centre
from genseg.data.images.source import decode
from genseg.data.scenes.factors import factors_of
from genseg.data.scenes.scenes import compose_object, compose_scene
from genseg.measure.features import features, stage_features
from genseg.nn.encoder import Encoder, EncoderConfig
from genseg.nn.encoder_file import EncoderFacts, save_encoder
from genseg.reports.index import write_index
from genseg.reports.report import write_report
from genseg.workflows.evaluate import representation_sets
from genseg.workflows.evaluate.representation import evaluate_representation
from genseg.workflows.evaluate.representation_sets import measured_images
from genseg.workflows.evaluate.representation_table import read_layers

LOOK = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
TINY = EncoderConfig("tu-test_resnet")  # 96 dimensions
WIDTHS = (32, 32, 48, 192, 96)
CONFIG = "run: x\nmethod: {name: byol}\ndata: {path: images}\n"


def write_run(folder: Path, seed: int, *, broken: bool = False) -> Path:
    """A run directory with an encoder of random weights."""
    torch.manual_seed(seed)
    encoder = Encoder(TINY)
    for p in encoder.parameters() if broken else ():
        p.data.fill_(1e38)  # what overflows is not finite
    folder.mkdir()
    save_encoder(encoder, folder / ENCODER_NAME, EncoderFacts(TINY, "byol", size=32, **LOOK))
    (folder / CONFIG_NAME).write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, a and b, and two classes of noise; measured by the command, a by stage."""
    place = tmp_path_factory.mktemp("place")
    for n, name in enumerate("ab"):
        write_run(place / name, n)
    (place / "images").mkdir()
    write_classes(place / "images", 24, ".png")
    data = ["--data", str(place / "images")]
    assert main(["evaluate", "representation", str(place / "a"), *data, "--layers"]) == 0
    return place


def test_the_numbers_are_those_that_are_left_behind(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [place / "a", place / "b"]
    kept = (place / "a" / REPRESENTATION_NAME).read_text()
    out = place / "all.json"
    scores = genseg.evaluate_representation(runs, place / "images", out=out)
    assert (place / "a" / REPRESENTATION_NAME).read_text() == kept, "out takes its place"
    by_stage = read_layers(json.loads(kept))["a"]
    assert list(by_stage) == [f"stage {n}" for n in range(1, 6)]
    assert by_stage["stage 5"].measures == scores[str(runs[0])], "by stage or not, it is the same"
    content = json.loads(out.read_text())
    for run in map(str, runs):
        found = read_layers(content)[run]["stage 5"].measures
        assert {n: e.value for n, e in found.items()} == scores.numbers()[run]
    a, b, cka, error = content["similarity"][0]
    assert (a, b) == tuple(map(str, runs)) and 0 < cka < 1 and 0 < error < 0.5
    text = scores.text()
    for words in (
        "24 images of 2 classes",
        "24 images are few for 96 dimensions",
        "accuracy of 20 neighbours     ",
        "similarity (linear CKA, 0 to 1)\n  1 and 2: 0.",
    ):
        assert words in text, words
    line = next(row for row in text.splitlines() if "relative change by noise" in row)
    assert re.fullmatch(r"  relative change by noise +lower( +[\d.]+ ± [\d.]+){2}", line)
    assert all(math.isfinite(v) for v in scores.numbers()[str(runs[0])].values())
    assert "total_correlation" not in scores[str(runs[0])], "fewer images than dimensions"


def test_stages_end_with_the_features_that_all_other_measures_use(place: Path) -> None:
    encoder = Encoder(TINY)
    files = sorted((place / "images").rglob("*.png"))

    class Files:
        def read(self, i: int) -> tuple[np.ndarray, int]:
            return decode(files[i]), i

    def twice(i: int) -> np.ndarray:
        pixels = centre(Files().read(i)[0], 32)
        return np.stack([pixels, pixels[::-1]])

    stages = stage_features(encoder, twice, range(5), batch=4, **LOOK)
    plain = features(encoder, Files(), range(5), size=32, **LOOK)
    assert [tuple(s.shape) for s in stages] == [(5, 2, d) for d in WIDTHS]
    assert torch.allclose(stages[-1][:, 0], plain, atol=1e-4)
    assert encoder.training and not torch.allclose(stages[-1][:, 1], plain, atol=1e-4)


def test_a_report_shows_the_measures_and_a_page_compares_runs(place: Path) -> None:
    genseg.evaluate_representation(place / "b", place / "images", baselines=True)
    reports = [write_report(place / name, look=False).read_text() for name in "ab"]
    for html, words in zip(
        reports,
        (("By stage of the encoder", "All measures by stage"), ("batch norms fitted",)),
        strict=True,
    ):
        section = html.partition('id="representation"')[2].partition("</section>")[0]
        for word in ("Effective rank".lower(), "Spectrum: variance", "Clusters", *words):
            assert word in section, word
    assert "By stage" not in reports[1]
    page = write_index(place).read_text()
    table = page.partition("Representations on")[2].partition("</table>")[0]
    assert ">a</th>" in table and ">b</th>" in table and "24 images of 2 classes" in table
    damaged = place / "a" / REPRESENTATION_NAME
    kept = damaged.read_text()
    damaged.write_text('{"runs": 3}')
    assert "make it anew with genseg evaluate representation" in write_index(place).read_text()
    damaged.write_text(kept)


def test_label_sets_of_a_coco_json(tmp_path: Path) -> None:
    path = write_blobs(tmp_path, count=4, each=7)
    content = json.loads(path.read_text())
    for n, image in enumerate(content["images"]):
        image |= {"kind": "ab"[n % 2], "dose": float(n), "name": f"plate {n}", "license": 1}
    path.write_text(json.dumps(content))
    found = measured_images(str(path), images=0, seed=0)
    assert found.what == "24 objects of 2 categories" and len(found.indices) == 24
    assert set(found.factors) == {"class", "position", "size", "kind", "dose"}
    assert found.factors["kind"].dtype == torch.int64 and found.factors["dose"].shape == (24, 1)
    assert "all images have the same count: it is left out" in found.notes
    left, top, width, height = content["annotations"][0]["bbox"]
    image = content["images"][0]
    place = [(left + width / 2) / image["width"], (top + height / 2) / image["height"]]
    assert found.factors["position"][0].tolist() == pytest.approx(place)
    side = math.log2(width * height / image["width"] / image["height"]) / 2
    assert float(found.factors["size"][0]) == pytest.approx(side, abs=1e-5)
    whole = measured_images(str(path), images=3, seed=0, of="images")
    assert whole.what == "3 images, whose classes are their kind"
    assert whole.source.read(whole.indices[0])[0].shape[0] >= 75
    assert set(whole.factors) >= {"kind", "dose", "position", "size"}
    assert len({len(f) for f in whole.factors.values()}) == 1
    path.write_text(json.dumps({**content, "annotations": []}))
    assert measured_images(str(path), images=0, seed=0).labels is None


def test_what_is_known_of_embedded_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = compose_scene(3, 0, size=64)
    found = factors_of(scene)
    seen = scene.visible.sum((1, 2))
    k = int(seen.argmax())
    y, x = np.mgrid[:64, :64]
    assert found["count"] == [len(scene.labels)]
    assert found["size"] == pytest.approx([math.sqrt(seen[k]) / 64])
    centre = [float((scene.visible[k] * (a + 0.5)).sum() / seen[k] / 64) for a in (x, y)]
    assert found["position"] == pytest.approx(centre, rel=1e-4)
    red = scene.colour.copy()
    red[k + 1] = (1, 0, 0)
    lab = factors_of(type(scene)(**{**vars(scene), "colour": red}))["colour"]
    assert lab == pytest.approx([53.2, 80.1, 67.2], abs=0.2)  # sRGB's red in CIE Lab
    known = {f"{i}": factors_of(compose_object(0, i, size=64)) for i in range(6)}
    write_classes(tmp_path, 6, ".png")
    monkeypatch.setattr(representation_sets, "default_scenes", lambda kind: tmp_path)
    monkeypatch.setattr(representation_sets, "default_factors", lambda kind: known)
    sets = measured_images("embedded", images=0, seed=0)
    assert set(sets.factors) == {"class", "colour", "position", "size"}
    first = sets.source.images.path(sets.indices[0]).stem
    assert sets.factors["colour"][0].tolist() == pytest.approx(known[first]["colour"])


@pytest.mark.parametrize(
    ("kept", "note"),
    [
        ("a", "there are no classes: measures of classes are left out"),
        ("ab", "1 class with one image: left out of the measures of classes"),
    ],
)
def test_what_is_left_out_is_said(kept: str, note: str, place: Path, tmp_path: Path) -> None:
    for n, file in enumerate(sorted((place / "images").rglob("*.png"))):
        folder = tmp_path / (file.parent.name if kept == "ab" else "")
        if file.parent.name == "b" and (kept == "a" or len([*folder.glob("*")]) == 1):
            folder = tmp_path / ("c" if kept == "ab" else "")
        folder.mkdir(exist_ok=True)
        (folder / f"{n}.png").write_bytes(file.read_bytes())
    assert note in measured_images(str(tmp_path), images=0, seed=0).notes


def test_mistakes_end_with_what_to_do(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, run = str(place / "images"), str(place / "a")
    broken = str(write_run(tmp_path / "broken", 0, broken=True))
    for words, message in (
        ([broken, "--data", images], "broken: the embeddings of 24 of 24 images are not finite"),
        ([run, "--data", images, "--images", "9"], "9 images are too few to measure embeddings by"),
        ([run, "--data", images, "--images", "-1"], "images=-1: use 0 or more"),
        ([run, run, "--data", images], "is given twice; give it once"),
        ([run, "--data", images, "--of", "objects"], "--of objects is for a COCO json"),
        ([str(tmp_path), "--data", images], "give a run directory that has encoder.safetensors"),
        ([run, "--data", str(tmp_path / "no")], "does not exist; give a folder of images"),
        ([run, "--data", images, "--out", str(tmp_path)], str(tmp_path)),
    ):
        assert main(["evaluate", "representation", *words]) == 2, words
        said = capsys.readouterr().err
        assert said.startswith("genseg evaluate: ") and message in said, said
    with pytest.raises(ValueError, match="give a run directory or an encoder.safetensors"):
        evaluate_representation([], images)
