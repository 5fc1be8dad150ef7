"""What a fine-tuned model is shown to find beside the labels: agreement with them, in pictures,
best first."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coco_made import write_blobs
from small import ENCODER

from genseg.cli import main
from genseg.data.instances.instance import Instance
from genseg.data.instances.run_length import windowed
from genseg.data.labels.class_maps import semantic_target
from genseg.data.labels.labelled_set import read_labelled
from genseg.reports import judge
from genseg.reports.index import write_index
from genseg.reports.judge import Judge, agreement, labels_of, regions
from genseg.reports.pictures import best_middle_worst, pictures_of
from genseg.reports.report import write_report
from genseg.reports.run import Run
from genseg.show.viewer import Picture, picture_data

CONFIGS = Path(__file__).parents[2] / "configs/finetune"
KEYS = [
    f"architecture={ENCODER}",
    "steps=2",
    "batch_size=2",
    "augment.size=64",
    "threads=1",
    "data.workers=0",
]


def square(top: int, left: int, side: int = 10, category: int = 0, score: float = 1.0) -> Instance:
    return Instance(np.full((side, side), 255, np.uint8), top, left, score, category)


def test_agreement_counts_what_is_right_of_all_that_is_found_or_labelled() -> None:
    truth, none = [square(0, 0), square(0, 20), square(0, 40)], np.zeros(3, bool)
    assert agreement(truth, truth, none) == (1.0, 3) and agreement([], truth, none) == (0.0, 0)
    assert agreement([], [], np.zeros(0, bool)) == (1.0, 0)
    # two are right, one is wrong, one is missed
    found = [square(0, 0), square(0, 21), square(30, 30)]
    assert agreement(found, truth, none) == (2 / 4, 2)
    other = [replace(found[0], category=1), *found[1:]]  # the class is wrong: missed, and wrong
    assert agreement(other, truth, none) == (1 / 5, 1)
    crowd = np.array([False, False, True])
    assert agreement([*found[:2], square(2, 42, 6, category=1)], truth, crowd) == (1.0, 2)


def test_regions_are_the_classes_of_a_map() -> None:
    classes = np.zeros((8, 9), np.int64)
    classes[1:3, 2:5], classes[6, 6], classes[0, 0] = 2, 3, 255
    one, two = regions(classes)
    assert (one.category, two.category) == (1, 2)
    np.testing.assert_array_equal(one.paint(8, 9) > 0, classes == 2)
    np.testing.assert_array_equal(two.paint(8, 9) > 0, classes == 3)
    assert regions(np.zeros((3, 3), np.uint8)) == []


def test_the_middle_lies_between_the_best_and_the_worst() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    many = [Picture(str(n), pixels, ()) for n in range(24)]
    assert [p.name for p in best_middle_worst(many)] == [
        str(n) for n in (*range(4), *range(10, 14), *range(20, 24))
    ]
    for count in (0, 1, 3, 5, 9, 12, 13):
        kept = [int(p.name) for p in best_middle_worst(many[:count])]
        assert (
            kept == sorted(set(kept))
            and len(kept) == min(count, 12)
            and kept[:4] == list(range(min(4, count)))
        )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labelled")
    for n, split in enumerate(("train", "val")):
        write_blobs(root / split, count=3, each=5, seed=n)
    return root


def finetuned(data: Path, run: Path, model: str, *more: str) -> Path:
    command = [
        "finetune",
        "--config",
        str(CONFIGS / f"{model}.yaml"),
        f"data.train={data}/train/labels.json",
        f"data.val={data}/val/labels.json",
        f"run={run}",
        *KEYS,
        *more,
    ]
    assert main(command) == 0
    return run


def test_a_report_of_a_segmenter_shows_classes_beside_labels(data: Path, tmp_path: Path) -> None:
    run = finetuned(data, tmp_path / "run", "unet")
    html = (run / "report.html").read_text()
    for text in (
        "On 3 validation images the best model has mIoU",
        "Labels, as lines",
        "by mIoU",
        ">finished<",
        "<h3>Worst</h3>",
        "What was found in the labels",
        "Score on the validation images",
    ):
        assert text in html, text
    assert (
        'type="range"' not in html and "IoU of each class" in html and "of the same colour" in html
    )
    judged = Judge(run).judged()
    for j in judged:  # a class has one colour, found or labelled
        every = (*j.picture.instances, *j.picture.truth)
        assert j.picture.hues == tuple(a.category for a in every)
        data_ = picture_data(j.picture)
        assert [row[7] for row in data_["found"]] == [a.category for a in j.picture.instances]
        assert [row[6] for row in data_["truth"]] == [a.category for a in j.picture.truth]
    assert [j.score for j in judged] == sorted((j.score for j in judged), reverse=True) and len(
        judged
    ) == 3
    labelled, _ = read_labelled(data / "val/labels.json", masks=True)
    targets = {i.name: semantic_target(i, 2) for i in labelled.images}
    for j in judged:
        target = targets[j.picture.name]
        assert j.picture.note == f"mIoU {j.score:.2f}" and set(j.picture.labels) <= {"cat", "dog"}
        for a in j.picture.truth:
            np.testing.assert_array_equal(a.paint(*target.shape) > 0, target == a.category + 1)


def test_the_report_of_what_a_segmenter_predicts_shows_classes(data: Path, tmp_path: Path) -> None:
    run = finetuned(data, tmp_path / "run", "unet")
    out = tmp_path / "out"
    assert main(["predict", str(run), str(data / "val/images"), "--out", str(out)]) == 0
    html = (out / "report.html").read_text()
    for word in (
        'type="range"',
        "instances in 3",
        "of the images have none",
        "Surest",
        "calibrated",
    ):
        assert word not in html, word
    assert "a layer of its own colour" in html and "Of the pixels of 3 images" in html
    for p in pictures_of(Run(out))[0]:
        assert [{"cat": 0, "dog": 1}[name] for name in p.labels] == list(p.hues)
    # no labels of these are known
    other = write_report(run, str(data / "train/images")).read_text()
    assert 'type="range"' not in other and "Of the pixels of 3 images" in other


def test_a_report_is_the_same_from_another_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data)
    given = ["data.train=train/labels.json", "data.val=val/labels.json", f"run={tmp_path / 'run'}"]
    assert main(["finetune", "--config", str(CONFIGS / "unet.yaml"), *given, *KEYS]) == 0
    before = re.findall(r'<section id="(\w+)"', (tmp_path / "run/report.html").read_text())
    monkeypatch.chdir(tmp_path)
    html = write_report(tmp_path / "run").read_text()
    assert re.findall(r'<section id="(\w+)"', html) == before and "found" in before
    (tmp_path / "none").mkdir()
    index = write_index(tmp_path).read_text()
    assert "finetune unet" in index and "mIoU on the validation images" in index


def test_a_report_of_a_detector_shows_boxes_beside_labels(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["model.width=16", "model.hidden=32", "model.box_batch=16", "model.detections=20"]
    run = finetuned(data, tmp_path / "run", "faster_rcnn", *small)
    monkeypatch.setattr(judge, "LEAST", 0.0)
    monkeypatch.setattr(judge, "COUNTS", 0.3)
    labelled, _ = read_labelled(data / "val/labels.json", masks=False)
    images = {i.name: i for i in labelled.images}
    for j in Judge(run).judged():
        truth, crowd = labels_of(images[j.picture.name])
        assert crowd.sum() == 1 and len(j.picture.truth) == len(truth) - 1
        sure = [a for a in j.picture.instances if a.score >= 0.3]
        assert j.score == agreement(sure, truth, crowd)[0] and all(
            a.mask.all() for a in j.picture.instances
        )
    everything = write_report(run).read_text()
    assert (
        "TP / (TP + FP + FN)" in everything
        and "validation images, and what is labelled" in everything
    )
    # no labels of these are known
    other = write_report(run, str(data / "train/images")).read_text()
    assert "What was found in 3 images" in other and "Labels, as lines" not in other
    assert (
        Run(run, look=False).judged == []
        and "Labels, as" not in write_report(run, look=False).read_text()
    )


def test_labels_are_those_of_the_json(data: Path) -> None:
    labelled, _ = read_labelled(data / "val/labels.json", masks=True)
    image = labelled.images[0]
    truth, crowd = labels_of(image)
    assert image.masks is not None and crowd.tolist() == image.crowd.tolist()
    for a, mask, c in zip(truth, image.masks, image.classes, strict=True):
        want = windowed(mask)
        np.testing.assert_array_equal(a.alpha, want.alpha)
        assert (a.top, a.left, a.category) == (want.top, want.left, int(c))


def test_a_run_that_stopped_early_is_finished_and_one_that_goes_on_shows_its_last_scores(
    tmp_path: Path,
) -> None:
    rows = [
        {"step": 2, "images": 4, "loss": 1.0, "images_per_second": 2.0, "eta_seconds": 2.0},
        {"step": 2, "val mask AP": 0.25, "val box AP": 0.5},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    html = write_report(tmp_path, live=True).read_text()
    assert "So far it has mask AP 0.250, box AP 0.500." in html and ">running: 50" in html
    assert 'data-refresh="20"' in html
    scores = {"values": {"mask AP": 0.3, "box AP": None}, "per_class": {}, "images": 7}
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    html = write_report(tmp_path).read_text()
    assert (
        "On 7 validation images the best model has mask AP 0.300." in html and ">finished<" in html
    )
