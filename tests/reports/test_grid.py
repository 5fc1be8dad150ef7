"""genseg visualize: the picture that is written, how jsons name their images, and what a user can
mend."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from genseg.core.names import INSTANCES_NAME
from genseg.data.images.coco_files import CocoError
from genseg.data.images.source import ImageError
from genseg.data.instances.coco import annotation
from genseg.data.instances.instance import Instance
from genseg.reports.grid import visualize
from genseg.show.draw import colour, grid, overlay
from genseg.workflows.generate.generate import GenerateOptions, generate_folder

SIDE = 32
NAMES = ("a.png", "b.png", "c.png")
FOUND = {
    name: [Instance(np.full((6, 8), 255, np.uint8), 3 + n, 5, 0.9)] for n, name in enumerate(NAMES)
}
PICTURE = {"count": 0, "columns": 1, "side": SIDE, "seed": 0}


def pixels(name: str) -> np.ndarray:
    return np.random.default_rng(ord(name[0])).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def coco(prefix: str = "", **changes: Any) -> dict[str, Any]:
    images = [
        {"id": n, "file_name": prefix + name, "height": SIDE, "width": SIDE} | changes
        for n, name in enumerate(NAMES)
    ]
    annotations = [
        annotation(i, number=n + 1, image=n, height=SIDE, width=SIDE)
        for n, name in enumerate(NAMES)
        for i in FOUND[name]
    ]
    return {"images": images, "annotations": annotations}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """images/ with three images; beside it found.json, which generation on a json leaves, and
    labels.json."""
    (tmp_path / "images").mkdir()
    for name in NAMES:
        cv2.imwrite(str(tmp_path / "images" / name), pixels(name)[..., ::-1])
    (tmp_path / "labels.json").write_text(json.dumps(coco()))
    (tmp_path / "found.json").write_text(json.dumps(coco("images/")))
    return tmp_path


def written(file: Path) -> np.ndarray:
    return cv2.imread(str(file))[..., ::-1]


@pytest.mark.parametrize("folder", ["", "images"])
@pytest.mark.parametrize("files", [["labels"], ["found"], ["found", "labels"], ["labels", "found"]])
def test_each_image_stands_before_its_instances_however_the_jsons_name_it(
    files: list[str], folder: str, place: Path
) -> None:
    said = visualize(
        [place / f"{f}.json" for f in files], place / folder, place / "new/grid.png", **PICTURE
    ).text()
    assert said == f"{place / 'new/grid.png'}: 3 images"
    rows = [
        x
        for name in NAMES
        for x in [pixels(name)] + [overlay(pixels(name), FOUND[name])] * len(files)
    ]
    np.testing.assert_array_equal(
        written(place / "new/grid.png"), grid(rows, columns=1 + len(files), side=SIDE)
    )


def test_what_generation_finds_of_a_json_is_drawn_beside_its_labels(place: Path) -> None:
    generate_folder(Path("centre"), str(place / "labels.json"), place / "out", GenerateOptions())
    listed = json.loads((place / "out" / INSTANCES_NAME).read_text())["images"]
    assert [i["file_name"] for i in listed] == ["images/a.png", "images/b.png", "images/c.png"]
    for folder in (place, place / "images"):
        visualize(
            [place / "out" / INSTANCES_NAME, place / "labels.json"],
            folder,
            place / "grid.png",
            **PICTURE,
        )
        assert written(place / "grid.png").shape[0] == 3 * SIDE + 2 * 4


def test_the_images_are_drawn_by_seed_and_stand_in_order(place: Path) -> None:
    seen = set()
    for seed in range(8):
        visualize(
            [place / "labels.json"],
            place,
            place / "grid.png",
            **PICTURE | {"count": 2, "seed": seed},
        )
        sheet = written(place / "grid.png")
        rows = [sheet[:SIDE, :SIDE], sheet[-SIDE:, :SIDE]]
        chosen = [
            n for row in rows for n, name in enumerate(NAMES) if np.array_equal(row, pixels(name))
        ]
        assert len(chosen) == 2 and chosen == sorted(chosen)
        seen.add(tuple(chosen))
    assert seen == {(0, 1), (0, 2), (1, 2)}
    assert (
        "3 images"
        in visualize(
            [place / "labels.json"], place, place / "grid.png", **PICTURE | {"count": 99}
        ).text()
    )


def test_what_a_user_can_mend_is_named(place: Path) -> None:
    def write(name: str, content: Any) -> Path:
        (place / name).write_text(json.dumps(content))
        return place / name

    labels, out = place / "labels.json", place / "grid.png"
    other = write(
        "other.json",
        {**coco(), "images": coco()["images"][:2], "annotations": coco()["annotations"][:2]},
    )
    with pytest.raises(
        CocoError, match=r"1 images of .*labels.json are not in the other jsons, the first is c.png"
    ):
        visualize([labels, other], place, out, **PICTURE)
    with pytest.raises(
        CocoError, match=r"there is no .*nowhere/a.png and no .*nowhere/images/a.png; give --images"
    ):
        visualize([labels], place / "nowhere", out, **PICTURE)
    with pytest.raises(CocoError, match="lists no image"):
        visualize([write("empty.json", {"images": [], "annotations": []})], place, out, **PICTURE)
    with pytest.raises(CocoError, match="it has no annotations"):
        visualize([write("half.json", {"images": []})], place, out, **PICTURE)
    with pytest.raises(
        CocoError,
        match=rf"a.png has {SIDE} x {SIDE} pixels, in .*large.json 40 x 40; give --images",
    ):
        boxes = {**coco(height=40, width=40), "annotations": []}
        visualize([write("large.json", boxes)], place, out, **PICTURE)
    with pytest.raises(ValueError, match=r"grid.jpg: pictures are PNG; end it in .png"):
        visualize([labels], place, place / "grid.jpg", **PICTURE)
    for name, least in (("count", 0), ("columns", 1), ("side", 1), ("seed", 0)):
        with pytest.raises(ValueError, match=f"{name}={least - 1}: use {least} or more"):
            visualize([labels], place, out, **PICTURE | {name: least - 1})
    assert not out.exists() and not (place / "grid.jpg").exists()
    (place / "images/b.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"images/b.png"):
        visualize([labels], place, out, **PICTURE)


def test_boxes_are_lines_in_the_colours_of_their_classes(place: Path) -> None:
    content = coco() | {"categories": [{"id": 7, "name": "a"}, {"id": 3, "name": "b"}]}
    for n, a in enumerate(content["annotations"]):
        del a["segmentation"]
        a["category_id"] = (7, 3, 3)[n]
    (place / "boxes.json").write_text(json.dumps(content))
    visualize([place / "boxes.json"], place, place / "grid.png", **PICTURE | {"count": 0})
    sheet = written(place / "grid.png")
    for n, name in enumerate(NAMES):
        top, left = n * (SIDE + 4), SIDE + 4
        drawn = sheet[top : top + SIDE, left : left + SIDE]
        inks = [int((drawn == colour(c)).all(-1).sum()) for c in (0, 1)]
        assert inks[(0, 1, 1)[n]] > 20 and inks[(1, 0, 0)[n]] == 0
        np.testing.assert_array_equal(drawn[25:], pixels(name)[25:])


def test_dim_images_are_drawn_brighter_with_a_word(place: Path) -> None:
    cv2.imwrite(str(place / "images" / NAMES[1]), pixels(NAMES[1])[..., ::-1] // 8)
    said = visualize([place / "labels.json"], place, place / "grid.png", **PICTURE).text()
    assert said.endswith("grid.png: 3 images; 1 dim image shown brighter")
    sheet = written(place / "grid.png")
    assert sheet[SIDE + 4 : 2 * SIDE + 4, :SIDE].max() == 255 and sheet[:SIDE, :SIDE].max() > 220
