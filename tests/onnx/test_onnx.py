"""An exported model finds without torch what it finds with it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from small import ENCODER, SMALL

import genseg
import genseg.onnx
from genseg.alpha.calibration import Calibration
from genseg.alpha.codes import GRIDS, REACH, STRIDE
from genseg.alpha.codes import Codes as TorchCodes
from genseg.alpha.decoder import AlphaDecoder
from genseg.alpha.generate import candidates as torch_candidates
from genseg.alpha.kept import FAINT, GenerateConfig
from genseg.alpha.model import AlphaModel, Look, load_alpha, save_alpha
from genseg.alpha.slots import SlotAttentionConfig, SlotDecoder
from genseg.cli import main
from genseg.core.names import ALPHA_NAME, MODEL_NAME
from genseg.core.reading import Reading
from genseg.data.instances.coco import annotate
from genseg.data.instances.instance import Instance
from genseg.measure.class_agnostic import class_agnostic
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.onnx.__main__ import find
from genseg.onnx.__main__ import main as without_torch
from genseg.onnx.decode import Codes, candidates, decode_near
from genseg.onnx.facts import KEY
from genseg.onnx.model import OnnxModel
from genseg.transfer.places import PlaceDetector, PlacesConfig
from genseg.transfer.predictor import Predictor, Preparation, load_predictor, save_predictor

pytest.importorskip("onnxscript", reason="ONNX is not installed")
runtime = pytest.importorskip("onnxruntime", reason="ONNX is not installed")

LOOK = Look(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25), side=96, stretch=True)
CHOSEN = GenerateConfig(
    candidate=0.3, score=0.3, overlap=0.85, inside=1.0, stability=0.5, min_area=9, tile=128
)


def decoder_of(encoder: Any) -> AlphaDecoder:
    """Random weights, so strong that alphas, scores and classes differ from place to place."""
    decoder = AlphaDecoder(encoder, SMALL)
    with torch.no_grad():
        assert decoder.propose.bias is not None
        decoder.propose.bias[0] = 0.5
        decoder.propose.weight.mul_(4)
        decoder.embed.weight.mul_(20)
        decoder.kernel.weight.mul_(8)
    return decoder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the alpha task and one of places, and both exported: alpha.onnx, places.onnx."""
    place = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    architecture = EncoderConfig(ENCODER)
    encoder = build_encoder(architecture)[0]
    model = AlphaModel(encoder, decoder_of(encoder), LOOK, CHOSEN)
    model.calibration = Calibration(1.3, 0.2)
    (place / "alpha").mkdir()
    save_alpha(model, place / "alpha" / ALPHA_NAME, architecture)
    config = PlacesConfig(decoder=SMALL, generate=CHOSEN)
    places = PlaceDetector(encoder, decoder_of(encoder), config, classes=2)
    torch.nn.init.normal_(places.classify.weight, std=2.0)
    preparation = Preparation(LOOK.mean, LOOK.std, fit=100, stretch=True)
    predictor = Predictor(places, ((3, "cat"), (7, "dog")), preparation)
    (place / "places").mkdir()
    save_predictor(predictor, architecture, place / "places" / MODEL_NAME)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.showwarning", lambda *_: None)
        for name in ("alpha", "places"):
            out = place / f"{name}.onnx"
            assert main(["export", str(place / name), "--out", str(out)]) == 0
    return place


@pytest.fixture(scope="module")
def alpha(runs: Path) -> AlphaModel:
    return load_alpha(runs / "alpha" / ALPHA_NAME)[0]


@pytest.fixture(scope="module")
def exported(runs: Path) -> OnnxModel:
    return genseg.onnx.load(runs / "alpha.onnx", threads=1)


def picture(h: int, w: int, seed: int = 0) -> np.ndarray:
    """Blurred noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 3.0))


def assert_same(found: Sequence[Instance], wanted: Sequence[Instance]) -> None:
    """The same instances. A level of 255 may be rounded to the next one, or at FAINT to nothing;
    and of one instance at most, a pixel of the decoder (STRIDE squared of the image) whose alpha is
    1/2 to seven digits may count in the mask, whose mean alpha is a part of the score, or not."""
    assert len(found) == len(wanted) > 2
    apart = [abs(a.score - b.score) for a, b in zip(found, wanted, strict=True)]
    assert sorted(apart)[-2] <= 1e-3
    for a, b in zip(found, wanted, strict=True):
        assert (a.top, a.left, a.alpha.shape, a.category) == (
            *(b.top, b.left, b.alpha.shape),
            b.category,
        )
        assert a.score == pytest.approx(b.score, abs=1e-3 + b.score * STRIDE**2 / b.area)
        levels = np.abs(a.alpha.astype(int) - b.alpha)
        assert levels.max() <= FAINT and (levels > 1).mean() < 2e-3


@pytest.mark.parametrize("side", [32, 96, 160])
@torch.no_grad()
def test_the_network_says_the_same_of_images_of_any_size_and_number(
    side: int, alpha: AlphaModel, exported: OnnxModel
) -> None:
    x = torch.randn(3, 3, side, 64)
    embeddings, places = alpha.decoder(alpha.encoder.pyramid(x))
    wanted = (embeddings, places.objectness, places.quality, alpha.decoder.kernel(places.vector))
    found = exported.session.run(
        ["embeddings", "objectness", "quality", "kernel"], {"image": x.numpy()}
    )
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_alphas_of_all_scales_are_those_of_torch(alpha: AlphaModel, exported: OnnxModel) -> None:
    """In windows, over the border of one, and where the last grid looks first."""
    torch.manual_seed(1)
    n, drawing = 150, exported.facts.drawing
    pixels = torch.randn(SMALL.embedding, 96, 80) * 2
    vector, place = torch.randn(n, SMALL.code), torch.rand(n, 2) * 170
    scale = torch.tensor(GRIDS)[torch.arange(n) % 3] * float(REACH)
    codes = TorchCodes(vector, place, scale, torch.zeros(n, dtype=torch.long))
    ours = Codes(alpha.decoder.kernel(vector).numpy(), place.numpy(), scale.numpy())

    def by_code(drawn: Any) -> dict[int, tuple[list[int], np.ndarray]]:
        return {
            int(code): (np.asarray(at).tolist(), np.asarray(a))
            for codes, corners, alphas in drawn
            for code, at, a in zip(codes, corners, alphas, strict=True)
        }

    wanted = by_code(alpha.decoder.decode_near(pixels, codes))
    found = by_code(decode_near(pixels.numpy(), ours, drawing))
    assert found.keys() == wanted.keys() and len({a.shape for _, a in found.values()}) > 3
    for code, (corner, a) in found.items():
        assert corner == wanted[code][0]
        assert np.abs(a - wanted[code][1]).max() < 1e-3


@torch.no_grad()
def test_what_is_decoded_before_doubles_go_is_the_same(
    alpha: AlphaModel, exported: OnnxModel
) -> None:
    image = picture(96, 128)
    embeddings, places = alpha.decoder(alpha.encoder.pyramid(alpha.tensor([image])))
    (wanted,) = torch_candidates(alpha.decoder, embeddings, places, CHOSEN)
    assert_same(candidates(exported.dense(image), exported.facts.drawing, CHOSEN), wanted)


@pytest.mark.parametrize("size", [(64, 96), (70, 83), (33, 300), (200, 260), (16, 20)])
def test_whole_images_padded_shrunk_and_in_tiles(
    size: tuple[int, int], alpha: AlphaModel, exported: OnnxModel
) -> None:
    image = picture(*size)
    assert_same(exported.instances(image), alpha.instances(image))


def test_the_ap_is_the_same(alpha: AlphaModel, exported: OnnxModel) -> None:
    """Of truths that are like what is found, as far as noise leaves them."""
    images = [picture(96, 128, seed) for seed in range(4)]
    wanted, found = ([model.instances(x) for x in images] for model in (alpha, exported))
    rng = np.random.default_rng(0)
    truth = [
        annotate(
            [replace(a, top=max(0, a.top + int(rng.integers(-2, 3)))) for a in some[::2]],
            height=110,
            width=140,
        )
        for some in wanted
    ]
    by_torch, by_onnx = (
        dict(class_agnostic([annotate(a, height=110, width=140) for a in some], truth))
        for some in (wanted, found)
    )
    assert 0.01 < by_torch["mask AP"] < 0.99
    assert by_onnx == pytest.approx(by_torch, abs=1e-3, nan_ok=True)


@pytest.mark.parametrize("size", [(64, 96), (150, 83), (12, 100)])
def test_a_detector_with_classes(size: tuple[int, int], runs: Path) -> None:
    image = picture(*size, seed=5)
    wanted = load_predictor(runs / "places")[0].detect(image)
    model = genseg.onnx.load(runs / "places.onnx")
    assert model.classes == ("cat", "dog")
    found = model.instances(image)
    assert_same(found, [d.instance for d in wanted if d.instance])
    assert {a.category for a in found} == {d.category for d in wanted}


def test_it_loads_as_a_run_does(runs: Path, alpha: AlphaModel) -> None:
    image = picture(70, 83)
    run, file = (genseg.load(runs / name, precision="fp32") for name in ("alpha", "alpha.onnx"))
    assert file.score == run.score == CHOSEN.score and file.classes == ("instance",)
    assert_same(file.instances(image).items, run.instances(image).items)
    half = CHOSEN.score / 2
    assert_same(file.instances(image, score=half).items, run.instances(image, score=half).items)
    assert genseg.load(runs / "places.onnx").score == 0.5


def test_a_folder_without_torch(runs: Path, tmp_path: Path) -> None:
    """In a process where importing torch fails."""
    folder, out = tmp_path / "images", tmp_path / "found"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), picture(64, 96)[..., ::-1])
    (folder / "b.png").write_bytes(b"no image")
    (tmp_path / "torch.py").write_text("raise ImportError('there is no torch here')")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    command = [sys.executable, "-m", "genseg.onnx", str(runs / "places.onnx"), str(folder)]
    done = subprocess.run(
        [*command, "--out", str(out), "--threads", "1"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "in 1 image; 1 image cannot be read" in done.stdout
    content = json.loads((out / "instances.json").read_bytes())
    found = genseg.onnx.load(runs / "places.onnx").instances(picture(64, 96))
    assert len(content["annotations"]) == len(found)
    assert {a["category_id"] for a in content["annotations"]} == {(3, 7)[a.category] for a in found}
    assert content["categories"] == [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    assert (out / "broken.txt").read_text().startswith("b.png\t")
    (tmp_path / "no").mkdir()
    (tmp_path / "no/b.png").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"no image can be read, the first: .*b\.png"):
        find(runs / "places.onnx", str(tmp_path / "no"), tmp_path / "nothing")


def test_the_guide(
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its first line is what the fixture has run."""
    text = (Path(__file__).parents[2] / "docs/guides/onnx.md").read_text()
    bash, python = (re.findall(rf"```{kind}\n(.*?)```", text, re.S) for kind in ("bash", "python"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alpha.onnx").symlink_to(runs / "alpha.onnx")
    (tmp_path / "FOLDER").mkdir()
    cv2.imwrite("FOLDER/0.png", picture(64, 96))
    exporting, finding = "".join(bash).splitlines()
    assert exporting == "genseg export runs/alpha --out alpha.onnx"
    assert finding.startswith("python -m genseg.onnx ")
    assert without_torch(finding.split()[3:]) == 0
    count = len(json.loads(Path("found/instances.json").read_bytes())["annotations"])
    capsys.readouterr()
    exec(compile("".join(python), "onnx.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == count > 0


def test_a_least_score_and_what_is_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture(64, 96))
    file, images = str(runs / "alpha.onnx"), str(tmp_path / "a.png")
    assert without_torch([file, images, "--out", str(tmp_path / "all")]) == 0
    assert without_torch([file, images, "--out", str(tmp_path / "some"), "--score", "0.6"]) == 0
    all_of, some = (
        json.loads((tmp_path / name / "instances.json").read_bytes())["annotations"]
        for name in ("all", "some")
    )
    assert 0 < len(some) < len(all_of) and min(a["score"] for a in some) >= 0.6
    capsys.readouterr()
    other = tmp_path / "other.onnx"
    other.write_bytes(b"no ONNX")
    for given, said in (
        ([file, images, "--out", str(tmp_path / "all")], "would be overwritten"),
        ([file, images, "--out", str(tmp_path / "new"), "--score", "2"], "score=2"),
        ([str(tmp_path / "no.onnx"), images, "--out", "new"], "there is no"),
        ([str(other), images, "--out", "new"], "is no ONNX file that onnxruntime can run"),
        ([file, str(tmp_path / "nowhere"), "--out", "new"], "does not exist"),
    ):
        assert without_torch(given) == 2
        assert said in capsys.readouterr().err
    (tmp_path / "taken").touch()
    assert without_torch([file, images, "--out", str(tmp_path / "taken")]) == 2
    assert main(["generate", file, images, "--out", str(tmp_path / "new")]) == 2
    assert f"python -m genseg.onnx {file} FOLDER" in capsys.readouterr().err


def test_a_file_that_genseg_has_not_written_is_refused(runs: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(runs / "alpha.onnx")
    (entry,) = [p for p in model.metadata_props if p.key == KEY]
    whole = json.loads(entry.value)
    for value, said in (
        (whole | {"kind": "other"}, "kind: got"),
        (whole | {"drawing": whole["drawing"] | {"hidden": 4}}, "its kernels have"),
        (whole | {"more": 1}, "unknown key more"),
    ):
        entry.value = json.dumps(value)
        onnx.save(model, tmp_path / "m.onnx")
        with pytest.raises(ValueError, match=said):
            genseg.onnx.load(tmp_path / "m.onnx")
    model.metadata_props.remove(entry)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="holds no alpha decoder that genseg has written"):
        genseg.onnx.load(tmp_path / "m.onnx")


def test_runs_that_go_into_no_file_of_the_kind(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    architecture = EncoderConfig(ENCODER)
    encoder = build_encoder(architecture)[0]
    slots = SlotDecoder(encoder, SlotAttentionConfig(), SMALL)
    (tmp_path / "slots").mkdir()
    save_alpha(
        AlphaModel(encoder, slots, LOOK, CHOSEN), tmp_path / "slots" / ALPHA_NAME, architecture
    )
    (tmp_path / "empty").mkdir()
    out = str(tmp_path / "m.onnx")
    for given, said in (
        ([str(tmp_path / "slots"), "--out", out], "proposes codes by slots"),
        ([str(tmp_path / "empty"), "--out", out], "ONNX is for runs with the alpha task"),
        ([str(runs / "alpha"), "--out", out, "--prefix", "a."], "--prefix is for encoders"),
    ):
        assert main(["export", *given]) == 2
        assert said in capsys.readouterr().err
    assert not Path(out).exists()


def test_a_file_reads_images_as_its_run_did(tmp_path: Path) -> None:
    """Two of three channels, in another order, of 16 bits and a range of the set."""
    torch.manual_seed(0)
    architecture = EncoderConfig(ENCODER, in_channels=2)
    encoder = build_encoder(architecture)[0]
    reading = Reading("3,1", "", ((100.0, 4000.0),))
    look = Look(mean=(0.4, 0.5), std=(0.2, 0.3), side=96, stretch=False, reading=reading)
    (tmp_path / "run").mkdir()
    model = AlphaModel(encoder, decoder_of(encoder), look, CHOSEN)
    save_alpha(model, tmp_path / "run" / ALPHA_NAME, architecture)
    deep = picture(96, 96).transpose(2, 0, 1).astype(np.uint16) * 15
    (tmp_path / "images").mkdir()
    file = tmp_path / "images/cells.ome.tif"
    tifffile.imwrite(file, deep, metadata={"axes": "CYX"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.showwarning", lambda *_: None)
        export = ["export", str(tmp_path / "run"), "--out", str(tmp_path / "two.onnx")]
        assert main(export) == 0
    find = [str(tmp_path / "two.onnx"), str(tmp_path / "images"), "--out", str(tmp_path / "found")]
    assert without_torch(find) == 0
    content = json.loads((tmp_path / "found/instances.json").read_text())
    wanted = genseg.load(tmp_path / "run", precision="fp32").instances(file)
    assert len(content["annotations"]) == len(wanted) > 2
    assert content["info"]["reading"] == {"channels": "3,1", "pages": ""}
    assert_same(list(genseg.load(tmp_path / "two.onnx").instances(file)), list(wanted))
