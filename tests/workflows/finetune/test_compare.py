"""The label-efficiency experiment: paired draws, cells that are made once, sentences that follow
from numbers."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from coco_made import write_blobs
from live import watched
from scipy import stats
from small import ENCODER

from genseg.cli import main
from genseg.data.labels import entries
from genseg.data.labels.labelled_set import LabelledImage, LabelledSet
from genseg.measure.paired import mean_and_spread, paired_difference
from genseg.show.paths import short_paths
from genseg.workflows.finetune.cells import drawn_labels, parse_arms, parse_labels
from genseg.workflows.finetune.comparison import as_table, by_seed, contrasts, labels_saved, verdict

CONFIGS = Path(__file__).parents[3] / "configs/finetune"


def test_a_paired_difference_is_that_of_students_t() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.4, 0.1, 6).tolist(), rng.normal(0.3, 0.1, 6).tolist()
    d = paired_difference(a, b)
    assert d.mean / d.error == pytest.approx(stats.ttest_rel(a, b).statistic)
    assert d.clear == (stats.ttest_rel(a, b).pvalue < 0.05) and d.pairs == 6
    near = [[0.1, 0.2, 0.3], [0.0, 0.13, 0.26]]
    assert not paired_difference(*near).clear or stats.ttest_rel(*near).pvalue < 0.05
    assert mean_and_spread(a) == (pytest.approx(np.mean(a)), pytest.approx(np.std(a, ddof=1)))
    assert not paired_difference([1.0], [0.0]).clear and np.isnan(
        paired_difference([1.0], [0.0]).error
    )


def labelled(kinds: str) -> LabelledSet:
    """An image for each letter, which is its kind; a capital one has no label."""
    images = []
    for n, kind in enumerate(kinds, start=1):
        boxes = np.zeros((0 if kind.isupper() else 1, 4))
        classes = np.zeros(len(boxes), np.int64)
        images.append(
            LabelledImage(
                Path("x"), str(n), n, 8, 8, kind.lower(), boxes, classes, classes > 0, None
            )
        )
    return LabelledSet(Path("x"), ((1, "a"),), tuple(images))


def test_draws_are_even_over_kinds_nested_and_take_images_without_labels_last() -> None:
    images = labelled("aaaaaaaabbbbccAB")
    kinds = {i.number: i.kind for i in images.images}
    for seed in range(5):
        draws = [drawn_labels(images, n, seed) for n in range(1, 17)]
        assert all(set(a) < set(b) for a, b in zip(draws, draws[1:], strict=False))
        assert sorted(kinds[n] for n in draws[5]) == list("aabbcc")
        assert not {15, 16} & set(draws[13]) and draws[15] == list(range(1, 17))
    assert drawn_labels(images, 4, 0) == drawn_labels(images, 4, 0) != drawn_labels(images, 4, 1)


def test_arms_and_labels_are_read() -> None:
    arms = parse_arms("random,runs/a,b=runs/c@x/places.yaml,runs/c@x/places.yaml")
    assert [(a.name, a.encoder) for a in arms] == [
        ("random", "random"),
        ("a", "runs/a"),
        ("b", "runs/c"),
        ("c-places", "runs/c"),
    ]
    assert arms[2].config == Path("x/places.yaml")
    assert parse_labels("10%, 4,100%", 40) == [4, 40]
    for text, message in (
        ("4x", "neither a number"),
        ("41", "41 images of 40"),
        ("", "at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_labels(text, 40)
    with pytest.raises(ValueError, match="several arms are called a"):
        parse_arms("x/a,y/a")


def cells_of(values: dict[str, dict[int, list[float]]]) -> list[dict[str, object]]:
    return [
        {"arm": arm, "labels": n, "seed": s, "subset": "", "value": v}
        for arm, found in values.items()
        for n, vs in found.items()
        for s, v in enumerate(vs)
    ]


TWO_ARMS = {
    "random": {4: [0.1, 0.2, 0.3], 16: [0.3, 0.35, 0.4]},
    "mine": {4: [0.36, 0.47, 0.56], 16: [0.3, 0.36, 0.39]},
}


def test_the_table_says_what_the_numbers_say() -> None:
    cells = cells_of(TWO_ARMS)
    text = as_table(
        {"metric": "mask AP", "arms": ["random", "mine"], "labels": [4, 16], "cells": cells}
    )
    assert (
        "mine with 4 labelled images: +0.2633 ± 0.0033 over 3 pairs against random: better" in text
    )
    assert (
        "mine with 16 labelled images: +0.0000 ± 0.0058 over 3 pairs against random: no clear "
        "difference" in text
    )
    assert "mine with 4 labelled images reaches what random reaches with 16" in text
    assert labels_saved("random", "mine", [4, 16], by_seed(cells)) is None


def test_the_verdict_follows_from_the_differences_of_pairs() -> None:
    values = by_seed(cells_of(TWO_ARMS))
    assert verdict("mask AP", ["random", "mine"], [4, 16], values) == (
        "mine against random, mask AP: better with 4 labelled images (+0.2633 ± 0.0033 over 3 "
        "pairs); no clear difference with 16 labelled images (+0.0000 ± 0.0058 over 3 pairs). "
        "With 4 it reaches what random reaches with 16."
    )
    assert "mine against random, mask AP: worse with 4 labelled images (-0" in verdict(
        "mask AP",
        ["random", "mine"],
        [4],
        by_seed(cells_of({"mine": TWO_ARMS["random"], "random": TWO_ARMS["mine"]})),
    )
    one = by_seed(cells_of({"random": {4: [0.1]}, "mine": {4: [0.4]}}))  # a gain of 0.3, once
    assert "too few pairs to tell with 4 labelled images (+0.3000, one pair)" in verdict(
        "mIoU", ["random", "mine"], [4], one
    )
    both = by_seed(cells_of({"a": {4: [1, 2], 8: [1, 2]}, "b": {4: [3, 4], 8: [3, 4]}}))
    two = "(+2.0000 ± 0.0000 over 2 pairs)"
    assert verdict("IoU", ["a", "b"], [4, 8], both) == (
        f"b against a, IoU: better with 4 labelled images {two} and 8 {two}."
    )
    assert (
        verdict("mIoU", ["random"], [4], one)
        == ""
        == verdict("mIoU", ["random", "mine"], [16], one)
    )


def test_the_json_holds_the_difference_as_numbers() -> None:
    values = by_seed(
        cells_of(
            {"random": {4: [0.1, 0.2, 0.3], 8: [0.1]}, "mine": {4: [0.3, 0.35, 0.6], 8: [0.4]}}
        )
    )
    three, one = (c.as_json() for c in contrasts(["random", "mine"], [4, 8], values))
    told = stats.ttest_rel([0.3, 0.35, 0.6], [0.1, 0.2, 0.3])
    assert (three["arm"], three["base"], three["labels"], three["pairs"]) == (
        "mine",
        "random",
        4,
        3,
    )
    assert three["difference"] / three["error"] == pytest.approx(told.statistic)
    assert three["clear"] == (told.pvalue < 0.05)
    assert (one["error"], one["pairs"], one["clear"]) == (None, 1, False) and json.dumps(
        [three, one], allow_nan=False
    )


@pytest.mark.parametrize(
    ("base", "mine"),
    [
        ({4: [0.0, 0.0, 0.0], 16: [0.0, 0.0, 0.0]}, [0.0, 0.0, 0.0]),  # nobody finds anything
        # labels bring the base nothing
        ({4: [0.2, 0.3, 0.25], 16: [0.3, 0.2, 0.26]}, [0.3, 0.2, 0.27]),
        ({4: [0.1], 16: [0.3]}, [0.4]),  # one pair is no word on chance
        ({4: [0.1, 0.2, 0.3], 16: [0.3, 0.35, 0.4]}, [0.29, 0.34, 0.4]),  # not quite
        # 8 labels are better
        ({4: [0.1, 0.1, 0.1], 8: [0.5, 0.5, 0.5], 16: [0.3, 0.3, 0.3]}, [0.4, 0.4, 0.4]),
    ],
)
def test_labels_are_saved_only_where_they_are_worth_something(
    base: dict[int, list[float]], mine: list[float]
) -> None:
    values = {("random", n): dict(enumerate(v)) for n, v in base.items()} | {
        ("mine", 4): dict(enumerate(mine))
    }
    assert labels_saved("mine", "random", sorted(base), values) is None


def nothing_to_do(*given: object) -> str:
    raise AssertionError("no cell is to be made")


def test_cells_are_made_once_and_arms_share_their_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for split, seed in (("train", 0), ("val", 1)):
        write_blobs(tmp_path / split, count=4, each=6, seed=seed)
    out = tmp_path / "out"

    def command(*more: str, arms: str = "random,other=random") -> list[str]:
        return [
            "compare",
            "--config",
            str(CONFIGS / "unet.yaml"),
            "--arms",
            arms,
            "--labels",
            "2,100%",
            "--seeds",
            "2",
            "--out",
            str(out),
            f"data.train={tmp_path}/train/labels.json",
            f"data.val={tmp_path}/val/labels.json",
            f"architecture={ENCODER}",
            "steps=1",
            "batch_size=2",
            "augment.size=32",
            "threads=1",
            "data.workers=0",
            *more,
        ]

    with monkeypatch.context() as patch:
        live = watched(patch)
        read, looked = entries.usable_images, []
        patch.setattr(
            "genseg.data.labels.labelled_set.usable_images",
            lambda *a: looked.append(a[1]) or read(*a),
        )
        assert main(command()) == 0
    assert len(looked) == len(set(looked)) == 2  # not once more for each cell
    parts = [("20", f"running: {100 * n / 8:.0f} %") for n in range(1, 8)]
    assert live == [*parts, ("20", "finished"), ("0", "finished")]
    told = capsys.readouterr()
    html = (out / "report.html").read_text()
    assert (
        'id="made"' in html
        and short_paths(f"{tmp_path}/train") in html
        and str(tmp_path) not in html
    )
    root = ElementTree.parse(out / "plot.svg").getroot()
    assert "mIoU, mean and standard deviation" in [t.text for t in root.iter()]
    assert sum(e.get("class", "").startswith("dot") for e in root.iter()) == 4
    assert "\n8/8 other, 4 labelled images, seed 1: 100% step 1/1 epoch" in told.err
    assert (
        len(re.findall(r"\n[1-7]/8 .*; ETA \d+s\n", told.err)) == 7 and told.err.count("ETA") == 15
    )
    assert (
        "8 cells, 0 of them are done" in told.err
        and "mIoU, mean and standard deviation" in told.out
    )
    result = json.loads((out / "compare.json").read_text())
    assert "sentences" not in result and [d["pairs"] for d in result["differences"]] == [2, 2]
    assert "other against random, mIoU: no clear difference with 2 labelled images (+0" in html
    assert (
        len(result["cells"]) == 8
        and result["labels"] == [2, 4]
        and result["arms"] == ["random", "other"]
    )
    cells = {(c["arm"], c["labels"], c["seed"]): c for c in result["cells"]}
    for (arm, n, seed), cell in cells.items():
        assert cell == {**cells["random", n, seed], "arm": arm}  # the same start, labels and seed
    assert cells["random", 2, 0]["subset"] != cells["random", 2, 1]["subset"]
    assert not list(out.glob("cells/*/*/*/run"))
    with monkeypatch.context() as patch:
        patch.setattr("genseg.workflows.finetune.compare.run_cell", nothing_to_do)
        assert main(command()) == 0
    assert json.loads((out / "compare.json").read_text()) == result
    capsys.readouterr()
    assert main(command("optimizer.lr=0.5")) == 2
    assert "optimizer.lr: 0.001 -> 0.5" in capsys.readouterr().err
    # the others' cells are of another recipe
    assert main(command("optimizer.lr=0.5", arms="third=random")) == 0
    assert json.loads((out / "compare.json").read_text())["arms"] == ["third", "other", "random"]
    labels = tmp_path / "train/labels.json"
    content = json.loads(labels.read_text())
    content["annotations"] = content["annotations"][:-2]
    labels.write_text(json.dumps(content))
    assert main(command()) == 2
    assert "fingerprint: " in capsys.readouterr().err
    # refused before anything is trained
    monkeypatch.setattr("genseg.workflows.finetune.compare.run_cell", nothing_to_do)
    boxes = f"random,boxes=random@{CONFIGS / 'faster_rcnn.yaml'}"
    assert main(command(arms=boxes)) == 2
    assert (
        "no number in common, random (unet): mIoU, boxes (faster_rcnn): box AP"
        in capsys.readouterr().err
    )
    assert main(command("seed=3")) == 2
    assert "compare sets this itself" in capsys.readouterr().err


def test_a_data_set_that_has_moved_is_the_same_and_an_interrupt_says_how_it_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for split, seed in (("train", 0), ("val", 1)):
        write_blobs(tmp_path / split, count=2, each=4, seed=seed)

    def command(root: Path) -> list[str]:
        return [
            "compare",
            "--config",
            str(CONFIGS / "unet.yaml"),
            "--arms",
            "random",
            "--labels",
            "1,2",
            "--seeds",
            "1",
            "--out",
            str(tmp_path / "out"),
            f"data.train={root}/train/labels.json",
            f"data.val={root}/val/labels.json",
            f"architecture={ENCODER}",
            "steps=1",
            "batch_size=2",
            "augment.size=32",
            "threads=1",
            "data.workers=0",
        ]

    with monkeypatch.context() as patch:
        patch.setattr(
            "genseg.workflows.finetune.compare.run_cell",
            lambda *_: (_ for _ in ()).throw(KeyboardInterrupt),
        )
        assert main(command(tmp_path)) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    assert main(command(tmp_path)) == 0
    moved = tmp_path / "moved"
    moved.mkdir()
    for split in ("train", "val"):
        (tmp_path / split).rename(moved / split)
    (left,) = (tmp_path / "out/cells/random/1-labels").iterdir()
    (left / "run").mkdir()  # as a kill after the last word leaves
    capsys.readouterr()
    assert main(command(moved)) == 0
    assert "2 cells, 2 of them are done" in capsys.readouterr().err and not (left / "run").exists()
