"""The online probe: how many neighbours are asked."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from small import ENCODER

from genseg.cli import main
from genseg.data.images.files import list_images
from genseg.data.images.source import ImageSource
from genseg.runs.metrics import read_metrics
from genseg.workflows.pretrain.online_probe import ProbeConfig, build_probe


@pytest.mark.parametrize(("each", "k"), [((6, 6), 5), ((30, 30), 20), ((3, 9, 9), 8), ((1, 2), 1)])
def test_no_more_neighbours_vote_than_a_usual_class_has(
    each: tuple[int, ...], k: int, tmp_path: Path
) -> None:
    """Of two classes of six images, eleven neighbours of one would always vote for the other
    class."""
    for name, count in enumerate(each):
        (tmp_path / str(name)).mkdir()
        for n in range(count):
            Image.new("RGB", (8, 8)).save(tmp_path / str(name) / f"{n}.png")
    probe = build_probe(ProbeConfig(), ImageSource(list_images(tmp_path), None))
    assert probe is not None and probe.k == k


def test_an_image_alone_in_its_class_votes_and_is_not_asked_about(tmp_path: Path) -> None:
    for name, count in {"a": 2, "b": 2, "alone": 1}.items():
        (tmp_path / name).mkdir()
        for n in range(count):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{n}.png")
    probe = build_probe(ProbeConfig(limit=0), ImageSource(list_images(tmp_path), None))
    assert probe is not None
    directions = torch.eye(3)[probe.train.labels] + 0.01 * torch.rand(
        5, 3, generator=torch.Generator().manual_seed(0)
    )
    assert probe.measure(lambda _: directions).top1 == 1, "four images of four, and not of five"


def test_classes_of_one_image_each_are_not_measured_and_the_reason_is_told(
    tmp_path: Path, capsys: Any
) -> None:
    for name in "abcdefgh":
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.effect_noise((40, 40), 50).convert("RGB").save(tmp_path / "photos" / name / "0.png")
    words = [
        "method.hidden=16",
        "method.dim=16",
        "views.both.size=32",
        "data.workers=0",
        "data.cache=0",
        "threads=1",
    ]
    run = [
        f"data.path={tmp_path / 'photos'}",
        f"run={tmp_path / 'run'}",
        "steps=2",
        f"encoder.name={ENCODER}",
        "batch_size=4",
        *words,
    ]
    assert main(["pretrain", "--config", "simclr", *run]) == 0
    said = capsys.readouterr()
    text = said.out + said.err
    assert (
        "no kNN while training: each of the 8 classes has one image, which no other can find"
        in text
    )
    assert "right class" not in text
    assert not any("knn_top1" in row for row in read_metrics(tmp_path / "run/metrics.jsonl"))
