"""Instances drawn over their images, and pictures put together in a grid."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from genseg.data.images.inputs import rgb_of
from genseg.data.instances.instance import HALF, Instance

Pixels = UInt8[np.ndarray, "_ _ _"]  # of any channels
Picture = UInt8[np.ndarray, "_ _ 3"]
# Okabe and Ito (2008), without black: distinguishable for the colour-blind, ordered so that
# neighbours differ most
PALETTE = (
    *((213, 94, 0), (86, 180, 233), (240, 228, 66), (0, 158, 115)),
    *((204, 121, 167), (0, 114, 178), (230, 159, 0)),
)
NEAR = 6  # pixels between two windows up to which their instances get different colours
GAP = 4  # pixels between the pictures of a grid
CHECKER = ((205, 205, 205), (245, 245, 245))  # what lies behind a cut-out
SQUARE = 8  # pixels of its squares
NAME = 12  # pixels of the name of a class above a box
LINE, VEIL = (240, 228, 66), 0.35  # of a close-up: the palette's yellow, and how much it covers


def colour(n: int) -> tuple[int, int, int]:
    """The n-th colour of the palette, which begins anew after its last."""
    return PALETTE[n % len(PALETTE)]


def colours(instances: Sequence[Instance]) -> list[int]:
    """Which colour of the palette each instance gets: the one that is rarest near it, of those the
    rarest in all."""
    boxes = np.array(
        [(a.top, a.left, a.top + a.alpha.shape[0], a.left + a.alpha.shape[1]) for a in instances]
    )
    chosen = np.zeros(len(instances), np.int64)
    for n in range(len(instances)):
        before = boxes[:n]
        near = ((before[:, :2] - NEAR < boxes[n, 2:]) & (before[:, 2:] + NEAR > boxes[n, :2])).all(
            1
        )
        beside, used = (
            np.bincount(c, minlength=len(PALETTE)) for c in (chosen[:n][near], chosen[:n])
        )
        chosen[n] = np.lexsort((used, beside))[0]
    return [int(c) for c in chosen]


def overlay(
    image: Pixels,
    instances: Sequence[Instance],
    *,
    strength: float = 0.45,
    hues: Sequence[int] | None = None,
) -> Picture:
    """The image with each alpha map as a veil of its own colour, or of that of `hues`, and a line
    around its mask."""
    out, hues = rgb_of(image).astype(np.float32), colours(instances) if hues is None else hues
    for n, instance in zip(hues, instances, strict=True):
        veil = strength / 255 * instance.alpha[..., None].astype(np.float32)
        part = out[instance.window]
        part += veil * (np.array(colour(n), np.float32) - part)
    drawn = out.round().astype(np.uint8)
    for n, instance in zip(hues, instances, strict=True):
        outlines, _ = cv2.findContours(
            instance.mask.astype(np.uint8),
            cv2.RETR_EXTERNAL,
            cv2.CHAIN_APPROX_NONE,
            offset=(instance.left, instance.top),
        )
        cv2.drawContours(drawn, outlines, -1, colour(n), 1)
    return drawn


def boxes(image: Pixels, instances: Sequence[Instance], names: Sequence[str]) -> Picture:
    """The image with the box of each instance as a line in the colour of its class, under the
    class's name.

    names: of the classes, in the order of their numbers
    """
    out = rgb_of(image).copy()
    for a in instances:
        left, top, w, h = a.box_xywh
        cv2.rectangle(out, (left, top), (left + w - 1, top + h - 1), colour(a.category), 2)
    sheet = Image.fromarray(out)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(NAME)
    for a in instances if len(names) > 1 else ():
        left, top, _, _ = a.box_xywh
        text, at = names[a.category], (left, max(0, top - NAME - 3))
        pen.rectangle(pen.textbbox(at, text, font=font), fill=colour(a.category))
        pen.text(at, text, fill=(0, 0, 0), font=font)
    return np.array(sheet)


def close_up(
    image: Pixels, alpha: UInt8[np.ndarray, "_ _"], square: tuple[int, int, int], *, side: int
) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """A square of the image, enlarged, with an alpha map of the image as a veil and a line around
    its mask.

    alpha: of the whole image, at any resolution
    square: first row, first column and side, in pixels of the image
    side: of the picture
    """
    image, (top, left, n) = rgb_of(image), square
    whole = cv2.resize(alpha, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    how = cv2.INTER_AREA if n > side else cv2.INTER_CUBIC
    pixels = cv2.resize(image[top : top + n, left : left + n], (side, side), interpolation=how)
    soft = cv2.resize(
        whole[top : top + n, left : left + n], (side, side), interpolation=cv2.INTER_LINEAR
    )
    veil = VEIL / 255 * soft[..., None].astype(np.float32)
    drawn = (pixels + veil * (np.array(LINE, np.float32) - pixels)).round().astype(np.uint8)
    lines, _ = cv2.findContours(
        (soft >= HALF).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(drawn, lines, -1, (0, 0, 0), 3, cv2.LINE_AA)  # seen on bright ground, too
    cv2.drawContours(drawn, lines, -1, LINE, 2, cv2.LINE_AA)
    return drawn


def square_around(
    boxes: Sequence[tuple[float, float, float, float]],
    height: int,
    width: int,
    *,
    margin: float,
    least: int = 1,
) -> tuple[int, int, int]:
    """First row, first column and side of the square in an image that has all boxes (top, left,
    bottom, right) and so much more of their extent on each side, as far as there is room; of
    `least` pixels a side."""
    top, left = (min(b[k] for b in boxes) for k in (0, 1))
    bottom, right = (max(b[k] for b in boxes) for k in (2, 3))
    wanted = (1 + 2 * margin) * max(bottom - top, right - left)
    n = max(1, min(max(least, round(wanted)), height, width))
    y, x = round((top + bottom - n) / 2), round((left + right - n) / 2)
    return min(max(y, 0), height - n), min(max(x, 0), width - n), n


def cut_outs(image: Pixels, instances: Sequence[Instance]) -> Picture:
    """What the instances show of the image, by their soft alphas, on a checkerboard."""
    image, (h, w) = rgb_of(image), image.shape[:2]
    alpha = np.zeros((h, w, 1), np.float32)
    for instance in instances:
        part = alpha[instance.window]
        part += instance.alpha[..., None] / np.float32(255) * (1 - part)
    squares = np.add.outer(np.arange(h) // SQUARE, np.arange(w) // SQUARE) % 2
    return np.asarray((alpha * image + (1 - alpha) * np.array(CHECKER)[squares]).round(), np.uint8)


def titled(
    sheet: UInt8[np.ndarray, "_ _ 3"], titles: Sequence[str], *, side: int, below: bool = False
) -> UInt8[np.ndarray, "_ _ 3"]:
    """A grid with a word above each picture of its first row, or below each of its last one."""
    size = max(9, min(18, side // 12))
    band = Image.new("RGB", (sheet.shape[1], 2 * size), "white")
    pen, font = ImageDraw.Draw(band), ImageFont.load_default(size)
    for n, title in enumerate(titles):
        pen.text((n * (side + GAP), size // 3), title, fill=(60, 60, 60), font=font)
    words = np.asarray(band)
    return np.vstack([sheet, words] if below else [words, sheet])


def grid(pictures: Sequence[UInt8[np.ndarray, "_ _ c"]], *, columns: int, side: int) -> Picture:
    """Pictures in rows on white, each shrunk or enlarged into a square of `side` pixels."""
    rows = -(-len(pictures) // columns)
    step = side + GAP
    sheet = np.full((rows * step - GAP, columns * step - GAP, 3), 255, np.uint8)
    for n, picture in enumerate(pictures):
        h, w = picture.shape[:2]
        scale = side / max(h, w)
        size = (max(1, round(w * scale)), max(1, round(h * scale)))
        small = cv2.resize(
            rgb_of(picture), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
        )
        top, left = (
            n // columns * step + (side - size[1]) // 2,
            n % columns * step + (side - size[0]) // 2,
        )
        sheet[top : top + size[1], left : left + size[0]] = small
    return sheet
