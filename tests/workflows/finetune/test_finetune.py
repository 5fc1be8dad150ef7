"""Fine-tuning as a user does it: killed and resumed, scored, predicted, compared; mistakes end with
a word on them."""

import json
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from coco_made import write_blobs
from processes import CONTEXT
from pycocotools import mask as rle
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small import ENCODER

from genseg.cli import main
from genseg.config import load
from genseg.data.labels.class_maps import read_class_map
from genseg.data.labels.labelled_set import read_labelled
from genseg.reports.run import Run
from genseg.runs.checkpoint import load_latest
from genseg.runs.metrics import TIMING, read_metrics
from genseg.transfer.predictor import load_predictor
from genseg.workflows.evaluate.detector import Scores, evaluate_model, read_scores
from genseg.workflows.finetune.config import CHOICES, FinetuneConfig
from genseg.workflows.finetune.parts import assemble_finetune, learning_rates
from genseg.workflows.finetune.start import fingerprint_of, prepared_as, start_of

CONFIGS = Path(__file__).parents[3] / "configs/finetune"
RANDOM_START = start_of("random")
SMALL = {
    "mask_rcnn": ["model.width=16", "model.hidden=32", "model.box_batch=16", "model.detections=20"],
    "faster_rcnn": [
        "model.width=16",
        "model.hidden=32",
        "model.box_batch=16",
        "model.detections=20",
    ],
    "places": ["model.decoder.channels=[16,16,8,8]", "model.decoder.tower=8"],
    "unet": [],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labelled")
    write_blobs(root / "train", count=5, each=6)
    write_blobs(root / "val", count=3, each=6, seed=1)
    return root


def command(data: Path, run: Path, model: str, *more: str) -> list[str]:
    keys = {m.partition("=")[0] for m in more}
    start = [] if "encoder" in keys else [f"architecture={ENCODER}"]
    usual = [
        *start,
        f"data.train={data}/train/labels.json",
        f"data.val={data}/val/labels.json",
        f"run={run}",
        "steps=6",
        "batch_size=2",
        "augment.size=64",
        "threads=1",
        "checkpoint.every=2 steps",
        "validate.every=3 steps",
        "log_every=1 steps",
        *SMALL[model],
    ]
    kept = [word for word in usual if word.partition("=")[0] not in keys]
    return ["finetune", "--config", str(CONFIGS / f"{model}.yaml"), *kept, *more]


def run_through(data: Path, run: Path, model: str, *more: str) -> Path:
    assert main(command(data, run, model, *more)) == 0
    return run


@pytest.mark.parametrize("model", ["faster_rcnn", "unet"])
def test_a_run_leaves_its_best_model_and_scores(
    data: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_through(data, tmp_path / "run", model)
    scores = read_scores(json.loads((run / "scores.json").read_text()))
    assert scores.images == 3 and set(scores.per_class) >= {"cat", "dog"}
    told = capsys.readouterr()
    assert str(run / "best.safetensors") in told.out and "by class" in told.out
    assert ("gives at most model.detections=20 an image" in told.err) == ("rcnn" in model)
    assert "crowds" in told.err and "crowds" in (run / "preflight.txt").read_text()
    rows = [r for r in read_metrics(run / "metrics.jsonl") if any(k.startswith("val ") for k in r)]
    assert [r["step"] for r in rows] == [3, 6]
    main(
        [
            "evaluate",
            "detector",
            str(run),
            "--data",
            f"{data}/val/labels.json",
            "--out",
            str(tmp_path / "s.json"),
        ]
    )
    assert (
        json.loads((tmp_path / "s.json").read_text())["values"]
        == json.loads((run / "scores.json").read_text())["values"]
    )
    assert (
        main(
            [
                "evaluate",
                "detector",
                str(run),
                "--data",
                f"{data}/val/labels.json",
                "--at-least",
                "0.99",
            ]
        )
        == 3
    )
    out = tmp_path / "found"
    assert (
        main(["predict", str(run), f"{data}/val/labels.json", "--out", str(out), "--score", "0.01"])
        == 0
    )
    found = json.loads((out / "predictions.json").read_text())
    assert [c["name"] for c in found["categories"]] == ["cat", "dog"] and len(found["images"]) == 3
    if model == "unet":
        names = [Path(image["file_name"]).with_suffix(".png") for image in found["images"]]
        assert [image["mask"] for image in found["images"]] == [f"masks/{name}" for name in names]
        assert all(read_class_map(out / image["mask"]).max() <= 2 for image in found["images"])
        whole = Run(out, look=True)
        assert set(whole.classes.values()) <= {"cat", "dog"} and len(whole.listed) == 3
        for image, listed in zip(found["images"], whole.listed, strict=True):
            painted = sum(a.paint(listed.height, listed.width) for a in listed.instances)
            assert ((painted > 0) == (read_class_map(out / image["mask"]) > 0)).all()
    else:
        ids = [a["id"] for a in found["annotations"]]
        assert len(set(ids)) == len(ids) and {a["category_id"] for a in found["annotations"]} <= {
            3,
            7,
        }
    assert (
        main(["predict", str(run), f"{data}/val/labels.json", "--out", str(out), "--score", "0.01"])
        == 0
    )
    with safe_open(run / "best.safetensors", framework="pt") as content:
        known = content.metadata()
    weights = load_file(run / "best.safetensors")
    save_file(
        {k: v + (v.dtype == torch.float32) for k, v in weights.items()},
        run / "best.safetensors",
        known,
    )
    capsys.readouterr()
    assert (
        main(["predict", str(run), f"{data}/val/labels.json", "--out", str(out), "--score", "0.01"])
        == 2
    )
    assert "the result of another model" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["mask_rcnn", "places"])
def test_a_killed_run_ends_as_an_undisturbed_one(data: Path, tmp_path: Path, model: str) -> None:
    more = ("ema=0.9",) if model == "places" else ("layer_decay=0.7", "freeze=2 steps")
    whole, broken = run_through(data, tmp_path / "whole", model, *more), tmp_path / "broken"
    draw = random.Random(0)
    for _ in range(2):
        rows = read_metrics(broken / "metrics.jsonl") if (broken / "metrics.jsonl").exists() else []
        target = (rows[-1]["step"] if rows else 0) + draw.randint(1, 2)
        process = CONTEXT.Process(
            target=main, args=(command(data, broken, model, *more, "data.workers=0"),)
        )
        process.start()
        while process.is_alive():
            rows = (
                read_metrics(broken / "metrics.jsonl")
                if (broken / "metrics.jsonl").exists()
                else []
            )
            if rows and rows[-1]["step"] >= target:
                break
            time.sleep(0.005)
        process.kill()
        process.join()
    run_through(data, broken, model, *more)
    (one, _), (two, _) = load_latest(whole) or ({}, {}), load_latest(broken) or ({}, {})
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    a, b = (
        [
            {k: v for k, v in row.items() if k not in TIMING}
            for row in read_metrics(r / "metrics.jsonl")
        ]
        for r in (whole, broken)
    )
    assert a == b
    assert (whole / "scores.json").read_bytes() == (broken / "scores.json").read_bytes()


def config(data: Path, tmp_path: Path, model: str, *more: str) -> FinetuneConfig:
    words = command(data, tmp_path / "run", model, *more)
    overrides = [w for w in words[3:] if "=" in w]
    return load(
        FinetuneConfig,
        file=CONFIGS / f"{model}.yaml",
        overrides=["images=null", *overrides],
        choices=CHOICES,
    )


@pytest.mark.usefixtures("few_composites")
def test_the_encoder_of_a_run_is_what_training_starts_from(data: Path, tmp_path: Path) -> None:
    images, run = data / "train/images", tmp_path / "pre"
    made = main(
        [
            "pretrain",
            "--config",
            str(CONFIGS.parent / "pretrain/alpha.yaml"),
            f"data.path={images}",
            f"run={run}",
            "steps=2",
            "batch_size=2",
            "threads=1",
            "probe.every=0 steps",
            f"encoder.name={ENCODER}",
            "alpha.compose.size=64",
            "alpha.decoder.channels=[16,16,8,8]",
            "alpha.decoder.tower=8",
        ]
    )
    assert made == 0
    parts = assemble_finetune(
        config(data, tmp_path, "places", f"encoder={run}", "pretrained_lr=0.25")
    )
    slow = [g for g in parts.optimizer.param_groups if g["scale"] == 0.25]
    assert {p for g in slow for p in g["params"]} == {
        p
        for m in (parts.model.encoder, parts.model.decoder)
        for p in m.parameters()
        if p.requires_grad
    }
    assert set(parts.model.classify.parameters()) == {
        p for g in parts.optimizer.param_groups if g["scale"] == 1 for p in g["params"]
    }
    from genseg.alpha.model import load_alpha

    model, _ = load_alpha(run / "alpha.safetensors")
    for mine, theirs in (
        (parts.model.encoder, model.encoder),
        (parts.model.decoder, model.decoder),
    ):
        assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in mine.state_dict().items())
    other = config(data, tmp_path, "places", f"encoder={run / 'encoder.safetensors'}")
    start = start_of(other.encoder)
    assert start.alpha == run / "alpha.safetensors"  # of a file as of its run
    file = prepared_as(other, start)
    assert parts.predictor.preparation.stretch and file.stretch and model.look.stretch
    assert any("alpha decoder:" in note for note in parts.notes)
    parts.accelerator.free_memory()
    detector = assemble_finetune(config(data, tmp_path, "mask_rcnn", f"encoder={run}"))
    assert any("tensors loaded" in note for note in detector.notes)


def test_rates_fall_from_the_last_stage_of_the_encoder_to_the_first(
    data: Path, tmp_path: Path
) -> None:
    parts = assemble_finetune(config(data, tmp_path, "unet", "architecture=resnet18"))
    assert not parts.loaded  # random weights have the whole rate
    scales = learning_rates(parts.model.encoder, None, pretrained_lr=0.5, layer_decay=0.1)
    net = parts.model.encoder.net
    assert {scales[p] for p in net.layer4.parameters()} == {0.5}
    assert all(scales[p] == pytest.approx(0.05) for p in net.layer3.parameters())
    assert len(scales) == len(list(net.parameters()))


def test_early_stopping_ends_the_run_when_scores_stay(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constant = Scores({"mIoU": 0.5, "pixel accuracy": 0.5}, images=3)
    monkeypatch.setattr(
        "genseg.workflows.finetune.session.evaluate_model", lambda *_, **__: constant
    )
    more = ("patience=1", "steps=40", "validate.every=2 steps")
    run = run_through(data, tmp_path / "run", "unet", *more)
    rows = read_metrics(run / "metrics.jsonl")
    assert rows[-1]["step"] == 4  # as good as at step 2, which is no better
    run_through(data, run, "unet", *more)
    assert read_metrics(run / "metrics.jsonl") == rows


@pytest.mark.parametrize(
    "more, message",
    [
        (["encoder=nowhere/run"], "there is no nowhere/run"),
        (["patience=1", "data.val=null"], "patience=1 needs data.val"),
        (["model.name=mask_rcn"], "did you mean mask_rcnn"),
        (["ema=1"], "a momentum lies below 1"),
        (["data.train=none.json"], "none.json"),
        (["model.anchors=[1,2]"], "one side for each of the 5 levels"),
        (["architecture=tu-maxvit_tiny_tf_224"], "the encoder takes no images of 64 px"),
    ],
)
def test_mistakes_end_with_a_word_and_leave_nothing(
    data: Path, tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(data, tmp_path / "run", "mask_rcnn", *more)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_other_labels_are_another_run(data: Path, tmp_path: Path) -> None:
    """A mask that has changed within its box, a map of classes that has, and labels that are scored
    alone."""
    train, val = (read_labelled(data / s / "labels.json", masks=True)[0] for s in ("train", "val"))
    assert train.images[0].masks is not None
    whole = fingerprint_of(train, RANDOM_START, val)
    moved = replace(train.images[0], path=tmp_path / "elsewhere.png")
    assert (
        fingerprint_of(replace(train, images=(moved, *train.images[1:])), RANDOM_START, val)
        == whole
    )
    first, *rest = train.images[0].masks
    mask = rle.decode(first)
    mask[tuple(np.argwhere(mask)[len(np.argwhere(mask)) // 2])] = 0
    hole = replace(train.images[0], masks=(rle.encode(np.asfortranarray(mask)), *rest))
    fewer = replace(val, images=val.images[:-1])
    for changed in ((replace(train, images=(hole, *train.images[1:])), val), (train, fewer)):
        assert fingerprint_of(changed[0], RANDOM_START, changed[1]) != whole
    maps = []
    for value in (1, 2):
        file = tmp_path / f"{value}" / "a.png"
        file.parent.mkdir()
        cv2.imwrite(str(file), np.full((8, 8), value, np.uint8))
        maps.append(replace(train, images=(replace(train.images[0], masks=None, semantic=file),)))
    assert fingerprint_of(maps[0], RANDOM_START) != fingerprint_of(maps[1], RANDOM_START)


def test_images_that_are_trained_on_and_scored_are_named(data: Path, tmp_path: Path) -> None:
    keys = command(
        data, tmp_path / "run", "unet", f"data.val={data}/train/labels.json", "images=null"
    )[3:]
    parts = assemble_finetune(
        load(FinetuneConfig, file=CONFIGS / "unet.yaml", overrides=keys, choices=CHOICES)
    )
    assert "5 images are trained on and scored: of new images the scores say nothing" in parts.notes


def test_check_says_what_is_in_the_labels(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command(data, tmp_path / "run", "mask_rcnn"), "--check"]) == 0
    told = capsys.readouterr().out
    assert "5 images" in told and "crowds" in told and not (tmp_path / "run").exists()


def test_scores_of_what_is_labelled_are_perfect(data: Path, tmp_path: Path) -> None:
    run = run_through(data, tmp_path / "run", "mask_rcnn")
    predictor, _ = load_predictor(run)
    labelled, _ = read_labelled(data / "val/labels.json", masks=True)
    records = []
    for image in labelled.images:
        assert image.masks is not None
        for box, c, crowd, mask in zip(
            image.boxes_xyxy, image.classes, image.crowd, image.masks, strict=True
        ):
            if not crowd:
                left, top, right, bottom = box.tolist()
                records.append(
                    {
                        "image_id": image.number,
                        "category_id": labelled.categories[c][0],
                        "score": 1.0,
                        "bbox": [left, top, right - left, bottom - top],
                        "segmentation": mask,
                    }
                )
    scores = evaluate_model(predictor, labelled, records=records)
    assert scores.values["mask AP"] == scores.values["box AP"] == 1 and set(
        scores.per_class.values()
    ) == {1.0}
    again = read_scores(json.loads(json.dumps(scores.as_json())))
    assert again.values.keys() == scores.values.keys() and again.main == 1
    assert Scores({"mIoU": float("nan")}).main == 0
    assert np.isnan(read_scores(Scores({"mIoU": float("nan")}).as_json()).values["mIoU"])


def test_results_have_the_category_ids_of_the_json_that_is_scored(
    data: Path, tmp_path: Path
) -> None:
    run = run_through(data, tmp_path / "run", "faster_rcnn", "steps=1", "model.score=0")
    content = json.loads((data / "val/labels.json").read_text())
    for c in content["categories"]:
        c["id"] += 100
    for a in content["annotations"]:
        a["category_id"] += 100
    moved = data / "val/moved.json"
    moved.write_text(json.dumps(content))
    scores = []
    for n, file in enumerate((data / "val/labels.json", moved)):
        out = [
            "--out",
            str(tmp_path / f"{n}.json"),
            "--predictions",
            str(tmp_path / f"found/{n}.json"),
        ]
        assert main(["evaluate", "detector", str(run), "--data", str(file), *out]) == 0
        scores.append((tmp_path / f"{n}.json").read_text())
    assert scores[0] == scores[1]
    ids = [
        {r["category_id"] for r in json.loads((tmp_path / f"found/{n}.json").read_text())}
        for n in (0, 1)
    ]
    assert ids[1] == {n + 100 for n in ids[0]} and ids[0]


def test_a_fresh_start_leaves_no_model_of_before(data: Path, tmp_path: Path) -> None:
    run = run_through(data, tmp_path / "run", "unet", "steps=2", "validate.every=1 steps")
    run_through(data, run, "unet", "steps=1", "data.val=null", "patience=0", "--fresh")
    assert not (run / "best.safetensors").exists() and not (run / "scores.json").exists()
    assert load_predictor(run)[1].step == 1


def test_equal_runs_in_two_folders_leave_equal_bytes(data: Path, tmp_path: Path) -> None:
    """The facts in the files held the run's folder and those of the data."""
    shutil.copytree(data, tmp_path / "elsewhere")
    for name, labelled in (("one", data), ("two", tmp_path / "elsewhere")):
        run_through(
            labelled, tmp_path / name / "run", "places", "steps=1", "validate.every=1 steps"
        )
    for file in ("model.safetensors", "best.safetensors"):
        one, two = ((tmp_path / name / "run" / file).read_bytes() for name in ("one", "two"))
        assert one == two and str(tmp_path).encode() not in one


def test_a_run_without_scores_on_the_way_is_scored_at_its_end(data: Path, tmp_path: Path) -> None:
    run = run_through(data, tmp_path / "run", "unet", "steps=1", "validate.every=0 steps")
    assert json.loads((run / "scores.json").read_text())["images"] == 3


def test_a_frozen_encoder_stays_and_the_rest_learns(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "encoder.safetensors"
    parts = assemble_finetune(config(data, tmp_path, "unet", "architecture=resnet18"))
    weights = parts.model.encoder.net.state_dict()  # by torchvision's names
    save_file({k: v.contiguous() for k, v in weights.items()}, file)
    start = (f"encoder={file}", "model.norm=frozen")
    more = ("steps=2", "freeze=2 steps", "data.val=null", "validate.every=0 steps")
    run = run_through(data, tmp_path / "run", "unet", *start, *more)
    before = assemble_finetune(config(data, tmp_path, "unet", *start)).model.state_dict()
    after = load_predictor(run)[0].model.state_dict()
    same = {k for k in before if torch.equal(before[k], after[k])}
    assert same >= {k for k in before if ".encoder." in k}
    assert any(k not in same for k in before)


@pytest.mark.usefixtures("few_composites")
def test_heads_begin_alike_whatever_the_encoder_is(data: Path, tmp_path: Path) -> None:
    images, run = data / "train/images", tmp_path / "pre"
    assert (
        main(
            [
                "pretrain",
                "--config",
                str(CONFIGS.parent / "pretrain/alpha.yaml"),
                f"data.path={images}",
                f"run={run}",
                "steps=1",
                "batch_size=2",
                "threads=1",
                "probe.every=0 steps",
                "data.workers=0",
                f"encoder.name={ENCODER}",
                "alpha.compose.size=64",
            ]
        )
        == 0
    )
    heads = []
    for start in (f"architecture={ENCODER}", f"encoder={run}"):
        parts = assemble_finetune(config(data, tmp_path, "mask_rcnn", start))
        heads.append(
            {k: v for k, v in parts.model.state_dict().items() if "backbone.body" not in k}
        )
    assert all(torch.equal(v, heads[1][k]) for k, v in heads[0].items())


def test_check_reads_val_with_the_classes_of_train(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((data / "val/labels.json").read_text())
    for c in content["categories"]:
        c["name"] += "s"
    (data / "val/other.json").write_text(json.dumps(content))
    more = (f"data.val={data}/val/other.json",)
    assert main([*command(data, tmp_path / "run", "mask_rcnn", *more), "--check"]) == 2
    assert "names have to agree" in capsys.readouterr().err
