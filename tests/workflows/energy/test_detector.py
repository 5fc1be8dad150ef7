"""An energy for a fine-tuned detector of places: composites of its labels, and scores of what it
finds."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coco_made import write_blobs
from energy_runs import decode_everything, shaped
from small import ENCODER

import genseg
from genseg.alpha.calibration import Calibration
from genseg.cli import main
from genseg.core.names import ENERGY_NAME
from genseg.data.composites.compose import ComposeConfig
from genseg.data.instances.instance import resized
from genseg.data.instances.run_length import windowed
from genseg.data.labels.labelled_set import read_labelled
from genseg.data.labels.samples import read_sample
from genseg.energies.model import load_energy, save_energy
from genseg.energies.use import Ranking
from genseg.transfer.predictor import Preparation
from genseg.workflows.energy.decoders import composer_of, decoder_run, note_on
from genseg.workflows.energy.evaluate import evaluate_energies
from genseg.workflows.energy.session import Shaped

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labelled")
    write_blobs(root / "train", count=4, each=6)
    write_blobs(root / "val", count=2, each=6, seed=1)
    return root


def tuned(data: Path, run: Path, recipe: str, *more: str) -> Path:
    usual = [
        *(f"data.train={data}/train/labels.json", f"run={run}", f"architecture={ENCODER}"),
        *("steps=3", "batch_size=2", "augment.size=64", "threads=1", "precision=no"),
        *("data.workers=0", "log_every=1 steps"),
    ]
    assert main(["finetune", "--config", recipe, *usual, *more]) == 0
    return run


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of two classes that sees images at twice their size or so, and two of four images;
    it keeps whatever it finds."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "ids.txt").write_text("1\n3\n")
    return tuned(
        *(data, folder / "places", "places"),
        *("model.decoder.channels=[16,16,8,8]", "model.decoder.tower=8"),
        *("model.generate.score=0", "model.generate.candidate=0", "model.generate.min_area=1"),
        *("model.generate.overlap=1", "model.generate.inside=1"),
        *("augment.fit=true", f"data.subset={folder}/ids.txt", "data.stretch=true"),
    )


@pytest.fixture(scope="module")
def made(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Shaped:
    """An energy for it."""
    folder = tmp_path_factory.mktemp("energies") / "critic"
    before = (run / "model.safetensors").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        decode_everything(patch)
        patch.setattr("genseg.workflows.energy.parts.PAIRS", 4)
        patch.setattr("genseg.reports.energy_looks.PIXELS", 0)
        few: dict[str, Any] = {"composites": 6, "judged": 4, "batch_size": 4, "steps": 3}
        shaped = genseg.energy(run, run=folder, threads=1, judge_every="0 percent", **few)
    assert (run / "model.safetensors").read_bytes() == before
    return shaped


@pytest.fixture(scope="module")
def energy(made: Shaped, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a ranking that is no longer the score alone, and ranks whatever there is: the
    decoder has learnt nothing."""
    folder = tmp_path_factory.mktemp("energies") / "ranks"
    folder.mkdir()
    loaded, facts = load_energy(made.energy)
    ranking, use = Ranking(own=0.5, distance=3.0, offset=1.0), replace(facts.use, candidate=0.0)
    ranks = replace(facts, ranking=ranking, calibration=Calibration(1.5, 0.2), use=use)
    save_energy(loaded, folder / ENERGY_NAME, ranks)
    return folder


def test_cut_outs_are_the_labels_as_the_detector_sees_them(run: Path, data: Path) -> None:
    decoder = decoder_run(run, CPU)
    composer, word = composer_of(decoder, None, kept=False)
    labelled, _ = read_labelled(data / "train/labels.json", masks=True)
    seen = labelled.subset([1, 3])
    how = decoder.preparation
    assert how is not None and how.fit == 64 and how.stretch and len(composer.source) == 2
    numbers = iter(range(len(composer.bank)))
    for i, image in enumerate(seen.images):
        pixels, at = composer.source.read(i)
        assert at == i and (pixels == how.resized(read_sample(image))).all()
        for mask, crowd in zip(image.masks or (), image.crowd, strict=True):
            expected = resized(windowed(mask), (image.height, image.width), pixels.shape[:2])
            if expected is None or not expected.area:
                continue
            n = next(numbers)
            found = composer.bank[n]
            assert composer.bank.image(n) == i and found.score == (not crowd)
            assert (found.top, found.left) == (expected.top, expected.left)
            assert (found.alpha == expected.alpha).all()
    assert next(numbers, None) is None
    # what is kept of decoded images changes nothing
    again, same = composer_of(decoder, None)
    assert same == word
    assert all((again.source.read(i)[0] == composer.source.read(i)[0]).all() for i in (0, 1))
    # other labels make other composites: all of a json that is given
    other, differs = composer_of(decoder, str(data / "train/labels.json"), kept=False)
    assert len(other.source) == 4 and differs != word


def test_a_composite_of_a_host_alone_is_a_labelled_image(run: Path) -> None:
    """Every label is a layer, a crowd is ignored, and all else is ground."""
    composer, _ = composer_of(decoder_run(run, CPU), None, kept=False)
    plain = replace(
        composer.config, size=64, pasted=(0, 0), zoom=(1.0, 1.0), turn=False, photometric=0.0
    )
    composer.config = plain
    assert plain.background and not plain.stretch  # they are prepared
    for epoch in range(3):
        made = composer([(epoch, 0)])
        pixels, _ = composer.source.read(0)
        mine = [composer.bank[n] for n in composer.bank.of_image(0)]
        crowd = sum(a.area for a in mine if a.score == 0)
        assert sum(a.score == 1 for a in mine) >= len(made.visible) > 0
        # the window is the whole of the longer side, mirrored beyond the shorter one
        inside = made.image[0].numpy()
        flipped = np.abs(pixels[:, ::-1].mean((0, 2)) - inside.mean((0, 2))).mean()
        straight = np.abs(pixels.mean((0, 2)) - inside.mean((0, 2))).mean()
        assert min(flipped, straight) < 25
        assert int(made.ignored.sum()) >= 0.4 * crowd


def test_an_encoder_that_is_gone_is_told(run: Path, tmp_path: Path) -> None:
    """Composites are then made as usual, which was silent."""
    assert note_on(decoder_run(run, CPU)) == ""
    moved = tmp_path / "places"
    shutil.copytree(run, moved)
    config = moved / "config.yaml"
    before = config.read_text()
    config.write_text(before.replace("encoder: random", "encoder: runs/gone"))
    assert config.read_text() != before
    said = note_on(decoder_run(moved, CPU))
    assert said.startswith(
        "encoder=runs/gone is not there any more, so composites are made as usual"
    )
    composer, _ = composer_of(decoder_run(moved, CPU), None, kept=False)
    assert composer.config.zoom == ComposeConfig().zoom


def test_crowds_are_no_instances_whatever_the_encoder_was_trained_on(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """scenes_alpha pastes all that it is given (sure: 0): crowds were pasted as instances."""
    loose = ComposeConfig(sure=0.0, native=0.0)
    monkeypatch.setattr("genseg.workflows.energy.decoders._compose", lambda config: loose)
    config = composer_of(decoder_run(run, CPU), None, kept=False)[0].config
    assert min(config.sure, config.native) > 0 and max(config.sure, config.native) <= 1


def test_energies_are_refused_before_images_are_looked_at(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="energy.safetensors"):
        evaluate_energies([tmp_path / "none"], run, tmp_path / "none.json")


def found_in(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / "predictions.json").read_text())["annotations"]
    return found


def scores(found: list[dict[str, Any]]) -> list[float]:
    return [a["score"] for a in found]


def test_prediction_and_scores_go_by_it_and_classes_stay(
    run: Path, energy: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    val = str(data / "val/labels.json")
    usual = ["predict", str(run), val, "--score", "0"]
    assert main([*usual, "--out", str(tmp_path / "plain")]) == 0
    ranked = [*usual, "--energy", str(energy), "--out", str(tmp_path / "ranked")]
    assert main(ranked) == 0
    plain, found = found_in(tmp_path / "plain"), found_in(tmp_path / "ranked")
    drawn = [
        Counter((a["image_id"], a["category_id"], str(a["segmentation"])) for a in some)
        for some in (plain, found)
    ]
    assert drawn[0] == drawn[1] and len(plain) > 3
    assert sorted(scores(plain)) != sorted(scores(found))
    # into a result of other scores nothing is mixed
    assert main([*usual, "--out", str(tmp_path / "ranked")]) == 2
    assert "--energy" in capsys.readouterr().err
    made = genseg.predict(run, val, out=tmp_path / "python", score=0, energy=energy)
    assert found_in(made.out) == found
    # COCO's results have the same scores
    given = ["evaluate", "detector", str(run), "--data", val, "--energy", str(energy)]
    assert main([*given, "--predictions", str(tmp_path / "p.json")]) == 0
    scored = json.loads((tmp_path / "p.json").read_text())
    assert sorted(scores(scored)) == sorted(scores(found))
    table = genseg.evaluate(run, val, energy=energy)
    said = capsys.readouterr().out
    assert f"mask AP               {table['mask AP']:7.4f}" in said
    # and it is judged by labels as one of a run with the alpha task is
    judged = ["evaluate", "energy", str(energy), "--alpha", str(run), "--data", val]
    assert main([*judged, "--out", str(tmp_path / "e.json")]) == 0
    assert "AUROC" in capsys.readouterr().out
    content = (tmp_path / "e.json").read_text()
    assert '"moved": null' in content and "NaN" not in content, "JSON has no word for it"


def test_a_run_says_what_comes_next_and_its_report_shows_it(made: Shaped) -> None:
    assert made.complete and "genseg predict RUN FOLDER --energy" in str(made)
    assert "true map" in (made.run / "report.html").read_text()


def test_what_cannot_be_ranked_is_said(
    run: Path, energy: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(given: list[str], *words: str) -> None:
        capsys.readouterr()
        assert main(given) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error and all(word in error for word in words), error

    unet = tuned(data, tmp_path / "unet", "unet")
    val = str(data / "val/labels.json")
    out = ["--out", str(tmp_path / "o")]
    refused(["energy", str(unet), *out], "unet has no alpha decoder", "model.name=places")
    given = ["--energy", str(energy)]
    refused(["predict", str(unet), val, *given, *out], "(places)", "holds unet")
    other = tmp_path / "other"
    other.mkdir()
    for name in ("model.safetensors", "config.yaml"):
        (other / name).write_bytes((run / name).read_bytes())
    (other / "config.yaml").unlink()
    refused(shaped(other, tmp_path / "e", "denoising"), "config.yaml", "composites")
    changed = tuned(
        *(data, tmp_path / "changed", "places", "seed=4"),
        *("model.decoder.channels=[16,16,8,8]", "model.decoder.tower=8"),
    )
    refused(["predict", str(changed), val, *given, *out], "another alpha decoder", "genseg energy")
    refused(["evaluate", "detector", str(changed), "--data", val, *given], "another alpha decoder")
    assert not (tmp_path / "o/predictions.json").exists()


def test_an_image_of_a_size_is_resized_to_what_is_said() -> None:
    how = Preparation((0.5,) * 3, (0.2,) * 3, 50, False)
    for size in ((40, 80), (7, 200), (200, 1)):
        assert how.resized(np.zeros((*size, 3), np.uint8)).shape[:2] == how.size(*size)
