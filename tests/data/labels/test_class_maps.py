"""Maps of classes: made of instances against a naive twin, and read from folders."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from coco_made import note, write_blobs, write_image, write_json
from PIL import Image
from pycocotools import mask as rle

from genseg.data.images.coco_files import CocoError
from genseg.data.labels.class_maps import read_class_map, read_mask_folder, semantic_target
from genseg.data.labels.labelled_set import read_labelled


def test_the_smaller_instance_lies_on_top(tmp_path: Path) -> None:
    labelled, _ = read_labelled(write_blobs(tmp_path, each=20), masks=True)
    for image in labelled.images:
        assert image.masks is not None
        masks = [rle.decode(m).astype(bool) for m in image.masks]
        found = semantic_target(image, 2)
        for y in range(0, image.height, 3):
            for x in range(0, image.width, 3):
                here = [i for i, m in enumerate(masks) if m[y, x]]
                solid = [i for i in here if not image.crowd[i]]
                if solid:
                    expected = image.classes[min(solid, key=lambda i: (masks[i].sum(), -i))] + 1
                else:
                    expected = 255 if here else 0
                assert found[y, x] == expected


def write_map(path: Path, values: np.ndarray, *, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette:
        image = image.convert("P")
        image.putdata(values.ravel().tolist())
        image.putpalette([3 * i % 256 for i in range(768)])
    image.save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three images with two maps, one of them with a palette."""
    for name in ("a", "b", "c"):
        write_image(tmp_path / f"images/in/{name}.png", 20, 30)
    values = np.zeros((20, 30), np.uint8)
    values[4:8, 5:9], values[10:, 20:] = 2, 255
    write_map(tmp_path / "masks/in/a.png", values)
    write_map(tmp_path / "masks/in/b.png", values // 2 * 2 % 254, palette=True)
    return tmp_path / "images", tmp_path / "masks"


def test_a_folder_of_maps(folders: tuple[Path, Path]) -> None:
    labelled, findings = read_mask_folder(*folders)
    assert [i.name for i in labelled.images] == ["in/a.png", "in/b.png"]
    assert labelled.categories == ((1, "1"), (2, "2")) and not labelled.outlined
    assert [(f.what, f.count, f.first) for f in findings] == [
        ("images without a map of classes", 1, "in/c.png")
    ]
    first, second = (semantic_target(i, 2) for i in labelled.images)
    assert first[5, 6] == 2 and first[15, 25] == 255 and first[0, 0] == 0
    assert second[5, 6] == 2 and second[15, 25] == 0
    again, _ = read_mask_folder(*folders, categories=((5, "x"), (6, "y"), (7, "z")))
    assert len(again.categories) == 3


def test_classes_may_have_names(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("road\ncar\n\nsign\n")
    assert read_mask_folder(*folders)[0].categories == ((1, "road"), (2, "car"), (3, "sign"))
    for bad in ("road\n", "road\nroad\n"):
        (tmp_path / "classes.txt").write_text(bad)
        with pytest.raises(CocoError, match="has 1 different names, and the maps hold class 2"):
            read_mask_folder(*folders)


def test_levels_of_grey_are_told(folders: tuple[Path, Path]) -> None:
    """What smooth resizing makes of 0 and 255."""
    for name in ("a", "b"):
        write_map(
            folders[1] / f"in/{name}.png",
            np.array([[0, 127, 255]], np.uint8).repeat(20, 0).repeat(10, 1),
        )
    unused = read_mask_folder(*folders)[1][-1]
    assert (unused.count, unused.first) == (
        126,
        "class 1",
    ) and "are the maps grey pictures" in unused.outcome


def test_maps_of_another_size_are_left_out(folders: tuple[Path, Path]) -> None:
    write_map(folders[1] / "in/c.png", np.zeros((9, 9), np.uint8))
    findings = read_mask_folder(*folders)[1]
    assert [(f.what, f.first) for f in findings] == [
        ("maps of another size than their image", "in/c.png: 30 x 20, its map 9 x 9")
    ]


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_truncated_files_are_left_out(tmp_path: Path, folder: str) -> None:
    noise = np.random.default_rng(0).integers(0, 3, (60, 60), np.uint8)
    for name in ("a", "b"):
        write_image(tmp_path / f"images/{name}.png", 60, 60)
        write_map(tmp_path / f"masks/{name}.png", noise)
    cut = tmp_path / folder / "b.png"
    cut.write_bytes(cut.read_bytes()[:-60])  # its header is whole
    labelled, (finding,) = read_mask_folder(tmp_path / "images", tmp_path / "masks")
    assert [i.name for i in labelled.images] == ["a.png"]
    assert finding.what == "images or maps that cannot be read" and finding.first.startswith(
        "b.png: "
    )


def test_folders_that_cannot_be_used(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(CocoError, match="the maps hold class 2, the training split has 1"):
        read_mask_folder(*folders, categories=((1, "x"),))
    with pytest.raises(CocoError, match="none of 3 images of .* has a map of its name"):
        read_mask_folder(folders[0], tmp_path / "none")
    for name in ("a", "b"):
        write_map(folders[1] / f"in/{name}.png", np.full((20, 30), 255, np.uint8))
    with pytest.raises(
        CocoError, match=r"the maps hold only \[255\], and 255 is ignored; write class 1 as 1"
    ):
        read_mask_folder(*folders)


def test_bad_maps_and_images(folders: tuple[Path, Path], tmp_path: Path) -> None:
    labelled, _ = read_mask_folder(*folders)
    with pytest.raises(ValueError, match="it holds 2; there are classes 1 to 1"):
        semantic_target(labelled.images[0], 1)
    write_map(folders[1] / "in/a.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(ValueError, match="9 x 9 pixels, its image has 30 x 20"):
        semantic_target(labelled.images[0], 2)
    with pytest.raises(ValueError, match="255 classes, and a map of 8 bits holds 1 to 254"):
        semantic_target(labelled.images[0], 255)
    with pytest.raises(
        ValueError, match="a PNG with a palette or grey, each value one class; got RGB"
    ):
        read_class_map(folders[0] / "in/a.png")
    shutil.copy(folders[0] / "in/b.png", folders[1] / "in/b.png")
    with pytest.raises(
        CocoError, match="masks/in/b.png: a map of classes is a PNG with a palette or grey"
    ):
        read_mask_folder(*folders)
    write_map(tmp_path / "deep.png", np.full((4, 4), 300, np.uint16))
    with pytest.raises(ValueError, match="it holds 300; classes are 1 to 254"):
        read_class_map(tmp_path / "deep.png")
    (boxes,) = read_labelled(write_json(tmp_path / "images", [note(1)]), masks=False)[0].images
    with pytest.raises(
        ValueError, match="1.png has boxes alone: the class of each pixel needs masks"
    ):
        semantic_target(boxes, 1)
