"""Pictures composed by seed: 3 to 8 textured objects over a textured ground, with exact alpha maps.

In a scene, the class of an object is its outline (the COCO categories). In a picture of one object,
the class is its material (the class folders); its outline, place, turn, colour and ground are
random and say nothing about it. Everything is a pure function of (seed, index, size, split); the
splits share no photograph.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from pycocotools import mask as rle

from genseg.core.check import at_least
from genseg.data.images.cache import CacheError, cache_folder
from genseg.data.images.png import write_png
from genseg.data.scenes.materials import MATERIALS, Material, Tone, draw_texture, paint
from genseg.data.scenes.outlines import OUTLINES, draw_alpha

VERSION = 1  # of the default scenes: a change of how they look needs the next one

SUN = (-2.8, -0.9)  # angles from which the light comes, in radians of the picture: from above
# how far single objects are, compared with those of a scene: their textures are that much larger
NEAR = 0.6

Rng = np.random.Generator
Alpha = Float[np.ndarray, "h w"]
Colour = Float[np.ndarray, "h w 3"]


class FolderExists(ValueError):
    """Scenes are written to a new folder only."""


@dataclass(frozen=True)
class Scene:
    """A picture and what it was made of: k layers, from back to front. Floats are from 0 to 1.

    image = round(255 * (background * colour[0] + sum over k of visible[k] * colour[k + 1]))
    """

    image: UInt8[np.ndarray, "h w 3"]  # sRGB
    amodal: Float[np.ndarray, "k h w"]  # alpha of each layer before occlusion
    # and after: amodal_k * product of (1 - amodal_j) over the layers j in front
    visible: Float[np.ndarray, "k h w"]
    # what is left of the ground: product of (1 - amodal_j) over all layers
    background: Float[np.ndarray, "h w"]
    # of the ground, then of the layers: lit, shaded, and under shadows
    colour: Float[np.ndarray, "k+1 h w 3"]
    # class of each layer: its place in OUTLINES, or, of single objects, in MATERIALS[split]
    labels: tuple[int, ...]


def compose_scene(seed: int, index: int, *, size: int = 128, split: str = "train") -> Scene:
    """3 to 8 objects of random outlines (the labels) and materials on a ground of another material.

    Raises ValueError for an unknown split and for a size under 32 pixels.
    """
    materials, rng = _start("scene", seed, index, size, split)
    ground, *others = rng.permutation(list(materials))
    tone = Tone(light=rng.uniform(28, 80), chroma=rng.uniform(4, 22), hue=rng.uniform(0, 2 * np.pi))
    sun = rng.uniform(*SUN)
    below = _ground(materials[ground], rng, size=size, tone=tone, sun=sun, defocus=0)
    labels = tuple(int(i) for i in rng.integers(len(OUTLINES), size=rng.integers(3, 9)))
    alphas: list[Alpha] = []
    for label in labels:
        alphas.append(_place(label, alphas, rng, size=size, crowd=len(labels)))
    colours = []
    for i, alpha in enumerate(alphas):
        # hues by the golden angle: however many, they stay apart
        tone_i = _against(tone, 2.4 * (i + 1), rng)
        colours.append(_body(alpha, materials[rng.choice(others)], rng, tone=tone_i, sun=sun))
    return _stack(below, colours, np.stack(alphas), labels, sun=sun)


def compose_object(seed: int, index: int, *, size: int = 128, split: str = "train") -> Scene:
    """One large object on a defocused ground of another material. The label is its material: index
    modulo their number.

    Raises ValueError as compose_scene does.
    """
    materials, rng = _start("object", seed, index, size, split)
    label = index % len(materials)
    name = list(materials)[label]
    ground = materials[rng.choice([m for m in materials if m != name])]
    # A warm object on a cool ground. The colours vary about as much as a colour jitter changes
    # them, so an encoder can tell pictures apart neither by class nor one by one from colour alone:
    # it has to look at the structure.
    on = Tone(light=rng.uniform(56, 70), chroma=rng.uniform(20, 34), hue=rng.uniform(0.5, 1.4))
    under = Tone(light=rng.uniform(34, 46), chroma=rng.uniform(6, 14), hue=rng.uniform(3.7, 4.7))
    sun = rng.uniform(*SUN)
    below = _ground(ground, rng, size=size, tone=under, sun=sun, defocus=rng.uniform(3, 5))
    contours = list(OUTLINES.values())[rng.integers(len(OUTLINES))](rng)
    centre = (rng.uniform(0.42, 0.58), rng.uniform(0.42, 0.58))
    alpha = draw_alpha(contours, rng, size=size, radius=rng.uniform(0.42, 0.52), centre=centre)
    colour = _body(alpha, materials[name], rng, tone=on, sun=sun, distance=NEAR)
    return _stack(below, [colour], alpha[None], (label,), sun=sun)


def _start(
    kind: str, seed: int, index: int, size: int, split: str
) -> tuple[dict[str, Material], Rng]:
    if split not in MATERIALS:
        raise ValueError(f"split {split!r} is unknown; use {' or '.join(map(repr, MATERIALS))}")
    if size < 32:
        raise ValueError(f"size {size} is too small to tell 8 objects apart; use 32 or more")
    return MATERIALS[split], np.random.default_rng([seed, index, *f"{kind} {split}".encode()])


def _against(ground: Tone, turn: float, rng: Rng) -> Tone:
    """A stronger colour than the ground's, of another lightness, its hue turned by `turn`."""
    shift = rng.uniform(10, 30)
    brighter = rng.random() < (80 - ground.light) / 52
    light = float(np.clip(ground.light + (shift if brighter else -shift), 25, 85))
    return Tone(light=light, chroma=rng.uniform(18, 50), hue=ground.hue + turn)


def _place(label: int, behind: list[Alpha], rng: Rng, *, size: int, crowd: int) -> Alpha:
    """Alpha of an object where it leaves in sight a good part of each object behind it; smaller
    after each failure."""
    outline = list(OUTLINES.values())[label]
    tries = []
    for attempt in range(12):
        radius = rng.uniform(0.15, 0.28) * (5 / crowd) ** 0.3 * 0.92**attempt
        centre = (rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9))
        alpha = draw_alpha(outline(rng), rng, size=size, radius=radius, centre=centre)
        layers = np.stack([*behind, alpha])
        in_sight = float((_visible(layers)[0].sum((1, 2)) / layers.sum((1, 2))).min())
        if in_sight > 0.4:
            return alpha
        tries.append((in_sight, attempt, alpha))
    return max(tries)[2]


def _visible(amodal: Float[np.ndarray, "k h w"]) -> tuple[Float[np.ndarray, "k h w"], Alpha]:
    """Alphas after occlusion, and of the background. With it, they sum to one."""
    visible, left = np.empty_like(amodal), np.ones_like(amodal[0])
    for k in reversed(range(len(amodal))):
        visible[k] = left * amodal[k]
        left = left * (1 - amodal[k])
    return visible, left


def _ground(
    material: Material, rng: Rng, *, size: int, tone: Tone, sun: float, defocus: float
) -> Colour:
    """A flat surface, brighter on the side of the light; `defocus` in pixels at 128."""
    texture = draw_texture(material, rng, shape=(size, size), size=size) * np.array(
        (1, 0.6, 0.6), np.float32
    )
    if defocus:
        texture = cv2.GaussianBlur(texture, (0, 0), defocus * size / 128)
    at = np.linspace(-1, 1, size, dtype=np.float32)
    relief = 7 * (at * np.cos(sun) + at[:, None] * np.sin(sun)) - 4 * (at**2 + at[:, None] ** 2)
    return paint(
        texture,
        relief.astype(np.float32),
        rng,
        tone=tone,
        contrast=rng.uniform(5, 9) / (1 + defocus / 4),
    )


def _body(
    alpha: Alpha, material: Material, rng: Rng, *, tone: Tone, sun: float, distance: float = 1.0
) -> Colour:
    """A rounded surface, bright towards the light and dark away from it; nothing where the alpha is
    0."""
    size = len(alpha)
    x, y, w, h = cv2.boundingRect((alpha > 0).astype(np.uint8))
    roundness = 0.3 * float(np.sqrt(alpha.sum() / np.pi))
    height = cv2.GaussianBlur(alpha, (0, 0), roundness)
    down, right = np.gradient(height)
    relief = -26 * roundness * (right * np.cos(sun) + down * np.sin(sun)) + 8 * (height - 0.6)
    texture = draw_texture(material, rng, shape=(h, w), size=size, distance=distance)
    part = (slice(y, y + h), slice(x, x + w))
    colour = np.zeros((size, size, 3), np.float32)
    colour[part] = paint(texture, relief[part], rng, tone=tone, contrast=rng.uniform(9, 15))
    return colour


def _stack(
    ground: Colour,
    bodies: list[Colour],
    amodal: Float[np.ndarray, "k h w"],
    labels: tuple[int, ...],
    *,
    sun: float,
) -> Scene:
    """The layers on the ground, each with a soft shadow on all that is behind it."""
    size = len(ground)
    colour = np.stack([ground, *bodies])
    away = -0.035 * size * np.array([[np.cos(sun)], [np.sin(sun)]])
    for k, alpha in enumerate(amodal):
        moved = cv2.warpAffine(alpha, np.hstack([np.eye(2), away]), (size, size))
        colour[: k + 1] *= (1 - 0.5 * cv2.GaussianBlur(moved, (0, 0), 0.025 * size))[..., None]
    visible, background = _visible(amodal)
    mixed = np.einsum("khw,khwc->hwc", np.concatenate([background[None], visible]), colour)
    image = (mixed * 255).round().astype(np.uint8)
    return Scene(
        image, amodal=amodal, visible=visible, background=background, colour=colour, labels=labels
    )


def write_scenes(
    folder: str | Path,
    *,
    count: int,
    size: int,
    seed: int,
    split: str,
    objects: int = 0,
    alphas: bool = False,
) -> None:
    """Write `count` scenes and `objects` pictures of single objects.

    images/*.png with annotations.json (COCO; masks are RLE of visible > 0.5, categories are
    outlines, each annotation notes its amodal_area and its depth, 0 the farthest),
    objects/<material>/*.png, and on demand alphas/, where <image>-<depth>.png is 255 * visible,
    rounded. The folder gets its name when all is written.

    Raises FolderExists when it is there already, ValueError as compose_scene does, OSError when the
    disk is full.
    """
    folder = Path(folder)
    if folder.exists():
        raise FolderExists(f"{folder} exists already; choose another folder or delete it")
    at_least(0, count=count, objects=objects, seed=seed)
    growing = folder.with_name(f".{folder.name}-{uuid4().hex}")
    try:
        (growing / "images").mkdir(parents=True)
        annotations: list[dict[str, object]] = []
        for i in range(count):
            scene = compose_scene(seed, i, size=size, split=split)
            write_png(growing / "images" / f"{i:06d}.png", scene.image)
            annotations += _annotations(scene, image=i + 1, first=len(annotations) + 1)
            for depth, alpha in enumerate(scene.visible if alphas else ()):
                write_png(
                    growing / "alphas" / f"{i:06d}-{depth}.png",
                    (alpha * 255).round().astype(np.uint8),
                )
        for i in range(objects):
            scene = compose_object(seed, i, size=size, split=split)
            name = list(MATERIALS[split])[scene.labels[0]]
            write_png(growing / "objects" / name / f"{i:06d}.png", scene.image)
        images = [
            {"id": i + 1, "file_name": f"{i:06d}.png", "width": size, "height": size}
            for i in range(count)
        ]
        categories = [{"id": i, "name": name} for i, name in enumerate(OUTLINES, start=1)]
        coco = {"images": images, "annotations": annotations, "categories": categories}
        (growing / "annotations.json").write_text(json.dumps(coco))
        growing.rename(folder)
    except BaseException:
        shutil.rmtree(growing, ignore_errors=True)
        raise


def _annotations(scene: Scene, *, image: int, first: int) -> list[dict[str, object]]:
    """COCO annotations of a scene: their numbers start at `first`."""
    found = []
    for depth, (label, visible, amodal) in enumerate(
        zip(scene.labels, scene.visible, scene.amodal, strict=True)
    ):
        mask = rle.encode(np.asfortranarray(visible > 0.5, np.uint8))
        found.append(
            {
                "id": first + depth,
                "image_id": image,
                "category_id": label + 1,
                "segmentation": {"size": mask["size"], "counts": mask["counts"].decode()},
                "area": int(rle.area(mask)),
                "bbox": rle.toBbox(mask).tolist(),
                "iscrowd": 0,
                "amodal_area": int((amodal > 0.5).sum()),
                "depth": depth,
            }
        )
    return found


def default_scenes(kind: str = "images") -> Path:
    """Folder of the default pictures of 128 pixels, made on first use (10 to 20 seconds) in the
    cache folder.

    "images": 600 scenes; their annotations.json lies beside the folder. "objects": 1000 single
    objects in class folders. When two processes make them at once, those of the first stay; they
    are the same.

    Raises ValueError for an unknown kind and CacheError when they cannot be written.
    """
    if kind not in ("images", "objects"):
        raise ValueError(f"kind {kind!r} is unknown; use 'images' or 'objects'")
    folder = cache_folder() / f"scenes-{VERSION}"
    if not folder.exists():
        try:
            write_scenes(folder, count=600, size=128, seed=0, split="train", objects=1000)
        except (OSError, FolderExists) as error:
            if not folder.exists():
                raise CacheError(
                    f"cannot keep the embedded pictures in {folder.parent}: {error}; make room "
                    "there, or name another folder by the environment variable GENSEG_CACHE"
                ) from error
    return folder / kind
