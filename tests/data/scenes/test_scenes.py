"""Scenes are exact (alphas sum to one, the picture is the sum of its layers), repeatable, varied,
and safe to write."""

import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from full_disk import no_file_above
from pycocotools.coco import COCO
from sklearn.neighbors import KNeighborsClassifier

from genseg.cli import main
from genseg.data.images.cache import CacheError
from genseg.data.images.files import list_images
from genseg.data.scenes import materials, scenes
from genseg.data.scenes.materials import MATERIALS, Tone, draw_texture, paint
from genseg.data.scenes.outlines import OUTLINES, draw_alpha
from genseg.data.scenes.scenes import (
    FolderExists,
    Scene,
    compose_object,
    compose_scene,
    default_scenes,
    write_scenes,
)


@pytest.fixture(scope="module")
def many() -> list[Scene]:
    return [compose_scene(0, i, size=96) for i in range(60)]


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def same(a: Scene, b: Scene) -> bool:
    names = ("image", "colour", "amodal", "visible", "background")
    return a.labels == b.labels and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in names)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("compose", [compose_scene, compose_object])
def test_the_picture_is_the_sum_of_its_layers(compose, split: str) -> None:
    """A naive twin in float64 of the occlusion and of the compositing, layer by layer."""
    for i in range(4):
        scene = compose(3, i, size=64, split=split)
        alphas, colours = scene.amodal.astype(np.float64), scene.colour.astype(np.float64)
        picture = colours[0]
        for k, alpha in enumerate(alphas):
            in_front = np.prod([1 - a for a in alphas[k + 1 :]], axis=0)
            np.testing.assert_allclose(scene.visible[k], alpha * in_front, atol=1e-6)
            picture = picture * (1 - alpha[..., None]) + colours[k + 1] * alpha[..., None]
        np.testing.assert_allclose(scene.background, np.prod(1 - alphas, axis=0), atol=1e-6)
        np.testing.assert_allclose(scene.visible.sum(0) + scene.background, 1, atol=1e-6)
        assert np.abs(scene.image - 255 * picture).max() < 0.5 + 1e-3
        assert min(alphas.min(), colours.min()) >= 0 and max(alphas.max(), colours.max()) <= 1


@pytest.mark.parametrize("compose", [compose_scene, compose_object])
def test_a_scene_is_a_function_of_its_arguments(compose) -> None:
    first = compose(1, 5, size=64)
    np.random.seed(7)
    compose(1, 6, size=64, split="val")
    materials._levels.cache_clear()
    assert same(compose(1, 5, size=64), first)
    others = compose(2, 5, size=64), compose(1, 6, size=64), compose(1, 5, size=64, split="val")
    for other in others:
        assert not np.array_equal(other.image, first.image)


def test_scenes_have_three_to_eight_objects_that_hide_each_other(many: list[Scene]) -> None:
    assert {len(s.labels) for s in many} == {*range(3, 9)}
    assert {label for s in many for label in s.labels} == {*range(len(OUTLINES))}
    in_sight = [s.visible.sum((1, 2)) / s.amodal.sum((1, 2)) for s in many]
    # most scenes have an occlusion ...
    assert np.mean([part.min() < 0.9 for part in in_sight]) > 0.8
    assert min(part.min() for part in in_sight) > 0.3  # ... that leaves something of everything
    assert min((s.visible > 0.5).sum((1, 2)).min() for s in many) >= 20


def test_edges_are_soft_and_thin(many: list[Scene]) -> None:
    """Pixels in between lie along the outline only, in a band of half a pixel to 6; inside, an
    object is opaque."""
    for alpha in (a for s in many[:20] for a in s.amodal):
        between = int(((alpha > 0.05) & (alpha < 0.95)).sum())
        inside = (alpha > 0.5).astype(np.uint8)
        edge = int((inside - cv2.erode(inside, np.ones((3, 3), np.uint8))).sum())
        assert 0.5 < between / edge < 6
        assert alpha.max() > 0.98
        assert len(np.unique(alpha)) > 50  # many levels: no binary mask


@pytest.mark.parametrize("name", list(OUTLINES))
def test_alpha_covers_the_area_of_its_outline(name: str) -> None:
    """Against the shoelace formula; blur and turning keep an area. The outlines vary."""
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(8):
        contours = OUTLINES[name](rng)
        x, y = zip(*(c.T for c in contours), strict=True)
        pieces = [
            abs(np.sum(a * np.roll(b, 1) - b * np.roll(a, 1))) / 2
            for a, b in zip(x, y, strict=True)
        ]
        area = pieces[0] - sum(pieces[1:])  # a second contour is a hole
        alpha = draw_alpha(contours, rng, size=128, radius=0.3, centre=(0.45, 0.55))
        assert alpha.sum() == pytest.approx(area * (0.3 * 128) ** 2, rel=0.03)
        rows, columns = np.indices(alpha.shape)
        if name == "ellipse":  # symmetric: its centre of mass is where it was put
            assert (alpha * columns).sum() / alpha.sum() == pytest.approx(0.45 * 128 - 0.5, abs=0.1)
            assert (alpha * rows).sum() / alpha.sum() == pytest.approx(0.55 * 128 - 0.5, abs=0.1)
        assert 0.6 < max(np.hypot(*c.T).max() for c in contours) < 1.9
        areas.append(area)
    assert np.std(areas) > 0.01


def test_splits_share_no_photograph_and_the_wheel_has_them_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photos = {split: {m.photo for m in group.values()} for split, group in MATERIALS.items()}
    assert photos["train"].isdisjoint(photos["val"])
    for name in photos["train"] | photos["val"]:
        assert (Path(skimage.__file__).parent / "data" / name).is_file()
    used: set[str] = set()

    def spy(material, *args, **kwargs):
        used.add(material.photo)
        return draw_texture(material, *args, **kwargs)

    monkeypatch.setattr(scenes, "draw_texture", spy)
    for split, expected in photos.items():
        used.clear()
        for i in range(12):
            compose_scene(0, i, size=32, split=split)
            compose_object(0, i, size=32, split=split)
        assert used == expected


@pytest.mark.parametrize("split", ["train", "val"])
def test_textures_lose_the_colour_and_light_of_the_photograph(split: str) -> None:
    rng = np.random.default_rng(0)
    flat = np.zeros((60, 80), np.float32)
    for material in MATERIALS[split].values():
        texture = draw_texture(material, rng, shape=(60, 80), size=128)
        np.testing.assert_allclose(texture.mean((0, 1)), 0, atol=0.1)
        assert 0.3 < texture[..., 0].std() < 1.01 and np.abs(texture[..., 0]).max() <= 3
        painted = paint(texture, flat, rng, tone=Tone(light=55, chroma=15, hue=2.0), contrast=6)
        lab = cv2.cvtColor(painted, cv2.COLOR_RGB2LAB).mean((0, 1))
        np.testing.assert_allclose(lab, (55, 15 * np.cos(2), 15 * np.sin(2)), atol=1.5)


def nearest(train: np.ndarray, test: np.ndarray, classes: int) -> float:
    """Accuracy of the 9 nearest neighbours where item i is of class i modulo `classes`."""
    mean, std = train.mean(0), train.std(0) + 1e-6
    found = KNeighborsClassifier(9).fit((train - mean) / std, np.arange(len(train)) % classes)
    return float(found.score((test - mean) / std, np.arange(len(test)) % classes))


def test_structure_tells_the_material_and_pixels_do_not() -> None:
    """Of 8 materials: thumbnails and mean colours near the chance of 0.125; a few statistics of
    bands well above it."""
    images = [compose_object(0, i, size=96).image for i in range(480)]
    raw = np.stack(
        [cv2.resize(i, (16, 16), interpolation=cv2.INTER_AREA).ravel() for i in images]
    ).astype(np.float64)
    colour = np.stack([i.mean((0, 1)) for i in images])
    assert nearest(raw[:320], raw[320:], 8) < 0.25
    assert nearest(colour[:320], colour[320:], 8) < 0.25

    def statistics(image: np.ndarray) -> list[float]:
        light = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[28:68, 28:68].astype(np.float32)
        light = (light - light.mean()) / light.std()
        blurred = [light, *(cv2.GaussianBlur(light, (0, 0), s) for s in (0.7, 1.4, 2.8, 5.6))]
        bands = [a - b for a, b in pairwise(blurred)]
        return [
            v
            for b in bands
            for v in (b.std(), (b**3).mean() / b.std() ** 3, np.abs(b).mean() / b.std())
        ]

    structure = np.array([statistics(i) for i in images])
    assert nearest(structure[:320], structure[320:], 8) > 0.5


def test_written_scenes_are_coco(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scenes(tmp_path / "out", count=3, size=64, seed=4, split="val", objects=12, alphas=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(OUTLINES)
    # number 0 would break COCO's AP
    assert len(coco.getImgIds()) == 3 and min(coco.getAnnIds()) == 1
    for i, image in enumerate(coco.loadImgs(coco.getImgIds())):
        scene = compose_scene(4, i, size=64, split="val")
        name = image["file_name"]
        np.testing.assert_array_equal(
            read(tmp_path / "out" / "images" / name)[..., ::-1], scene.image
        )
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert len(annotations) == len(scene.labels)
        for k, annotation in enumerate(annotations):
            mask = scene.visible[k] > 0.5
            np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), mask)
            assert (
                annotation["area"] == mask.sum()
                and annotation["iscrowd"] == 0
                and annotation["depth"] == k
            )
            assert annotation["amodal_area"] == (scene.amodal[k] > 0.5).sum() >= annotation["area"]
            assert annotation["category_id"] == scene.labels[k] + 1
            rows, columns = np.nonzero(mask)
            width, height = columns.max() - columns.min() + 1, rows.max() - rows.min() + 1
            assert annotation["bbox"] == [columns.min(), rows.min(), width, height]
            stored = read(tmp_path / "out" / "alphas" / f"{name[:-4]}-{k}.png")
            assert np.abs(stored / 255 - scene.visible[k]).max() <= 0.5 / 255 + 1e-6

    images = list_images(tmp_path / "out" / "objects")
    # which are in alphabetical order, as class folders are read
    assert images.classes == tuple(MATERIALS["val"])
    assert images.labels is not None and len(images) == 12
    for i in range(12):
        scene = compose_object(4, i, size=64, split="val")
        place = images.files.index(f"{images.classes[scene.labels[0]]}/{i:06d}.png")
        np.testing.assert_array_equal(read(images.path(place))[..., ::-1], scene.image)
        assert images.labels[place] == scene.labels[0]


def test_writing_fails_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    with pytest.raises(FolderExists, match="there exists already; choose another"):
        write_scenes(tmp_path / "there", count=1, size=64, seed=0, split="train")
    assert (tmp_path / "there" / "mine.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="objects=-1"):
        write_scenes(tmp_path / "new", count=1, size=64, seed=0, split="train", objects=-1)
    with pytest.raises(ValueError, match="split 'test' is unknown; use 'train' or 'val'"):
        write_scenes(tmp_path / "new", count=1, size=64, seed=0, split="test")
    with pytest.raises(ValueError, match="size 16 is too small"):
        compose_object(0, 0, size=16)
    with no_file_above(1000), pytest.raises(OSError, match="File too large"):
        write_scenes(tmp_path / "new", count=1, size=64, seed=0, split="train", objects=1)
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and default scenes that are few and small."""
    monkeypatch.setenv("GENSEG_CACHE", str(tmp_path / "cache"))

    def few(folder: Path, *, count: int, size: int, seed: int, split: str, objects: int) -> None:
        assert (count, size, objects) == (600, 128, 1000)
        write_scenes(folder, count=2, size=32, seed=seed, split=split, objects=8)

    monkeypatch.setattr(scenes, "write_scenes", few)
    return tmp_path / "cache"


def test_default_scenes_are_made_once(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = default_scenes()
    assert images.parent.parent == small and len(list_images(images)) == 2
    assert len(json.loads((images.parent / "annotations.json").read_text())["images"]) == 2
    monkeypatch.setattr(scenes, "write_scenes", None)  # is not called again
    assert list_images(default_scenes("objects")).classes == tuple(MATERIALS["train"])
    with pytest.raises(ValueError, match="kind 'photos' is unknown; use 'images' or 'objects'"):
        default_scenes("photos")


@pytest.mark.parametrize("moment", ["before", "while"])
def test_of_two_processes_the_first_one_s_scenes_stay(
    small: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The other process finishes between our look and our start, or between our start and our
    end."""
    hook = {"before": "write_scenes", "while": "compose_object"}[moment]
    ours = getattr(scenes, hook)

    def meanwhile(*args, **kwargs):
        other = small / f"scenes-{scenes.VERSION}" / "images"
        if not other.exists():
            other.mkdir(parents=True)
            (other / "theirs.png").touch()
        return ours(*args, **kwargs)

    monkeypatch.setattr(scenes, hook, meanwhile)
    assert [p.name for p in default_scenes().iterdir()] == ["theirs.png"]
    assert [p.name for p in small.iterdir()] == [f"scenes-{scenes.VERSION}"]


def test_a_cache_that_cannot_be_written_is_named(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.write_text("a file where the folder should be")
    with pytest.raises(
        CacheError, match="cannot keep the embedded pictures in .*cache.*GENSEG_CACHE"
    ):
        default_scenes()


def test_the_command_writes_true_alphas_where_asked(tmp_path: Path) -> None:
    assert main(["scenes", str(tmp_path / "s"), "--count", "2", "--size", "64", "--alphas"]) == 0
    content = json.loads((tmp_path / "s/annotations.json").read_text())
    assert len(list((tmp_path / "s/alphas").iterdir())) == len(content["annotations"])
