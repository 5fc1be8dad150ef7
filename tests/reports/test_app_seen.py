"""What the live page keeps of an image, without the page: files, guesses that a click makes, what
is exported."""

import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from app_runs import write_run
from decoded import decode_segmentation
from small import ENCODER

import genseg.data.regions.opened as opened
from genseg.alpha.kept import GenerateConfig
from genseg.core.names import MODEL_NAME
from genseg.core.reading import Reading, reading
from genseg.data.images.source import ImageError
from genseg.data.instances.instance import Instance
from genseg.data.labels.labelled_set import Categories
from genseg.data.proposals.propose import propose
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.reports import app_seen as app
from genseg.transfer.detector import BoxDetectorConfig, DetectorConfig
from genseg.transfer.places import PlacesConfig
from genseg.transfer.predictor import Predictor, Preparation, build_model, save_predictor
from genseg.transfer.segmenter import SegmenterConfig
from genseg.workflows.generate.opened import ONE_CLASS, open_finder, open_run, open_runs
from genseg.workflows.generate.shrinking import Shrinking

CLASSES = ((3, "cat"), (7, "dog"))
EVERYTHING = GenerateConfig(candidate=0, score=0, min_area=1)
SMALL = {
    "width": 16,
    "hidden": 32,
    "anchors": (8.0, 16.0, 32.0, 64.0, 128.0),
    "detections": 10,
    "score": 0.0,
}


def seen() -> app.Seen:
    """Four squares, with scores of 0.9, 0.7, 0.5 and 0.3."""
    pixels = np.full((40, 50, 3), (10, 200, 90), np.uint8)
    found = tuple(
        Instance(np.full((8, 8), 255, np.uint8), 5, 12 * n, 0.9 - 0.2 * n) for n in range(4)
    )
    return app.Seen("<x>.png", pixels, found)


UNSHRUNK = Shrinking(lambda h, w: 1.0, 1.0, "")


@dataclass
class Guessing:
    """A run that finds nothing, and makes one guess wherever it is asked."""

    guess: Instance | None
    score: float = 0.5
    categories: Categories = ONE_CLASS
    boxes: bool = False
    shrinking: Shrinking = UNSHRUNK

    def instances(self, pixels: np.ndarray) -> list[Instance]:
        return []

    def at(self, pixels: np.ndarray, y: int, x: int) -> Instance | None:
        return self.guess


def finetuned(run: Path, config: object, *, fit: int = 0) -> Path:
    torch.manual_seed(0)
    facts = EncoderConfig(ENCODER)
    model = build_model(config, build_encoder(facts)[0], facts, classes=2)
    run.mkdir()
    predictor = Predictor(model, CLASSES, Preparation((0.5, 0.5, 0.5), (0.2, 0.2, 0.2), fit, False))
    save_predictor(predictor, facts, run / MODEL_NAME, precision="no")
    return run


def test_the_json_of_a_shrunk_image_has_the_pixels_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LONGEST", 256)
    run = open_run(write_run(tmp_path / "run", 0))
    cv2.imwrite(str(tmp_path / "large.png"), np.full((300, 2 * app.LONGEST, 3), 90, np.uint8))
    image = app.look(run, app.read(str(tmp_path / "large.png")))
    assert image.pixels.shape == (150, app.LONGEST, 3)
    assert app.notes(run, image) == (
        "large.png: 512 x 300 px, looked at in 1/2.0 of its sides, where nothing of less than 4 "
        "px across can be found."
    )
    # the run's side is 512
    square = replace(image, pixels=np.full((1024, 1024, 3), 90, np.uint8), whole=(1024, 1024))
    assert "looked at in 1/2.0 of its sides" in app.notes(run, square)
    made = app.coco(image, 0.0)
    assert (made["images"][0]["height"], made["images"][0]["width"]) == (300, 2 * app.LONGEST)
    assert made["annotations"][0]["segmentation"]["size"] == [300, 2 * app.LONGEST]
    box = np.array(made["annotations"][0]["bbox"])
    np.testing.assert_allclose(box, 2 * np.array(image.counted(0.0)[0].box_xywh), atol=4)


def test_a_large_image_is_shrunk_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was decoded whole, or refused; and a word says how all of it is looked at."""
    monkeypatch.setattr(app, "LONGEST", 100)
    x = np.random.default_rng(0).integers(0, 4096, (300, 400), dtype=np.uint16)
    file = tmp_path / "large.tif"
    tifffile.imwrite(file, x, tile=(64, 64), compression="zlib")
    whole = app.read(str(file))
    monkeypatch.setattr(opened, "LARGE", 1000)
    monkeypatch.delattr(app, "decode")
    seen = app.read(str(file))
    assert seen.whole == whole.whole == (300, 400) and seen.pixels.shape == (75, 100, 3)
    assert np.array_equal(seen.pixels, whole.pixels)
    said = app.notes(Guessing(None), seen)
    assert "400 x 300 px, looked at in 1/4.0 of its sides" in said
    assert "genseg generate RUN FILE --side 0, or genseg predict of a fine-tuned run" in said
    with tifffile.TiffWriter(file) as pyramid:
        pyramid.write(x, subifds=1, tile=(64, 64))
        pyramid.write(x[::2, ::2] * 0, subfiletype=1, tile=(64, 64))
    seen = app.read(str(file))
    assert seen.whole == (300, 400) and seen.pixels.shape == (75, 100, 3)
    assert seen.pixels.max() == 0, "the small level alone was read"


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    """In the words of the command line, without the folder that the server keeps it in."""
    for name, content, reason in (
        ("no.png", b"hello, no png", "no image format"),
        ("empty.tif", b"", "is empty"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=rf"^{name} cannot be read: .*{reason}"):
            app.read(str(tmp_path / name))


def test_a_dim_picture_is_shown_brighter_with_a_word_and_looked_at_as_it_is(tmp_path: Path) -> None:
    pixels = np.zeros((60, 70, 3), np.uint8)
    pixels[20:40, 20:40] = 25
    tifffile.imwrite(tmp_path / "dim.tif", pixels)
    image = app.preview(app.read(str(tmp_path / "dim.tif")), tmp_path)
    assert (
        image.pixels.max() == 25
        and app.notes(Guessing(None), image) == "dim.tif: shown 10 times as bright."
    )
    assert app.drawn(image, 0.5, "Image").max() == 255
    assert image.preview is not None
    shown = cv2.imread(image.preview)  # a format that browsers know
    assert Path(image.preview).suffix == ".png" and shown is not None and shown.max() == 255
    assert app.notes(Guessing(None), app.Seen("x.png", np.full((40, 50, 3), 90, np.uint8))) == ""


def test_of_a_stack_the_page_asks_what_to_use_and_takes_it(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (2, 5, 40, 50), dtype=np.uint8)
    file = str(tmp_path / "stack.ome.tif")
    tifffile.imwrite(file, x, metadata={"axes": "CZYX", "Channel": {"Name": ["DAPI", "GFP"]}})
    with pytest.raises(ImageError, match=r"2 channels .* Write that into Channels and Pages"):
        app.read(file)
    seen = app.preview(app.read(file, "GFP", "max"), tmp_path)
    np.testing.assert_array_equal(seen.pixels[..., 0], x[1].max(0))
    assert app.drawn(seen, 0.5, "Soft alpha").shape[2] == 3 and seen.preview is not None
    with reading(Reading("2,1", "3")):  # as the runs that are open were trained
        np.testing.assert_array_equal(app.read(file).pixels[..., 1], x[0, 2])
    with pytest.raises(ImageError, match="use each, max, mean"):
        app.read(file, "1", "last")


def test_what_is_shown_is_what_is_downloaded(tmp_path: Path) -> None:
    image = seen()
    assert [len(image.counted(s)) for s in (0.0, 0.5, 0.95)] == [4, 3, 0]
    coco = app.coco(image, 0.5)
    masks = [decode_segmentation(a["segmentation"], 40, 50) for a in coco["annotations"]]
    for mask, instance in zip(masks, image.found, strict=False):
        np.testing.assert_array_equal(mask * 255, instance.paint(40, 50))
    json_file, zip_file = app.downloads(image, 0.5, tmp_path)
    assert (
        json.loads(Path(json_file).read_text()) == coco
        and coco["images"][0]["file_name"] == "<x>.png"
    )
    with zipfile.ZipFile(zip_file) as archive:
        assert len(archive.namelist()) == 3
        rgba = cv2.imdecode(
            np.frombuffer(archive.read("cutout-1.png"), np.uint8), cv2.IMREAD_UNCHANGED
        )
    assert rgba.shape == (8, 8, 4) and (rgba == (90, 200, 10, 255)).all()


def test_what_was_kept_is_added_unless_it_is_shown_already() -> None:
    image = seen()
    new, same = (
        Instance(np.full((9, 9), 255, np.uint8), 25, 25, 0.1),
        Instance(np.full((8, 7), 255, np.uint8), 5, 0, 0.1),
    )
    for kept, more in ((new, 1), (same, 0)):
        got = replace(image, kept=(kept,))
        assert len(got.counted(0.5)) == 3 + more and len(got.counted(0.95)) == 1
        times = app.enlargement(got)
        drawn = app.drawn(got, 0.95, "Image")
        assert times == 14 and drawn.shape == (40 * times, 50 * times, 3)
        line = drawn[kept.top * times : (kept.top + 1) * times, (kept.left + 4) * times]
        assert (line == 255).all(1).any() and (line == 0).all(1).any()


def test_a_guess_at_nothing_counts_by_choice_alone_and_a_second_click_removes_it() -> None:
    run = Guessing(Instance(np.full((10, 10), 255, np.uint8), 25, 25, 0.004))
    image, said = app.click(run, seen(), 30, 30, 0.5)
    assert said.startswith("Nothing here (best guess 0.00).") and image.may_keep(0.5)
    assert len(image.counted(0.5)) == 3 == len(app.coco(image, 0.5)["annotations"])
    assert app.count(image, 0.5) == "3 of 4 instances"
    dropped, _ = app.click(run, image, 31, 31, 0.5)
    assert dropped.guess is None and len(dropped.counted(0.5)) == 3

    kept, said = app.keep(image)
    assert "0.00" in said and len(kept.counted(0.5)) == 4 and not kept.may_keep(0.5)
    assert app.count(kept, 0.5) == "4 of 5 instances: 3 by score, 1 kept by you"
    assert [a["score"] for a in app.coco(kept, 0.5)["annotations"]][-1] == 0.004
    again, said = app.click(run, kept, 34, 26, 0.5)
    assert said.startswith("Removed") and again.kept == () and len(again.counted(0.5)) == 3
    assert app.click(run, kept, 45, 38, 0.5)[0].kept == kept.kept  # a click elsewhere leaves it


def test_two_guesses_are_kept_beside_each_other() -> None:
    image = seen()
    for left in (15, 35):
        run = Guessing(Instance(np.full((6, 6), 255, np.uint8), 25, left, 0.1))
        image, _ = app.keep(app.click(run, image, left + 2, 27, 0.5)[0])
    assert len(image.counted(0.5)) == 5 and len(image.counted(0.95)) == 2


def test_a_guess_that_counts_already_cannot_be_kept_once_more() -> None:
    image = seen()
    # without a guess: what was found there
    for run in (Guessing(replace(image.found[0], score=0.01)), Guessing(None)):
        got, said = app.click(run, image, 3, 8, 0.5)
        assert "score 0.90" in said and "counts already" in said and not got.may_keep(0.5)
        assert app.describe(got, 0.95).startswith(
            f"Nothing here (best guess {got.guess.score:.2f})."
        )
        assert app.keep(got)[0].counted(0.95) == [got.found[0]]  # but above its score it does not
    low, said = app.click(Guessing(None), image, 37, 8, 0.5)  # the fourth, of 0.3
    assert said.startswith("Nothing here (best guess 0.30).") and low.may_keep(0.5)
    assert app.count(app.keep(low)[0], 0.5) == "4 of 4 instances: 3 by score, 1 kept by you"
    none, said = app.click(Guessing(None), image, 40, 35, 0.5)
    assert said == "Nothing here: no instance is proposed at 40, 35." and not none.may_keep(0.5)


@pytest.mark.parametrize(
    "config",
    [PlacesConfig(generate=EVERYTHING), DetectorConfig(**SMALL), BoxDetectorConfig(**SMALL)],
    ids=lambda c: c.name,
)
def test_detectors_are_opened_with_the_names_of_their_classes(
    tmp_path: Path, config: object
) -> None:
    run = open_run(finetuned(tmp_path / "run", config))
    rng = np.random.default_rng(0)
    image = app.look(run, app.Seen("x.png", rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)))
    assert (
        run.categories == CLASSES
        and image.found
        and run.boxes == isinstance(config, BoxDetectorConfig)
    )
    made = app.coco(image, 0.0)
    assert made["categories"] == [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    names = [CLASSES[a.category][0] for a in image.counted(0.0) if a.area]
    assert [a["category_id"] for a in made["annotations"]] == names
    assert all(("segmentation" in a) != run.boxes for a in made["annotations"])
    assert "cat" in app.count(image, 0.0) or "dog" in app.count(image, 0.0)
    for show in app.SHOWS:
        assert app.drawn(image, 0.0, show).shape == (64 * 7, 96 * 7, 3)

    first = image.found[0]  # a click picks what was found there, or draws it anew
    left, top, w, h = first.box_xywh
    y, x = next(
        (y, x) for y in range(top, top + h) for x in range(left, left + w) if first.covers(y, x)
    )
    got, said = app.click(run, image, x, y, first.score + 0.01)
    guess = got.guess
    assert guess is not None and guess.covers(y, x) and CLASSES[guess.category][1] in said
    if not isinstance(config, PlacesConfig):
        assert said.startswith(f"Nothing here (best guess {first.score:.2f})") and guess == first
    elif guess.score < first.score:
        assert said.startswith(f"Nothing here (best guess {guess.score:.2f})")


def test_a_place_is_one_of_the_image_also_where_the_model_sees_it_in_another_size(
    tmp_path: Path,
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    for fit in (48, 192):
        run = open_run(finetuned(tmp_path / str(fit), PlacesConfig(generate=EVERYTHING), fit=fit))
        places = [(y, x) for y in range(8, 64, 16) for x in range(8, 96, 16)]
        guesses = [(run.at(image, y, x), y, x) for y, x in places]
        drawn = [(a, y, x) for a, y, x in guesses if a is not None]
        assert len(drawn) > 3 and all(
            a.window[0].stop <= 64 and a.window[1].stop <= 96 for a, _, _ in drawn
        )
        # but for edges of what is drawn
        assert np.mean([a.covers(y, x) for a, y, x in drawn]) > 0.8


def test_what_finds_no_instances_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unet gives each pixel a class"):
        open_finder(finetuned(tmp_path / "unet", SegmenterConfig()))
    with pytest.raises(ValueError, match=r"neither alpha\.safetensors nor model\.safetensors"):
        open_run(tmp_path)
    runs = [write_run(tmp_path / name / "same", 0) for name in "ab"]
    assert list(open_runs(runs)) == ["same", str(runs[1])]


def test_a_proposer_is_seen_beside_a_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 40, (64, 96, 3), np.uint8)
    cv2.circle(picture, (50, 30), 14, (220, 200, 210), -1)
    cv2.imwrite(str(tmp_path / "disc.png"), picture)
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((64, 96, 3), 90, np.uint8))
    runs = open_runs([Path("tree"), write_run(tmp_path / "run", 0)])
    assert list(runs) == ["tree", "run"]
    seen = app.look(runs["tree"], app.read(str(tmp_path / "disc.png")))
    (wanted,) = propose("tree", seen.pixels)
    (found,) = seen.counted(runs["tree"].score)
    assert np.array_equal(found.alpha, wanted.alpha) and found.score == wanted.score
    assert app.notes(runs["tree"], seen) == ""
    assert app.click(runs["tree"], seen, 50, 30, 0.0)[1].endswith("It counts already.")
    empty = app.look(runs["tree"], app.read(str(tmp_path / "flat.png")))
    assert "nothing is found, not even" in app.notes(runs["tree"], empty)
    assert "genseg scan FOLDER --scale" in app.notes(runs["tree"], empty)
    with pytest.raises(ValueError, match="frozen teacher sees, and there is none"):
        open_runs([Path("cut")])


def test_the_slider_begins_where_a_user_would_keep_what_a_run_finds() -> None:
    """A run that keeps all for its order covered the picture with veils."""
    image = seen()
    many = tuple(replace(image.found[0], score=0.09 - 0.001 * n) for n in range(80))
    assert app.start(Guessing(None, score=0.5), image, 0.7) == 0.7, "as the user has set it"
    everything = Guessing(None, score=0.001)
    assert app.start(everything, image, 0.001) == 0.5
    image = replace(image, found=many)
    assert len(image.scoring(app.start(everything, image, 0.001))) == 3
