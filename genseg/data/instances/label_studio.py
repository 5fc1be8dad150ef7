"""Label Studio's own run-length code of a mask: a string of bits, over the bytes of an RGBA
picture.

After a head (32 bits number of bytes, 5 bits word size less one, four times 4 bits of a length's
size less one) come
runs: one bit that says whether the bytes are equal, 2 bits which of the four sizes the length has,
the length less one, and the byte, or the bytes. It is what Label Studio's brush writes and reads
(label-studio-sdk, converter/brush.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from genseg.data.instances.instance import OPAQUE, Instance, cut
from genseg.data.instances.outline import Drawn, Polygon

SIZES = (3, 4, 8, 16)  # bits of a length
WORD = 8  # bits of a value
_DIGITS = bytes([48, 49]) + bytes(range(2, 256))  # bits as the digits of a number


def encode_brush(instance: Instance, height: int, width: int) -> list[int]:
    """The code of a mask in an image of that size, as the numbers of its bytes. Inside, all four
    channels are 255.

    What lies outside the window of the mask costs no time.
    """
    turns = np.diff(instance.mask, axis=1, prepend=False, append=False)
    y, x = np.nonzero(turns)
    edges = (y + instance.top) * width + x + instance.left
    values, counts = np.unique(edges, return_counts=True)
    edges = values[counts == 1]  # a row that ends where the next begins has no edge there
    lengths = np.diff(edges, prepend=0, append=height * width) * 4
    parts = [f"{4 * height * width:032b}", f"{WORD - 1:05b}", *(f"{s - 1:04b}" for s in SIZES)]
    for n, length in enumerate(lengths.tolist()):
        value = f"{255 * (n % 2):0{WORD}b}"
        while length:
            part = min(length, 1 << SIZES[-1])
            which = next(n for n, size in enumerate(SIZES) if part <= 1 << size)
            parts.append(f"1{which:02b}{part - 1:0{SIZES[which]}b}{value}")
            length -= part
    bits = "".join(parts)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def decode_brush(code: Sequence[int], height: int, width: int) -> Bool[np.ndarray, "height width"]:
    """The mask of a code: where the last of the four channels is half or more. Raises ValueError
    for a code that is damaged, or of another size."""
    bits = np.unpackbits(np.array(code, np.uint8)).tobytes().translate(_DIGITS).decode()
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        if at > len(bits):
            raise ValueError("the brush's code is cut off")
        return int(bits[at - count : at], 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in SIZES]
    if total != 4 * height * width:
        raise ValueError(
            f"the code is of {total} bytes, {height} x {width} pixels have {4 * height * width}"
        )
    out = np.zeros(total, np.uint8)
    i = 0
    while i < total:
        equal, length = take(1), take(sizes[take(2)]) + 1
        out[i : i + length] = take(word) if equal else [take(word) for _ in range(length)]
        i += length
    return out.reshape(height, width, 4)[..., 3] >= 128


def drawn_results(results: Sequence[Any], height: int, width: int) -> tuple[list[Drawn], int]:
    """The regions of an annotation, in an image of that size; and how many have no area: keypoints,
    choices. Raises ValueError for damaged ones."""
    found, others = list[Drawn](), 0
    for result in results:
        kind, value = result.get("type", ""), result.get("value", {})
        shape = _shape(kind.removesuffix("labels"), value, height, width)
        if shape is None:
            others += 1
            continue
        named = value.get(kind) or value.get("labels") or [""]
        said = str(result.get("id", ""))
        number = int(said) if said.isdecimal() and len(said) < 19 else None
        found.append(Drawn(shape, str(named[0]), number))
    return found, others


def _shape(
    kind: str, value: Mapping[str, Any], height: int, width: int
) -> Sequence[Polygon] | Instance | None:
    """A value of percents of the image's sides, or a brush's code; None for what has no area."""
    sides = np.array((width, height)) / 100
    if kind == "brush":
        if value.get("format") != "rle":
            raise ValueError(f"a brush's format is {value.get('format')}; export it as rle")
        return cut(decode_brush(value["rle"], height, width).astype(np.uint8) * OPAQUE)
    if kind == "polygon":
        return [(np.array(value["points"], float) * sides,)]
    turn = np.radians(float(value.get("rotation", 0)))
    c, s = np.cos(turn), np.sin(turn)
    begin = np.array((value.get("x", 0), value.get("y", 0)), float) * sides
    if kind == "rectangle":  # turned around its first corner
        w, h = np.array((value["width"], value["height"])) * sides
        points = np.array([[0, 0], [w, 0], [w, h], [0, h]])
    elif kind == "ellipse":
        angle = np.arange(64) * (2 * np.pi / 64)
        radii = np.array((value["radiusX"], value["radiusY"])) * sides
        points = radii * np.stack([np.cos(angle), np.sin(angle)], 1)
    else:
        return None
    return [(begin + points @ np.array([[c, s], [-s, c]]),)]
