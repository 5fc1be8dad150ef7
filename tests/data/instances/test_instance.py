"""Instances against whole images; COCO's formats against pycocotools; what cannot be used, with its
message."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from decoded import decode_segmentation
from pycocotools import mask as rle

from genseg.data.images.coco_files import CocoError, load_json
from genseg.data.instances.coco import annotate, annotation, read_json
from genseg.data.instances.instance import Instance, cut, cut_instance, filled, mirrored, resized
from genseg.data.instances.run_length import code_segmentation, encode
from genseg.data.labels.annotated import read_scored

IMAGES = [{"id": 7, "file_name": "a.png", "height": 6, "width": 8, "kind": "dark"}]
BOX = {"id": 3, "image_id": 7, "bbox": [1.0, 2.0, 3.0, 2.0]}
SQUARE = [[1.0, 2.0, 4.0, 2.0, 4.0, 4.0, 1.0, 4.0]]


def soft_map() -> np.ndarray:
    """6 x 8: a soft rim around 2 x 3 pixels of the mask."""
    alpha = np.zeros((6, 8), np.uint8)
    alpha[1:5, 1:6] = 127
    alpha[2:4, 2:5] = 128
    return alpha


def test_an_instance_is_its_map_cut_to_where_it_is_not_zero() -> None:
    found = cut_instance(soft_map(), 0.5)
    assert found is not None
    assert (found.top, found.left, found.alpha.shape, found.score) == (1, 1, (4, 5), 0.5)
    assert found.area == 6 and found.box_xywh == (2, 2, 3, 2)
    assert (found.paint(6, 8) == soft_map()).all()
    assert (soft_map()[found.window] == found.alpha).all()
    assert (found.mask == (found.alpha >= 128)).all()


def test_a_mask_becomes_an_opaque_instance() -> None:
    found = cut_instance(soft_map() >= 128)
    assert found is not None and (found.alpha == 255).all() and found.box_xywh == (2, 2, 3, 2)


def test_a_map_without_a_mask_is_no_instance_unless_it_is_asked_for() -> None:
    faint = np.minimum(soft_map(), 127)
    assert cut_instance(faint) is None
    assert (cut(faint).paint(6, 8) == faint).all() and cut(faint).area == 0
    nothing = cut(np.zeros((6, 8), np.uint8))
    assert nothing.area == 0 and nothing.alpha.shape == (1, 1)
    assert cut_instance(np.zeros((6, 8), bool)) is None


def test_a_mirrored_instance_is_that_of_the_mirrored_image() -> None:
    alpha = soft_map()
    alpha[3, 5] = 200
    found = mirrored(cut(alpha, 0.5), 8)
    assert (found.paint(6, 8) == alpha[:, ::-1]).all() and found.score == 0.5
    assert (mirrored(found, 8).paint(6, 8) == alpha).all()


def test_a_resized_instance_is_that_of_the_resized_image() -> None:
    square = Instance(np.full((4, 6), 255, np.uint8), top=8, left=10, score=0.5)
    larger, smaller = resized(square, (24, 32), (48, 96)), resized(square, (24, 32), (12, 16))
    whole = cv2.resize(square.paint(24, 32), (96, 48), interpolation=cv2.INTER_LINEAR)
    # its corners are half covered
    assert larger is not None and cv2.absdiff(larger.paint(48, 96), whole).max() <= 1
    assert (larger.box_xywh, larger.score) == ((30, 16, 18, 8), 0.5)
    soft = Instance(np.random.default_rng(0).integers(1, 256, (5, 7), np.uint8), top=0, left=5)
    # an alpha at three of the image's edges, faint ones too
    for size in ((12, 24), (20, 40), (29, 31)):
        found = resized(soft, (5, 12), size)
        whole = cv2.resize(soft.paint(5, 12), size[::-1], interpolation=cv2.INTER_LINEAR)
        assert found is not None and cv2.absdiff(found.paint(*size), whole).max() <= 4
    assert smaller is not None and (smaller.box_xywh, smaller.area, smaller.score) == (
        (5, 4, 3, 2),
        6,
        0.5,
    )
    whole = np.zeros((90, 120), np.uint8)
    cv2.ellipse(whole, (70, 50), (40, 25), 30, 0, 360, 255, -1)
    for size in ((37, 50), (131, 200)):
        got = resized(cut(whole), whole.shape, size)
        assert got is not None
        a, b = (
            got.paint(*size) >= 128,
            cv2.resize(whole, size[::-1], interpolation=cv2.INTER_AREA) >= 128,
        )
        assert (a & b).sum() / (a | b).sum() > 0.9


@pytest.mark.parametrize("larger", [3, 4, 8])
def test_an_enlarged_instance_loses_nothing_at_the_edge_of_the_image(larger: int) -> None:
    soft = np.full((3, 4), 200, np.uint8)
    for top, left in ((0, 0), (5, 6), (0, 6), (5, 0)):
        found = resized(Instance(soft, top, left), (8, 10), (8 * larger, 10 * larger))
        assert found is not None
        rows, columns = (
            found.mask.any(1).nonzero()[0] + found.top,
            found.mask.any(0).nonzero()[0] + found.left,
        )
        assert 0 in rows if top == 0 else 8 * larger - 1 in rows
        assert 0 in columns if left == 0 else 10 * larger - 1 in columns
    whole = resized(
        Instance(np.full((8, 10), 140, np.uint8), 0, 0), (8, 10), (8 * larger, 10 * larger)
    )
    assert (
        whole is not None
        and (whole.alpha == 140).all()
        and whole.alpha.shape == (8 * larger, 10 * larger)
    )


def test_an_instance_that_gets_too_small_is_none() -> None:
    thin = Instance(np.pad(np.full((1, 1), 255, np.uint8), 3), top=0, left=0)
    assert resized(thin, (70, 70), (10, 10)) is None


def test_masks_come_back_from_all_forms_of_a_segmentation() -> None:
    rng = np.random.default_rng(0)
    mask = (rng.random((6, 8)) < 0.4).astype(np.uint8)
    instance = cut(mask * np.uint8(255))
    coded = encode(instance, 6, 8)
    runs = [0, *np.diff(np.flatnonzero(np.diff(mask.T.ravel(), prepend=2, append=2))).tolist()]
    runs = runs[1:] if mask[0, 0] == 0 else runs
    for form in (
        json.loads(json.dumps(coded)),
        {"size": [6, 8], "counts": runs},
        rle.encode(np.asfortranarray(mask)),
    ):
        assert (decode_segmentation(form, 6, 8) == mask).all()
    polygons = [*SQUARE, [5.0, 0.0, 8.0, 0.0, 8.0, 3.0]]
    assert (
        decode_segmentation(polygons, 6, 8)
        == rle.decode(rle.merge(rle.frPyObjects(polygons, 6, 8)))
    ).all()


def test_polygons_without_an_inside_hold_nothing() -> None:
    assert decode_segmentation([[1.0, 1.0, 4.0, 4.0]], 6, 8).sum() == 0
    assert decode_segmentation([], 6, 8).sum() == 0
    assert (
        decode_segmentation([[1.0, 1.0, 4.0, 4.0], *SQUARE], 6, 8)
        == decode_segmentation(SQUARE, 6, 8)
    ).all()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [8, 6], "counts": [48]}, r"its size is \[8, 6\], the image's \[6, 8\]"),
        ("text", "neither a list of polygons nor an RLE"),
        ({"size": [6, 8]}, "neither a list of polygons nor an RLE"),
        ({"size": [6, 8], "counts": [-5, 53]}, "whole numbers from 0 on"),
        # ends the process
        ([[1, 1, None, 1, 4, 4]], "a polygon needs pairs of numbers within 10 sides of the image"),
        # has no end in pycocotools
        ([[1, 1, float("nan"), 1, 4, 4]], "a polygon needs pairs of numbers"),
        ([[1, 1, 1e7, 1, 4, 4]], "a polygon needs pairs of numbers"),
    ],
)
def test_what_is_no_segmentation_is_an_error(segmentation: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        code_segmentation(segmentation, 6, 8)


def test_an_annotation_is_read_as_it_was_written() -> None:
    instance = cut(soft_map(), 0.123456789)
    written = json.loads(json.dumps(annotation(instance, number=5, image=7, height=6, width=8)))
    assert {
        k: written[k] for k in ("id", "image_id", "category_id", "iscrowd", "area", "bbox", "score")
    } == {
        "id": 5,
        "image_id": 7,
        "category_id": 1,
        "iscrowd": 0,
        "area": 6,
        "bbox": [2, 2, 3, 2],
        "score": 0.12346,
    }
    (image,) = read_scored(IMAGES, [written], Path("x.json"))
    assert (image.name, image.height, image.width, image.kind, image.numbers) == (
        "a.png",
        6,
        8,
        "dark",
        (5,),
    )
    assert (image.instances[0].paint(6, 8) == 255 * (soft_map() >= 128)).all()
    assert image.instances[0].alpha.shape == (2, 3) and image.instances[0].score == 0.12346
    assert image.boxes_xywh.tolist() == [[2, 2, 3, 2]] and image.areas.tolist() == [6]
    assert image.outlined and image.alphas is None and not image.crowd.any()


def test_instances_in_memory_make_an_annotated_image() -> None:
    image = annotate([cut(soft_map(), 0.5)], height=6, width=8, name="a", kind="dark")
    assert (
        image.boxes_xywh.tolist() == [[2, 2, 3, 2]]
        and image.areas.tolist() == [6]
        and image.numbers == (1,)
    )
    assert image.alphas == image.instances
    empty = annotate([], height=6, width=8)
    assert empty.boxes_xywh.shape == (0, 4) and empty.crowd.shape == (0,)


def test_an_image_keeps_boxes_areas_and_crowds_of_the_json_and_fills_in_what_is_missing() -> None:
    given = {
        "id": 3,
        "image_id": 7,
        "bbox": [1.25, 2, 3, 2],
        "area": 5.5,
        "iscrowd": 1,
        "segmentation": SQUARE,
    }
    bare = {"image_id": 7, "segmentation": SQUARE}
    empty = {"image_id": 7, "segmentation": {"size": [6, 8], "counts": [48]}}
    (image,) = read_scored(IMAGES, [given, bare, empty], Path("x.json"))
    assert image.boxes_xywh.tolist() == [[1.25, 2, 3, 2], [1, 2, 3, 2], [0, 0, 0, 0]]
    assert image.areas.tolist() == [5.5, 6, 0] and image.crowd.tolist() == [True, False, False]
    assert [i.area for i in image.instances] == [6, 6, 0] and image.numbers == (3, 4, 5)


def test_without_segmentations_an_instance_is_its_box_inside_the_image() -> None:
    inside, over = read_scored(
        IMAGES, [BOX, BOX | {"bbox": [-2.0, 3.6, 5.0, 9.0], "score": 0.5}], Path("x.json")
    )[0].instances
    assert (inside.top, inside.left, inside.alpha.shape) == (2, 1, (2, 3))
    assert (over.top, over.left, over.alpha.shape, over.score) == (4, 0, (2, 3), 0.5)
    assert not read_scored(IMAGES, [BOX], Path("x.json"))[0].outlined
    assert read_scored(IMAGES, [], Path("x.json"))[0].outlined  # nothing there contradicts it


@pytest.mark.parametrize(
    ("images", "annotations", "message"),
    [
        (
            [{"id": 7, "file_name": "a.png"}],
            [BOX],
            "none of its 1 images can be used; .* gives no height and width",
        ),
        (
            [{"file_name": "a.png"}],
            [BOX],
            r"images\[0\] needs an id, a file_name, height and width",
        ),
        ([*IMAGES, {**IMAGES[0], "file_name": "b.png"}], [BOX], "image 7 is both a.png and b.png"),
        ([*IMAGES, {**IMAGES[0], "id": 8}], [BOX], "1 images with the file of another"),
        (
            IMAGES,
            [{"id": 3}],
            "1 annotations of images that are not listed, first: annotation 3 of image None",
        ),
        (
            IMAGES,
            [BOX, BOX | {"image_id": 9}],
            "1 annotations of images that are not listed, .* image 9",
        ),
        (
            IMAGES,
            [BOX, BOX | {"segmentation": SQUARE}],
            "1 annotations without a segmentation, .* 3 of a.png",
        ),
        ([{**IMAGES[0], "id": float("inf")}], [BOX], r"images\[0\] needs an id"),
        (
            IMAGES,
            [BOX | {"bbox": None}],
            "1 annotations without a box that can be used, first: annotation 3 of a.png",
        ),
        (
            IMAGES,
            [BOX | {"score": "high"}],
            "1 annotations whose score is no .* annotation 3 of a.png: 'high'",
        ),
        (IMAGES, [BOX | {"score": float("nan")}], "1 annotations whose score is no finite number"),
        (
            IMAGES,
            [BOX | {"iscrowd": "maybe"}],
            "1 annotations whose iscrowd is neither 0 nor 1, .*: 'maybe'",
        ),
        (
            IMAGES,
            [BOX | {"segmentation": {"size": [9, 9], "counts": "x"}}],
            "annotation 3 of a.png: .* no run-length text",
        ),
        (
            IMAGES,
            [BOX | {"segmentation": {"size": [8, 6], "counts": [48]}}],
            r"annotation 3 .* size is \[8, 6\]",
        ),
        (
            IMAGES,
            [BOX | {"segmentation": {"size": [6, 8], "counts": "5"}}],
            "annotation 3 .* do not sum up",
        ),
    ],
)
def test_what_cannot_be_used_is_named(images: Any, annotations: Any, message: str) -> None:
    with pytest.raises(CocoError, match=f"^x.json: .*{message}"):
        read_scored(images, annotations, Path("x.json"))


def test_files_that_are_no_coco_json_are_named(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    with pytest.raises(CocoError, match="x.json cannot be read as a COCO json: .*No such file"):
        load_json(file)
    file.write_text("{")
    with pytest.raises(CocoError, match="x.json cannot be read as a COCO json"):
        read_json(file)
    file.write_text("[" * 100_000)
    with pytest.raises(CocoError, match="x.json cannot be read as a COCO json"):
        read_json(file)
    file.write_text("[]", "utf-8-sig")  # with a byte order mark
    assert load_json(file) == []
    with pytest.raises(CocoError, match="it has no images and no annotations"):
        read_json(file)
    file.write_text('{"images": [], "annotations": []}')
    assert read_json(file) == {"images": [], "annotations": []}


def test_windows_may_lie_anywhere() -> None:
    instance = Instance(np.full((2, 3), 255, np.uint8), top=4, left=5)
    assert (
        instance.box_xywh == (5, 4, 3, 2)
        and instance.paint(6, 8)[4:, 5:].all()
        and instance.paint(6, 8).sum() == 6 * 255
    )


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ((1.0, 2.0, 4.0, 4.0), (2, 1, 2, 3)),
        ((3.2, 1.1, 3.4, 1.3), (1, 3, 1, 1)),
        ((7.8, 5.7, 8.0, 6.0), (5, 7, 1, 1)),
    ],
)
def test_a_box_is_filled_with_a_pixel_or_more(
    box: tuple[float, ...], window: tuple[int, ...]
) -> None:
    made = filled(box, 6, 8)
    assert (made.top, made.left, *made.alpha.shape) == window and made.mask.all()
