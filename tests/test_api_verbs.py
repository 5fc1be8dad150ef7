"""genseg from Python: every command is a function that returns numbers and paths."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_made import write_blobs
from safetensors.torch import load_file
from small import ENCODER

import genseg
from genseg.cli import main
from genseg.core.result import Result

TINY = {"steps": 2, "batch_size": 4, "threads": 1, "data.workers": 0, "views.both.size": 32}
TINY |= {"encoder.name": ENCODER}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled images, a run of pretraining and one of fine-tuning."""
    place = tmp_path_factory.mktemp("verbs")
    write_blobs(place / "train", count=5, each=6)
    write_blobs(place / "val", count=3, each=6, seed=1)
    genseg.pretrain(place / "train/images", run=place / "mine", recipe="simclr", **TINY)
    keys = {"steps": 2, "batch_size": 2, "augment.size": 64, "threads": 1, "data.workers": 0}
    for name in ("faster_rcnn", "unet"):
        small = {"model.width": 16, "model.hidden": 32} if name == "faster_rcnn" else {}
        genseg.finetune(
            place / "train/labels.json",
            val=place / "val/labels.json",
            encoder=place / "mine",
            recipe=name,
            run=place / name,
            **keys,
            **small,
        )
    return place


def test_pretraining_is_that_of_the_command_and_goes_on(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"{k}={v}" for k, v in TINY.items()]
    data, run = place / "train/images", place / "by_command"
    assert main(["pretrain", "--config", "simclr", f"data.path={data}", f"run={run}", *words]) == 0
    mine, other = (load_file(p / "encoder.safetensors") for p in (place / "mine", run))
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    capsys.readouterr()
    again = genseg.pretrain(data, run=place / "mine", recipe="simclr", **TINY)
    assert again.complete and (again.step, again.steps, again.images_seen) == (2, 2, 8)
    assert again.encoder == place / "mine/encoder.safetensors" and again.knn == ()
    assert (
        again.text()
        in capsys.readouterr().out
        == again.text() + "\n" + (f"report: {place / 'mine/report.html'}\n")
    )
    with pytest.raises(ValueError, match="unknown key optimizer.rate"):
        genseg.pretrain(data, run=place / "new", **{"optimizer.rate": 1})
    with pytest.raises(ValueError, match="simclr, "):
        genseg.pretrain(data, run=place / "new", recipe="simcrl")


def test_scores_are_a_mapping_and_print_as_a_table(place: Path, tmp_path: Path) -> None:
    scores = genseg.evaluate(place / "faster_rcnn", place / "val/labels.json")
    kept = json.loads((place / "faster_rcnn/scores.json").read_text())["values"]
    assert {k: v for k, v in scores.items() if not np.isnan(v)} == {
        k: v for k, v in kept.items() if v is not None
    }
    assert "box AP50" in str(scores) and 0 <= scores["box AP50"] <= 1
    found = genseg.generate("otsu", place / "val/images", out=tmp_path / "found")
    assert (found.images, found.total, found.broken) == (3, 3, ()) and found.file is not None
    assert found.instances == len(json.loads(found.file.read_text())["annotations"])
    alphas = genseg.evaluate(found.file, place / "val/labels.json")
    again = genseg.evaluate("otsu", place / "val/labels.json")
    assert len(alphas) and dict(alphas) == pytest.approx(dict(again), nan_ok=True)
    predicted = genseg.predict(place / "unet", place / "val/images", out=tmp_path / "classes")
    assert predicted.objects is None and "masks of 3 images" in predicted.text()


def test_models_do_what_their_run_can(place: Path) -> None:
    files = sorted((place / "val/images").iterdir())
    encoder, segmenter = genseg.load(place / "mine"), genseg.load(place / "unet", device="cpu")
    detector = genseg.load(place / "faster_rcnn", precision="fp32")
    vectors = encoder.embed(files)
    assert vectors.shape == (3, 96) and vectors.dtype == np.float32
    np.testing.assert_allclose(encoder.embed(files[0])[0], vectors[0], rtol=1e-4, atol=1e-5)
    found = genseg.load("otsu").instances(files[0])
    each = encoder.embed_instances(files[0], found)
    assert each.shape == (len(found), 96) and np.isfinite(each).all()
    assert encoder.embed_instances(files[0], found[:0]).shape == (0, 96)
    classes = segmenter.segment(files[0])
    assert classes.shape == (found.height, found.width)
    assert classes.max() <= len(segmenter.classes) == 2
    assert len(detector.instances(files[0])) >= 0 and detector.classes == segmenter.classes
    for model, act in (
        (encoder, lambda m: m.instances(files[0])),
        (encoder, lambda m: m.segment(files[0])),
        (segmenter, lambda m: m.instances(files[0])),
        (detector, lambda m: m.segment(files[0])),
        (genseg.load("otsu"), lambda m: m.embed(files[0])),
    ):
        with pytest.raises(ValueError, match="give a (run|segmenter) of genseg"):
            act(model)
    with pytest.raises(ValueError, match="precision=half: use one of fp32"):
        genseg.load(place / "mine", precision="half")
    with pytest.raises(ValueError, match="device=gpu: use cpu, cuda or cuda:N"):
        genseg.load(place / "mine", device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch finds no CUDA GPU here"):
            genseg.load(place / "mine", device="cuda:1")


def test_labels_are_split_converted_scanned_and_encoders_exported(
    place: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.json"
    labels.write_text((place / "train/labels.json").read_text())
    (tmp_path / "images").symlink_to(place / "train/images")
    halves = genseg.split(labels, val=0.4)
    assert halves.train.images + halves.val.images == 5 and halves.val.file.is_file()
    made = genseg.convert(labels, "fiftyone", tmp_path / "f.json", images="photos")
    assert made.files == (tmp_path / "f.json",) and made.files[0].is_file()
    report = genseg.scan(labels)
    assert report.images == 5 and report.labels is not None and report.text() == str(report)
    exported = genseg.export(place / "mine", tmp_path / "encoder.pth")
    assert exported.tensors == len(torch.load(exported.out))
    assert genseg.visualize(place / "mine") == place / "mine/report.html"
    assert genseg.visualize(place).name == "index.html"
    for result in (halves, made, report, exported):
        assert isinstance(result, Result) and str(result) == result.text()


def test_what_pretraining_is_worth(place: Path, tmp_path: Path) -> None:
    result = genseg.compare(
        {"random": "random", "mine": place / "mine"},
        train=place / "train/labels.json",
        val=place / "val/labels.json",
        labels=[2],
        seeds=1,
        out=tmp_path / "worth",
        recipe="unet",
        **{"steps": 1, "batch_size": 2, "augment.size": 64, "threads": 1, "data.workers": 0},
        architecture=ENCODER,
    )
    assert [c["arm"] for c in result["cells"]] == ["mine", "random"]
    assert result["metric"] == "mIoU" and (result.out / "report.html").is_file()
    assert str(result) + "\n" == (result.out / "table.txt").read_text()
    one = {"train": place / "train/labels.json", "test": place / "val/labels.json"}
    probed = genseg.probe(place / "mine", **one, kind="fewshot", shots=(1,), seeds=2)
    assert len(probed.draws[1]) == 4 and all(len(d) == 2 for d in probed.draws[1].values())
    neighbours = genseg.probe([place / "mine"], **one, k=3)
    assert "3-nearest neighbours" in neighbours.text() and len(neighbours.accuracies) == 4
