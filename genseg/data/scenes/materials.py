"""Materials: textures cropped from the photographs inside the scikit-image wheel (none is
downloaded), recoloured.

The mean colour of a surface is the caller's, and the hues around it are turned at random: what
tells one material from another is its structure. "train" and "val" share no photograph.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import skimage
from jaxtyping import Float
from PIL import Image

Picture = Float[np.ndarray, "h w 3"]
Rng = np.random.Generator


@dataclass(frozen=True)
class Material:
    """A part of a photograph in skimage/data: `box` is (left, top, width, height)."""

    photo: str
    box: tuple[int, int, int, int]
    # range of the pixels of the photograph per pixel of a picture of 128 pixels
    zoom: tuple[float, float]


@dataclass(frozen=True)
class Tone:
    """A colour in CIE LCh: lightness 0 to 100, chroma, hue in radians."""

    light: float
    chroma: float
    hue: float


MATERIALS = {
    "train": {
        "brick": Material("brick.png", (0, 0, 512, 512), (1.6, 2.6)),
        "coins": Material("coins.png", (0, 0, 384, 303), (1.6, 2.4)),
        "fur": Material("chelsea.png", (105, 0, 200, 80), (0.8, 1.3)),
        "gravel": Material("gravel.png", (0, 0, 512, 512), (1.2, 2.4)),
        "print": Material("page.png", (2, 36, 370, 100), (0.9, 1.4)),
        "stars": Material("hubble_deep_field.jpg", (0, 0, 1000, 872), (1.2, 2.4)),
        "tissue": Material("ihc.png", (0, 0, 512, 512), (1.4, 2.6)),
        "wood": Material("coffee.png", (470, 10, 125, 380), (0.9, 1.5)),
    },
    "val": {
        "cloth": Material("astronaut.png", (75, 262, 155, 75), (0.8, 1.4)),
        "grass": Material("grass.png", (0, 0, 512, 512), (1.2, 2.2)),
        "ink": Material("text.png", (0, 0, 448, 172), (1.0, 1.6)),
        "machine": Material("motorcycle_left.png", (150, 200, 330, 190), (1.4, 2.4)),
        "moon": Material("moon.png", (0, 0, 512, 512), (1.6, 2.6)),
        "vessels": Material("retina.jpg", (260, 260, 900, 900), (3.0, 5.0)),
    },
}


def draw_texture(
    material: Material, rng: Rng, *, shape: tuple[int, int], size: int, distance: float = 1.0
) -> Picture:
    """A turned and shrunk piece of the photograph of `shape` (height, width) for a picture of
    `size` pixels, in Lab.

    Its means are 0, so the light and the colour of the photograph are gone; L has a standard
    deviation of 1 (less
    where the photograph is flat: grain is not blown up) and stays within 3, a and b together one of
    7 at most.
    """
    zoom = rng.uniform(*material.zoom) * distance * 128 / size
    levels = _levels(material)
    level = int(np.clip(round(np.log2(zoom)), 0, len(levels) - 1))
    source, zoom = levels[level], zoom / 2**level
    room = np.array(source.shape[1::-1]) - 1
    # stay inside the photograph where it is large enough
    reach = np.minimum(np.hypot(*shape) / 2 * zoom, room / 2)
    turn = rng.uniform(0, 2 * np.pi)
    linear = zoom * np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
    shift = rng.uniform(reach, room - reach) - linear @ (np.array(shape[::-1]) / 2)
    piece = cv2.warpAffine(
        source,
        np.column_stack([linear, shift]),
        shape[::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    mean, deviation = (v[:, 0] for v in cv2.meanStdDev(piece))
    lightness, colour = max(deviation[0], 3), max(np.hypot(deviation[1], deviation[2]) / 7, 1)
    texture = (piece - mean.astype(np.float32)) / np.array((lightness, colour, colour), np.float32)
    texture[..., 0] = np.clip(texture[..., 0], -3, 3)
    return texture


def paint(
    texture: Picture, relief: Float[np.ndarray, "h w"], rng: Rng, *, tone: Tone, contrast: float
) -> Picture:
    """sRGB, 0 to 1, of a texture around a tone.

    `contrast` is in units of L, as is `relief`, which is added: the light and the shade of a body.
    """
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))], np.float32)
    lab = np.empty_like(texture)
    lab[..., 0] = np.clip(tone.light + contrast * texture[..., 0] + relief, 2, 98)
    mean = tone.chroma * np.array((np.cos(tone.hue), np.sin(tone.hue)), np.float32)
    # lighter parts get another hue, in grey photographs too
    along = rng.normal(0, 3, 2).astype(np.float32)
    lab[..., 1:] = texture[..., 1:] @ rotation + texture[..., :1] * along + mean
    return np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), 0, 1)


@cache
def _levels(material: Material) -> list[Picture]:
    """The material in Lab, whole and at 1/2, 1/4 and 1/8."""
    x, y, w, h = material.box
    path = Path(skimage.__file__).parent / "data" / material.photo
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing, but scikit-image's wheel carries it; reinstall scikit-image"
        )
    pixels = np.asarray(Image.open(path).convert("RGB").crop((x, y, x + w, y + h)), np.float32)
    levels = [cv2.cvtColor(pixels / 255, cv2.COLOR_RGB2LAB)]
    for _ in range(3):
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return levels
