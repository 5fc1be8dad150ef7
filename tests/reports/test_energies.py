"""The report of a run that shapes an energy: its sections, in the order of E, and none where
something is gone."""

import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import draw_images
from energy_runs import alpha_run, decode_everything, shaped

from genseg.cli import main
from genseg.core.names import REPORT_NAME
from genseg.energies.maps import Maps
from genseg.reports import energies
from genseg.reports.energy_looks import LEFT, OWN, SHIFTS, TRUE, WALK, Looked, looked
from genseg.reports.index import write_index
from genseg.reports.report import write_report
from genseg.reports.run import Run
from genseg.show.levels import shade

SECTIONS = ["maps", "descent", "own", "landscape", "walks"]
Runs = tuple[Path, Path, Path]  # images, the run of the decoder, that of the energy


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    images = draw_images(tmp_path_factory.mktemp("images"))
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        decode_everything(patch)
        alpha = alpha_run(images, folder / "alpha")
        more = ["--steps", "12", "composites=9", "judge_every=4 steps"]
        assert main(shaped(alpha, folder / "mine", "denoising", *more)) == 0
        yield images, alpha, folder / "mine"


@pytest.fixture(scope="module")
def seen(runs: Runs) -> Looked:
    found = looked(Run(runs[2]))
    assert found is not None
    return found


def sections(html: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', html)


def values(body: str) -> list[list[float]]:
    """The energies of each row of pictures, as their captions say them."""
    rows = body.split('<div class="levels">')[1:]
    return [
        [float(v.replace("\N{MINUS SIGN}", "-")) for v in re.findall(r"<br>E ([^<]+)", row)]
        for row in rows
    ]


def test_the_page_of_an_energy_shows_what_it_holds_for_an_instance(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written by the command itself; walks are left out while no code draws its map."""
    html = (runs[2] / REPORT_NAME).read_text()
    assert [s for s in sections(html) if s != "walks"] == [*SECTIONS[:4], "curves", "made"]
    for words in (
        "the energy finds the true one",
        "AUROC of true maps against corrupted ones",
        "AUROC by kind of corruption",
        "Overlap: reconstruction high",
        ">overlap of r(a) with a<",
        ">finished<",
    ):
        assert words in html, words
    rows = [json.loads(line) for line in (runs[2] / "metrics.jsonl").read_text().splitlines()]
    last = next(row["auroc_last"] for row in rows if "auroc_last" in row)
    assert f"<dd>{last:.3f}</dd>" in html
    monkeypatch.setattr("genseg.reports.energy_looks.DRAWN", 0.0)
    assert [s for s in sections(write_report(runs[2]).read_text()) if s in SECTIONS] == SECTIONS


def test_maps_stand_in_the_order_of_their_energy(runs: Runs, seen: Looked) -> None:
    section = energies.maps(Run(runs[2]))
    assert section is not None
    rows = values(section.body)
    assert len(rows) == len(seen.shown) > 0
    for row, (_, found) in zip(rows, seen.shown, strict=True):
        assert row == sorted(row) and len(row) == len(found)
        np.testing.assert_allclose(row, sorted(d.energy for d in found), rtol=6e-3, atol=1e-3)
    bars = [int(w) for w in re.findall(r"width:(\d+)%", section.body)]
    assert min(bars) > 0 and max(bars) == 100
    assert section.body.count('class="marked"') == len(rows)  # the true map of each
    assert section.body.count(f"--shade:{shade(0)}") >= len(rows)
    own = energies.own(Run(runs[2]))
    assert own is not None
    low, high = values(own.body)
    assert [*low, *high] == sorted([*low, *high]) and len(seen.own) <= OWN


def test_what_is_shown_has_the_energy_of_the_model(seen: Looked) -> None:
    """Beside the model itself, one map at a time."""
    subject, found = seen.shown[0]
    pixels = seen.material.embeddings[subject.image][None].float()
    for d in found:
        energy = seen.energy(pixels, Maps(d.alpha[None], torch.zeros(1, dtype=torch.long)))
        assert d.energy == pytest.approx(float(energy), abs=1e-4)
    by_name = {d.name: d for d in found}
    assert by_name[TRUE].overlap == pytest.approx(1, abs=1e-3)
    assert by_name["shift"].overlap == pytest.approx(LEFT, abs=0.1)


def test_a_landscape_has_the_true_map_in_its_middle(runs: Runs, seen: Looked) -> None:
    subject, found = seen.shown[0]
    land = seen.landscape(subject)
    assert land.shape == (SHIFTS, SHIFTS) and math.isfinite(land.min())
    true = next(d.energy for d in found if d.name == TRUE)
    assert land[SHIFTS // 2, SHIFTS // 2] == pytest.approx(true, abs=1e-3)
    section = energies.landscape(Run(runs[2]))
    assert section is not None
    svg = section.body.partition("<svg")[2].partition("</svg>")[0]
    assert svg.count("<rect") == SHIFTS**2 and 'class="ring"' in svg
    assert f'fill="{shade(0)}"' in svg and f'fill="{shade(1)}"' in svg


def test_a_walk_begins_and_ends_at_reconstructions(
    seen: Looked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genseg.reports.energy_looks.DRAWN", 0.0)
    image, pair = next((i, p) for i in range(len(seen.material)) if (p := seen.pair(i)))
    walk = seen.walk(image, pair)
    maps = Maps(seen.material.alpha[list(pair)].float() / 255, torch.zeros(2, dtype=torch.long))
    ends = seen.energy.reconstructed(seen.scene(image).embeddings[None], maps)
    assert len(walk) == WALK
    torch.testing.assert_close(walk[[0, -1]], ends, atol=1e-4, rtol=0)


def test_composites_are_others_than_those_of_the_run(seen: Looked) -> None:
    assert len(seen.material) == len(seen.pixels) >= 4
    assert len({p.tobytes() for p in seen.pixels}) == len(seen.pixels)
    assert seen.shown[0][0].own is not None  # those with an own instance come first


def test_the_page_holds_no_full_path(runs: Runs) -> None:
    images, alpha, mine = runs
    html = re.sub(r"data:image/[^\"]*", "", (mine / REPORT_NAME).read_text())
    assert str(alpha) in (mine / "config.yaml").read_text()
    for path in (images, alpha.parent, Path.home()):
        assert str(path) not in html


def without(runs: Runs, folder: Path) -> tuple[Path, Path, Path]:
    """Copies of the images and of both runs, which know each other."""
    moved = (folder / "images", folder / "alpha", folder / "mine")
    for old, new in zip(runs, moved, strict=True):
        shutil.copytree(old, new)
    for run, key, at in ((moved[1], "path", moved[0]), (moved[2], "alpha", moved[1])):
        file = run / "config.yaml"
        file.write_text(re.sub(rf"^( *{key}:) .*$", rf"\1 {at}", file.read_text(), flags=re.M))
    return moved


@pytest.mark.parametrize("gone", ["images", "alpha/config.yaml", "alpha/banks", "alpha"])
def test_nothing_is_shown_where_something_is_gone(runs: Runs, tmp_path: Path, gone: str) -> None:
    images, _, mine = without(runs, tmp_path)
    assert looked(Run(mine)) is not None
    where = tmp_path / gone
    shutil.rmtree(where) if where.is_dir() else where.unlink()
    html = write_report(mine).read_text()
    assert sections(html) == ["curves", "made"] and "the energy finds the true one" in html
    if gone == "images":  # given by hand where they are now
        shutil.copytree(runs[0], tmp_path / "there")
        assert "maps" in sections(write_report(mine, str(tmp_path / "there")).read_text())


def test_images_that_others_have_replaced_are_not_shown(runs: Runs, tmp_path: Path) -> None:
    images, _, mine = without(runs, tmp_path)
    (images / "0.png").write_bytes((images / "1.png").read_bytes())
    assert "maps" not in sections(write_report(mine).read_text())


def test_a_run_that_goes_on_is_not_looked_at(runs: Runs) -> None:
    run = Run(runs[2], look=False, live=True)
    assert looked(run) is None and energies.maps(run) is None


def test_a_code_that_is_not_trained_to_draw_shows_no_descent(runs: Runs, seen: Looked) -> None:
    run = Run(runs[2], kept={"energy": replace(seen, decodes=False)})
    assert energies.descent(run) is None and energies.walks(run) is None
    assert energies.maps(run) is not None


def test_an_energy_is_a_kind_of_its_own_among_the_runs_of_a_folder(runs: Runs) -> None:
    html = write_index(runs[2].parent).read_text()
    assert "Energies: 1 run" in html and "energy denoising" in html and "Pretraining: 1 run" in html
    assert Run(runs[1]).shaped is None and Run(runs[2]).config is None
