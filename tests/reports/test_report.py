"""The report of a pretraining run: which sections there are, and that they show what the run has
drawn and found."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from genseg.cli import main
from genseg.core.names import REPORT_NAME
from genseg.data.composites.bank import load_bank
from genseg.data.composites.composer import Composer
from genseg.data.images.cache import build_cache
from genseg.data.images.source import ImageSource
from genseg.reports import start, training_pictures
from genseg.reports.index import write_index
from genseg.reports.neighbours import alike, embeddings, nearest_of
from genseg.reports.pictures import extremes, pictures_of
from genseg.reports.report import LiveReport, try_report, write_report
from genseg.reports.run import Run
from genseg.runs.checkpoint import load_latest
from genseg.runs.folder import RunError, lock
from genseg.show.paths import short_paths
from genseg.workflows.pretrain.session import PretrainSession
from genseg.workflows.pretrain.snapshots import COUNT, Snapshots, read_snapshots, spaced

CONFIGS = Path(__file__).parents[2] / "configs/pretrain"
SMALL = [
    "batch_size=4",
    "threads=1",
    "steps=6",
    "log_every=1 steps",
    "data.workers=0",
    "data.cache=48",
    "data.max_broken=0.2",
    "probe.every=2 steps",
    "alpha.side=64",
    "alpha.share=0.5",
    "alpha.compose.size=64",
    "alpha.decoder.channels=[16,16,8,8]",
    "alpha.decoder.tower=8",
    "views.first.size=32",
    "views.second.size=32",
    "method.hidden=16",
    "method.dim=8",
    "alpha.generate.candidate=0.02",
    "alpha.generate.score=0.1",
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright discs on a dark ground, in two folders; and a file that is no image."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(10):
        picture = rng.integers(10, 40, (64, 72, 3), dtype=np.uint8)
        for y, x, r in ((16, 16, 6), (20, 50, 9), (48, 28, 7)):
            cv2.circle(picture, (x + i % 3, y), r, (200, 180 + i, 210), -1, cv2.LINE_AA)
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        cv2.imwrite(str(root / "ab"[i % 2] / f"{i}.png"), picture)
    (root / "b/broken.png").write_bytes(b"no image")
    return root


def command(images: Path, run: Path) -> list[str]:
    return [
        "pretrain",
        "--config",
        str(CONFIGS / "byol_alpha.yaml"),
        *SMALL,
        f"data.path={images}",
        f"run={run}",
    ]


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "mine"
    assert main(command(images, run)) == 0
    return run


def sections(file: Path) -> list[str]:
    return re.findall(r'<section id="(\w+)"', file.read_text())


def data_of(file: Path) -> dict[str, Any]:
    (text,) = re.findall(r'id="page-data">(.*?)</script>', file.read_text(), re.S)
    return dict(json.loads(text))


def test_a_run_ends_with_a_report_of_all_that_it_holds(run: Path) -> None:
    html = (run / REPORT_NAME).read_text()
    pictures = ["found", "beside", "sizes", "steps", "extremes", "alike", "composites", "views"]
    assert sections(run / REPORT_NAME) == [*pictures, "curves", "data", "made"]
    assert len(html) < 15e6 and ">finished<" in html and 'data-refresh="0"' in html
    for title in (
        "Loss and its terms",
        "Nearest neighbours vote",
        "Effective rank",
        "Images per second",
    ):
        assert title in html
    assert (
        "2 folders" in html
        and "a 5, b 6" in html
        and "1 image cannot be read" in html
        and "PNG RGB" in html
    )
    assert "batch_size: 4" in html and "steps: 6" in html
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)


def test_proposals_are_shown_beside_what_is_found(run: Path, monkeypatch: Any) -> None:
    seen, config = Run(run), Run(run).config
    assert config is not None and seen.images is not None
    monkeypatch.setattr(start, "overlay", lambda pixels, found: drawn.append(found) or pixels)
    drawn: list[Any] = []
    section = start.beside(seen)
    assert section is not None and len(drawn) == 2 * start.PAIRS
    bank, (pictures, score, _) = load_bank(run / "banks/0.npz"), seen.looked
    for n, p in enumerate(spaced(pictures, start.PAIRS)):
        i = seen.images.files.index(p.name)
        sure = [bank[k] for k in bank.of_image(i) if bank.scores[k] >= config.alpha.compose.sure]
        assert len(drawn[2 * n]) == len(sure) > 0
        assert drawn[2 * n + 1] == [a for a in p.instances if a.score >= score]
        assert f'alt="{p.name}, proposals: {len(sure)}"' in section.body
    assert start.beside(Run(run, look=False)) is None  # nothing is known of what it finds


def test_a_run_that_finds_nothing_names_the_other_recipe(run: Path) -> None:
    """In the words for proposals without a teacher."""
    seen = Run(run)
    pictures, score, low = seen.looked
    vars(seen)["looked"] = [replace(p, instances=()) for p in pictures], score, low
    section = extremes(seen)
    assert section is not None and "Nothing was found" in section.body
    assert "--config photos_alpha asks a frozen teacher" in section.body
    vars(seen).pop("ranked")
    seen.kept.clear()
    vars(seen)["looked"] = (
        [replace(p, instances=p.instances * (not n)) for n, p in enumerate(pictures)],
        score,
        low,
    )
    section = extremes(seen)
    assert section is not None and "Nothing was found" not in section.body
    assert "nothing was found. Where things are large and few" in section.body


def test_the_page_of_a_run_holds_no_absolute_path(run: Path, images: Path) -> None:
    """Its config and folder have them; pictures are base64, in which nothing can be told."""
    assert str(images) in (run / "config.yaml").read_text()
    html = re.sub(r"data:image/[^\"]*", "", (run / REPORT_NAME).read_text())
    assert (
        str(images.parent) not in html
        and str(run.parent) not in html
        and str(Path.home()) not in html
    )
    assert short_paths(str(images)) in html and f"run: {short_paths(str(run))}" in html


def test_the_instances_are_those_of_the_runs_decoder(run: Path) -> None:
    data = data_of(run / REPORT_NAME)["found"]
    looked, score, low = Run(run).looked
    assert (data["threshold"], data["low"]) == (score, low) == (0.1, 0.05)
    assert [p["name"] for p in data["pictures"]] == [p.name for p in looked] and len(looked) == 10
    assert [len(p["found"]) for p in data["pictures"]] == [len(p.instances) for p in looked]


def test_the_instance_that_scores_least_can_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The viewer has four digits of a score: rounded as rows are, 0.50004 is above its own row,
    0.5."""
    monkeypatch.setattr("genseg.reports.pictures._shown", lambda run: ([], 0.50006, 0.50004))
    assert pictures_of(Run(tmp_path)) == ([], 0.5, 0.5)


def test_the_composites_are_those_of_the_first_epoch(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside what the run's own loader gives for the same images."""
    seen: list[Any] = []
    monkeypatch.setattr(
        training_pictures,
        "picture_data",
        lambda p: (
            seen.append(p)
            or {"name": p.name, "soft": True, "boxes": False, "thumb": "", "truth": []}
        ),
    )
    assert training_pictures.composites(Run(run)) is not None
    r = Run(run)
    assert r.images is not None and r.config is not None
    source = ImageSource(r.images, build_cache(r.images, side=64, workers=1))
    composer = Composer(
        source,
        load_bank(run / "banks/0.npz"),
        r.config.alpha.compose,
        share=1.0,
        seed=r.config.seed,
    )
    want = composer([(0, i) for i in training_pictures.chosen(11, training_pictures.COMPOSITES)])
    for n, picture in enumerate(seen):
        np.testing.assert_array_equal(picture.pixels, want.image[n].numpy())
        layers = want.visible[want.owner == n].numpy()
        assert len(picture.instances) == len(layers)
        for instance, layer in zip(picture.instances, layers, strict=True):
            np.testing.assert_array_equal(instance.paint(64, 64), layer)


def test_neighbours_are_the_nearest_by_the_runs_encoder(run: Path, images: Path) -> None:
    """Beside a naive search over what the probe's own function embeds; and the broken image is
    nobody's neighbour."""
    r = Run(run)
    assert r.images is not None and r.config is not None
    source = ImageSource(r.images, build_cache(r.images, side=48, workers=1))
    whole = [i for i, name in enumerate(r.images.files) if "broken" not in name]
    embedded = embeddings(run / "encoder.safetensors", source, whole)
    unit = embedded / embedded.norm(dim=1, keepdim=True)
    cosines, nearest = nearest_of(embedded, torch.tensor([3, 0]), 4)
    for q, found, values in zip((3, 0), nearest.tolist(), cosines.tolist(), strict=True):
        every = sorted(
            ((float(unit[q] @ unit[n]), n) for n in range(len(whole)) if n != q), reverse=True
        )
        assert found == [n for _, n in every[:4]]
        np.testing.assert_allclose(values, [c for c, _ in every[:4]], atol=1e-5)
    section = alike(r)
    assert section is not None and "the nearest of 10 images" in section.lead
    assert section.body.count("<figure>") == 6 * 6 and "broken" not in section.body
    for q, cosine in re.findall(r'alt="([^"]*)"[^>]*><figcaption>([\d.]+), [ab]<', section.body):
        assert q in r.images.files and -1 <= float(cosine) <= 1
    assert section.body == (alike(r) or section).body and alike(Run(run, look=False)) is None


def test_two_images_have_one_neighbour_each() -> None:
    cosines, nearest = nearest_of(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 1]), 5)
    assert nearest.tolist() == [[1], [0]] and cosines[0, 0] == pytest.approx(0.5**0.5)


def test_other_images_are_shown_when_they_are_given(
    run: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/<i>x.png").write_bytes((images / "a/0.png").read_bytes())
    assert main(["visualize", str(run), str(tmp_path / "other")]) == 0
    assert [p["name"] for p in data_of(run / REPORT_NAME)["found"]["pictures"]] == ["<i>x.png"]
    assert "<i>" not in (run / REPORT_NAME).read_text()
    assert main(["visualize", str(run)]) == 0


def test_before_training_the_page_shows_what_it_starts_from(run: Path, tmp_path: Path) -> None:
    for name in (
        "config.yaml",
        "env.json",
        "banks/0.npz",
        "snapshots/0.png",
        "snapshots/00000000.npz",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((run / name).read_bytes())
    html = write_report(tmp_path, look=False, live=True).read_text()
    bank, shown = (
        load_bank(run / "banks/0.npz"),
        data_of(tmp_path / REPORT_NAME)["proposals"]["pictures"],
    )
    assert verdict_of(tmp_path / REPORT_NAME).startswith("Training has not begun.")
    assert (
        sections(tmp_path / REPORT_NAME)[:2] == ["proposals", "composites"] and "step 0" not in html
    )
    assert f"What training starts from: {len(bank)} proposals in 11 images" in html
    assert sum(len(p["found"]) for p in shown) == len(bank) > 0
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    write_report(tmp_path, look=False, live=True)
    assert "not begun" not in verdict_of(tmp_path / REPORT_NAME) and "proposals" in sections(
        tmp_path / REPORT_NAME
    )
    (tmp_path / "snapshots/00000002.npz").write_bytes((run / "snapshots/00000002.npz").read_bytes())
    html = write_report(tmp_path, look=False, live=True).read_text()
    assert "proposals" not in sections(tmp_path / REPORT_NAME) and "found" in sections(
        tmp_path / REPORT_NAME
    )
    assert "step 0<br>training has not begun<br>" in html and "step 2<br>training has" not in html


def test_images_that_have_gone_leave_the_rest_of_the_report(run: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "metrics.jsonl", "env.json"):
        text = (run / name).read_text()
        (tmp_path / name).write_text(re.sub(r"path: .*", "path: /nowhere/at-all", text))
    assert sections(write_report(tmp_path)) == ["curves", "data", "made"]
    assert "not there; genseg visualize RUN FOLDER" in (tmp_path / REPORT_NAME).read_text()


def test_snapshots_are_of_the_same_images_and_survive_a_kill(run: Path) -> None:
    images, taken = read_snapshots(run)
    assert len(images) == COUNT and [s.step for s in taken] == [0, 2, 4, 6]
    assert [s.step for s in spaced(taken, 3)] in ([0, 4, 6], [0, 2, 6]) and spaced([], 3) == []
    assert spaced(taken, 9) == taken
    r = Run(run)
    assert r.images is not None
    Snapshots(run, ImageSource(r.images, None), start=4)  # a run that goes on from step 4
    assert [s.step for s in read_snapshots(run)[1]] == [0, 2, 4]


def test_no_weight_depends_on_snapshots_and_reports(
    run: Path, images: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(PretrainSession, "_snapshot", lambda *_: None)
    monkeypatch.setattr(LiveReport, "update", lambda _: None)
    assert main(command(images, tmp_path / "bare")) == 0
    (one, _), (two, _) = load_latest(run), load_latest(tmp_path / "bare")
    assert one.keys() == two.keys() and all(one[k].equal(two[k]) for k in one)


def test_a_run_that_goes_on_says_how_far_it_is(run: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    cut = [r for r in rows if r["step"] <= 3]
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in cut) + '{"step": 4, "lo'
    )
    with lock(tmp_path):
        assert ">running: 50 %<" in write_report(tmp_path).read_text()
        assert 'data-refresh="20"' in (tmp_path / REPORT_NAME).read_text()
    assert ">stopped: 50 %<" in write_report(tmp_path).read_text()


def test_numbers_that_are_not_finite_are_left_out_of_charts(tmp_path: Path) -> None:
    rows = [
        {"step": s, "loss": 3.0 - s, "grad_norm": n}
        for s, n in ((1, None), (2, 7.0), (3, 5.0), (4, None))
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    said = write_report(tmp_path).read_text()
    assert "loss -1.000, from 2.000" in said and "Gradient norm: grad norm from 7 to 5" in said


def test_a_live_report_takes_less_than_two_percent(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, written = [0.0], []

    def slow(*_: Any, **__: Any) -> None:
        written.append(now[0])
        now[0] += 3.0

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr("genseg.reports.report.write_report", slow)
    live = LiveReport(run, print)
    while now[0] < 2000:
        live.update()
        now[0] += 1.0
    assert written[0] >= 10 and 3.0 * len(written) < 0.02 * now[0] and len(written) > 8


def test_what_hinders_a_report_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try_report(tmp_path)
    assert f"there is no report: {tmp_path} holds none of config.yaml, " in capsys.readouterr().out
    said: list[str] = []
    live = LiveReport(tmp_path, said.append)
    live.last -= 100
    live.update()
    live.update()
    assert len(said) == 1 and "no report while the run goes on" in said[0]


ARMS = {"mine": [0.4, 0.5, 0.6], "random <weights>": [0.1, 0.2, 0.3]}


def test_a_comparison_becomes_a_table_and_a_plot(tmp_path: Path) -> None:
    cells = [
        {"arm": arm, "labels": n, "subset": 0, "seed": s, "value": v + s / 100}
        for arm, values in ARMS.items()
        for n, v in zip((5, 20, 100), values, strict=True)
        for s in range(3)
    ]
    content = {"arms": list(ARMS), "labels": [5, 20, 100], "metric": "mask AP", "cells": cells}
    (tmp_path / "compare.json").write_text(json.dumps(content))
    html = write_report(tmp_path).read_text()
    assert sections(tmp_path / REPORT_NAME) == ["transfer"]
    assert "<h3>Differences</h3>" in html and ">-0.3000<" in html and "against mine" in html
    assert "0.410 ± 0.010" in html and "0.310 ± 0.010" in html and html.count('class="dot') == 6
    assert "mask AP with 5 labelled images: mine 0.410, random &lt;weights&gt; 0.110." in html
    (tmp_path / "compare.json").write_text('{"arms": ["a"]}')
    with pytest.raises(RunError, match="compare.json needs arms, labels, metric and cells"):
        write_report(tmp_path)
    (tmp_path / "compare.json").write_text("[")
    with pytest.raises(RunError, match="compare.json is no json"):
        write_report(tmp_path)


def verdict_of(file: Path) -> str:
    (text,) = re.findall(r'<p class="verdict">(.*?)</p>', file.read_text())
    return str(text)


def test_the_headline_of_a_comparison_is_the_verdict_on_the_differences(tmp_path: Path) -> None:
    """The first arm on the list is the base. A higher mean alone is no win; nothing is read from
    sentences."""

    def headline(mine: list[float], base: list[float]) -> str:
        cells = [
            {"arm": arm, "labels": 8, "subset": 0, "seed": s, "value": v}
            for arm, values in (("random", base), ("mine", mine))
            for s, v in enumerate(values)
        ]
        content = {
            "arms": ["random", "mine"],
            "labels": [8],
            "metric": "mask AP",
            "cells": cells,
            "sentences": ["mine with 8 labels: better, much better"],
        }
        (tmp_path / "compare.json").write_text(json.dumps(content))
        return verdict_of(write_report(tmp_path))

    assert headline([0.30, 0.45, 0.21], [0.25, 0.20, 0.31]).startswith(
        "mine against random, mask AP: no clear difference with 8 labelled images (+0.0667 ± "
        "0.1014 over 3 pairs)."
    )
    assert headline([0.35, 0.31, 0.40], [0.25, 0.20, 0.31]).startswith(
        "mine against random, mask AP: better with 8 labelled images (+"
    )
    assert headline([0.25, 0.20, 0.31], [0.35, 0.31, 0.40]).startswith(
        "mine against random, mask AP: worse with 8 labelled images (-"
    )
    assert headline([0.9], [0.1]).startswith(
        "mine against random, mask AP: too few pairs to tell with 8"
    )
    assert headline([], [0.1, 0.2]) == (
        "No arm can be told from another yet: no pair is finished. mask AP with 8 labelled "
        "images: random 0.150."
    )
    assert "much better" not in (tmp_path / REPORT_NAME).read_text()


def test_an_index_compares_the_runs_of_a_folder(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "<b>two"):
        (tmp_path / name).mkdir()
        for file in ("config.yaml", "metrics.jsonl", REPORT_NAME):
            (tmp_path / name / file).write_bytes((run / file).read_bytes())
    (tmp_path / "no run").mkdir()
    assert main(["visualize", str(tmp_path)]) == 0
    html = (tmp_path / "index.html").read_text()
    assert (
        '<a href="one/report.html">one</a>' in html
        and '<a href="%3Cb%3Etwo/report.html">&lt;b&gt;two</a>' in html
    )
    assert (
        "no run</" not in html
        and html.count("byol and alpha") == 2
        and html.count("data:image/webp") == 2
    )
    assert "Loss" in html and html.count("finished") == 2
    assert ">images seen</text>" in html and ">step</text>" not in html
    (tmp_path / "one" / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 2.0}\n{"step": 9, "loss": 1.0}\n'
    )
    assert ">step</text>" in write_index(tmp_path).read_text()  # where a run does not say how many
    with pytest.raises(RunError, match="holds no run and is none"):
        write_index(tmp_path / "no run")
    capsys.readouterr()
    for words in (["no run"], ["nowhere"], ["one", "two", "three"]):
        assert main(["visualize", *(str(tmp_path / w) for w in words)]) == 2
    assert main(["visualize", str(tmp_path), "--count", "3", "--titles"]) == 2
    said = capsys.readouterr().err
    assert "--count, --titles are for the PNG of jsons" in said
    assert (
        "Traceback" not in said
        and "there is no folder" in said
        and "give it alone, or with one folder" in said
    )
