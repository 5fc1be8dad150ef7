"""Images with their instances as the page's viewer takes them: small data that a canvas draws at
once."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from genseg.data.images.pixels import rgb_of
from genseg.data.instances.instance import Instance, resized
from genseg.show.brightness import brightened, display_gain, gain_words
from genseg.show.draw import PALETTE, boxes, colours, overlay
from genseg.show.paths import short_paths

Pixels = UInt8[np.ndarray, "_ _ c"]
ZOOM = (  # the wheel and the pointer do the same
    '<div class="zoom" role="group" aria-label="Zoom; arrow keys move the picture"><button '
    'type="button" data-zoom="in" aria-label="Zoom in">+</button><button type="button" '
    'data-zoom="out" aria-label="Zoom out">\N{MINUS SIGN}</button><button type="button" '
    'data-zoom="fit">Fit</button></div>'
)
LONGEST = 1024  # pixels of the longer side of an image in a page: enough to zoom in
THUMB = 144  # pixels of the small squares, for screens of two pixels a point
DIGITS = 4  # of a score
SHELF = 1024  # pixels in a row of the atlas, or as many as the widest alpha has


@dataclass(frozen=True)
class Picture:
    """An image, of whose channels three at most are shown, what was found in it, and what the page
    says of it.

    labels: the class of each instance; empty: there are none
    soft: the alphas are soft; otherwise they are masks
    boxes: the instances are boxes: they are drawn as lines, in the colour of their category
    truth: what is labelled in the image, for a line around each, white where there are no hues
    note: a word beside its name
    hues: which colour each instance has, where it is that of its class, and then of each of
        `truth`; empty: neighbours have different ones
    """

    name: str
    pixels: UInt8[np.ndarray, "_ _ c"]
    instances: tuple[Instance, ...]
    labels: tuple[str, ...] = ()
    soft: bool = True
    truth: tuple[Instance, ...] = ()
    note: str = ""
    hues: tuple[int, ...] = ()
    boxes: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", rgb_of(self.pixels))


def picture_data(picture: Picture, score: float = 0.0) -> dict[str, Any]:
    """What the viewer's script needs, as json: the image, one atlas of all alphas, and where each
    lies.

    A dim image is made brighter, and `note` says so. score: what scores less is not seen in the
    thumbnail

    found: left, top, width, height in the image; left and top in the atlas; score, colour and area
    small: how many more were found that are smaller than a pixel of the image as it is shown
    truth: the first six of these, and where classes have colours that of its class
    """
    pixels, instances = shrunk(picture.pixels, picture.instances)
    labelled = [
        (n, a) for n, a in enumerate(shrunk(picture.pixels, picture.truth)[1]) if a is not None
    ]
    truth, fixed = [a for _, a in labelled], [n % len(PALETTE) for n in _hues(picture)]
    own = fixed[len(picture.instances) :]
    kept = [(n, a) for n, a in enumerate(instances) if a is not None]
    alphas = [a for _, a in kept]
    sheet, places = atlas([a.alpha for a in (*alphas, *truth)])
    shades = [fixed[n] for n, _ in kept] if fixed else colours(alphas)
    rows = [
        [*_placed(a, place), round(a.score, DIGITS), hue, picture.instances[n].area]
        for (n, a), place, hue in zip(kept, places[: len(kept)], shades, strict=True)
    ]
    gain = display_gain(pixels)
    return {
        "name": short_paths(picture.name),
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "soft": picture.soft,
        "image": data_uri(brightened(pixels, gain)),
        "atlas": data_uri(sheet),
        "thumb": thumbnail(picture, score),
        "found": rows,
        "small": len(instances) - len(kept),
        "boxes": picture.boxes,
        "labels": [picture.labels[n] for n, _ in kept] if picture.labels else [],
        "note": "; ".join(filter(None, (picture.note, gain_words(gain)))),
        "truth": [
            [*_placed(a, place), *([own[n]] if own else [])]
            for (n, a), place in zip(labelled, places[len(kept) :], strict=True)
        ],
    }


def _hues(picture: Picture) -> tuple[int, ...]:
    """The colours that are fixed: those of classes where the picture says so, and always where
    boxes are drawn."""
    if picture.hues or not picture.boxes:
        return picture.hues
    return tuple(a.category for a in (*picture.instances, *picture.truth))


def _placed(a: Instance, place: tuple[int, int]) -> list[int]:
    return [a.left, a.top, a.alpha.shape[1], a.alpha.shape[0], *place]


def thumbnail(picture: Picture, score: float, *, side: int = THUMB) -> str:
    """A small square of the middle of an image, with the instances that score so much, as a data
    URI. A dim image is made brighter."""
    pixels, found = shrunk(picture.pixels, picture.instances)
    kept = [(n, a) for n, a in enumerate(found) if a is not None and a.score >= score]
    shapes, pixels = [a for _, a in kept], brightened(pixels, display_gain(pixels))
    if picture.boxes:
        drawn = boxes(pixels, shapes, ())
    else:
        drawn = overlay(
            pixels, shapes, hues=[picture.hues[n] for n, _ in kept] if picture.hues else None
        )
    h, w = drawn.shape[:2]
    n = min(h, w)
    square = drawn[(h - n) // 2 : (h - n) // 2 + n, (w - n) // 2 : (w - n) // 2 + n]
    small = cv2.resize(
        square, (side, side), interpolation=cv2.INTER_AREA if n > side else cv2.INTER_LINEAR
    )
    return data_uri(np.asarray(small), quality=80)


def shrunk(pixels: Pixels, instances: Sequence[Instance]) -> tuple[Pixels, list[Instance | None]]:
    """An image and its instances at no more than LONGEST pixels; None for what is too small to be
    seen there."""
    h, w = pixels.shape[:2]
    scale = LONGEST / max(h, w)
    if scale >= 1:
        return pixels, list(instances)
    size = (max(1, round(h * scale)), max(1, round(w * scale)))
    small = np.asarray(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA))
    return small, [resized(a, (h, w), size) for a in instances]


def atlas(
    alphas: Sequence[UInt8[np.ndarray, "_ _"]],
) -> tuple[UInt8[np.ndarray, "h w"], list[tuple[int, int]]]:
    """All alphas in one picture, the tallest first, row after row; and the left and top of each."""
    width = max([SHELF, *(a.shape[1] for a in alphas)])
    places = [(0, 0)] * len(alphas)
    x = y = tall = right = 0
    for n in sorted(range(len(alphas)), key=lambda n: -alphas[n].shape[0]):
        h, w = alphas[n].shape
        if x + w > width:
            x, y, tall = 0, y + tall, 0
        places[n] = (x, y)
        x, tall = x + w, max(tall, h)
        right = max(right, x)
    sheet = np.zeros((max(1, y + tall), max(1, right)), np.uint8)
    for alpha, (left, top) in zip(alphas, places, strict=True):
        sheet[top : top + alpha.shape[0], left : left + alpha.shape[1]] = alpha
    return sheet, places


def data_uri(pixels: UInt8[np.ndarray, "_ _ *c"], *, quality: int = 88) -> str:
    """A colour image as WebP, a grey one as PNG, for an <img> or a script. Of other channels three
    at most are shown."""
    if pixels.ndim == 2:
        kind, options, content = "png", [cv2.IMWRITE_PNG_COMPRESSION, 9], pixels
    else:
        kind, options = "webp", [cv2.IMWRITE_WEBP_QUALITY, quality]
        content = np.asarray(cv2.cvtColor(rgb_of(pixels), cv2.COLOR_RGB2BGR))
    done, data = cv2.imencode(f".{kind}", content, options)
    assert done
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}"


def viewer(anchor: str, pictures: Sequence[dict[str, Any]], *, scored: bool) -> str:
    """The HTML of a viewer, whose pictures the script takes from the page's data under `anchor`.

    scored: the instances have scores that a threshold may part
    """
    strip = "".join(
        f'<button type="button" data-image="{n}" aria-pressed="{"true" if n == 0 else "false"}" '
        f'aria-label="{escape(p["name"])}"><img src="{p["thumb"]}" alt=""></button>'
        for n, p in enumerate(pictures)
    )
    slider = (
        '<label class="slide">Score at least <output></output><input type="range" '
        'class="threshold" min="0" max="1" step="0.01" aria-label="Least score"></label>'
    )
    lines = "Labels, as dashed lines" if any(p["boxes"] for p in pictures) else "Labels, as lines"
    truth = (
        f'<label class="truth"><input type="checkbox" checked><span>{lines}</span></label>'
        if any(p["truth"] for p in pictures)
        else ""
    )
    return (
        f'<div class="viewer" data-viewer="{anchor}"><div class="strip" role="group" '
        f'aria-label="Images">{strip}</div>'
        '<div class="panel"><div class="stage"><canvas role="img"></canvas><div class="tip" '
        f"hidden></div>{ZOOM}</div>"
        '<div class="side"><p class="name"></p><p class="note"></p><p class="count" '
        'aria-live="polite"></p>'
        f'<p class="why"></p>{slider if scored else ""}'
        '<fieldset class="modes"><legend>Show '
        f"as</legend>{_modes(anchor, pictures)}</fieldset>{truth}"
        f'<div class="tools"><button type="button" class="all">Show all</button>'
        f'<button type="button" class="none">Hide all</button></div>'
        '<div class="chips" role="group" aria-label="Instances: press to hide or '
        'show"></div></div></div></div>'
    )


def _modes(anchor: str, pictures: Sequence[dict[str, Any]]) -> str:
    """The ways to show a picture, as radio buttons; the first one that is offered is chosen."""
    soft, boxed = (any(p[kind] for p in pictures) for kind in ("soft", "boxes"))
    offered = [
        *(
            [("box", "Boxes")]
            if boxed
            else [("soft", "Soft alpha")] * soft + [("hard", "Hard mask")]
        ),
        *([] if boxed else [("cut", "Cut-outs")]),
        ("image", "Image"),
    ]
    return "".join(
        f'<label><input type="radio" name="{anchor}-mode" value="{value}"{"" if n else " checked"}>'
        f"<span>{word}</span></label>"
        for n, (value, word) in enumerate(offered)
    )
