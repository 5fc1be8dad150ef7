"""What the viewer's script gets: every alpha is in the atlas, byte for byte, and large images
become small."""

import base64

import cv2
import numpy as np

from genseg.data.instances.instance import Instance
from genseg.show.viewer import LONGEST, Picture, atlas, data_uri, picture_data, viewer


def decoded(uri: str) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(uri.split(",", 1)[1]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)


def alphas(count: int, largest: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, rng.integers(1, largest, 2), dtype=np.uint8) for _ in range(count)]


def test_the_atlas_holds_every_alpha_and_none_overlaps() -> None:
    many = alphas(80, 90) + [np.full((3, 1500), 7, np.uint8)]  # one is wider than a row
    sheet, places = atlas(many)
    taken = np.zeros(sheet.shape, int)
    for alpha, (x, y) in zip(many, places, strict=True):
        h, w = alpha.shape
        np.testing.assert_array_equal(sheet[y : y + h, x : x + w], alpha)
        taken[y : y + h, x : x + w] += 1
    assert taken.max() == 1
    assert sum(a.size for a in many) > 0.5 * sheet.size
    assert atlas([])[0].shape == (1, 1)


def test_data_of_a_picture_gives_the_instances_back() -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    found = tuple(Instance(a, 3 * n, 2 * n, 0.9 - n / 10) for n, a in enumerate(alphas(4, 20)))
    truth = tuple(Instance(a, n, 5 * n) for n, a in enumerate(alphas(3, 25)))
    data = picture_data(
        Picture("a<b>.png", pixels, found, ("w", "x", "y", "z"), truth=truth, note="2 of 3")
    )
    assert (data["width"], data["height"], data["labels"]) == (80, 60, ["w", "x", "y", "z"])
    sheet = decoded(data["atlas"])
    for (left, top, w, h, x, y, score, _, area), a in zip(data["found"], found, strict=True):
        np.testing.assert_array_equal(sheet[y : y + h, x : x + w], a.alpha)
        assert (left, top, area) == (a.left, a.top, a.area) and abs(score - a.score) < 1e-4
    for (left, top, w, h, x, y), a in zip(data["truth"], truth, strict=True):
        np.testing.assert_array_equal(sheet[y : y + h, x : x + w], a.alpha)
        assert (left, top) == (a.left, a.top)
    assert data["note"] == "2 of 3" and 'type="checkbox"' in viewer("found", [data], scored=True)
    image = decoded(data["image"])[..., ::-1]
    # noise is hard on WebP
    np.testing.assert_allclose(image.mean((0, 1)), pixels.mean((0, 1)), atol=8)


def test_large_images_and_their_instances_are_shrunk_together() -> None:
    pixels = np.zeros((LONGEST, 2 * LONGEST, 3), np.uint8)
    pixels[400:600, 800:1200] = 255
    found = (
        Instance(np.full((200, 400), 255, np.uint8), 400, 800),
        Instance(np.full((1, 1), 255, np.uint8), 5, 5),
    )
    data = picture_data(Picture("large", pixels, found))
    assert (data["width"], data["height"]) == (LONGEST, LONGEST // 2)
    (row,) = data["found"]  # what is smaller than a pixel there is left out
    assert row[:4] == [400, 200, 200, 100] and row[8] == 200 * 400 and data["small"] == 1
    image = decoded(data["image"])
    assert image[250, 500].min() > 250 and image[150, 500].max() < 5


def test_colours_come_as_colours() -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    b, g, r = decoded(data_uri(red))[4, 4]
    assert r > 240 and g < 20 and b < 20


def test_the_html_names_images_as_text() -> None:
    picture = picture_data(Picture('"><script>', np.zeros((8, 8, 3), np.uint8), (), soft=False))
    html = viewer("found", [picture], scored=True)
    assert "<script>" not in html and "&quot;&gt;&lt;script&gt;" in html
    assert "Soft alpha" not in html and "Hard mask" in html and 'type="range"' in html
    assert 'type="range"' not in viewer("found", [picture], scored=False)
