"""The instances of one image as a value: filtered like an array, shown, saved."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from PIL import Image

from genseg.core.files import write_text
from genseg.data.images.decode import TIFFS
from genseg.data.images.inputs import rgb_of
from genseg.data.instances.coco import annotation
from genseg.data.instances.instance import OPAQUE, Instance
from genseg.data.instances.label_image import write_label_image
from genseg.show.draw import overlay

FORMATS = (".json", ".png", *TIFFS, ".npz")


@dataclass(frozen=True, eq=False)
class Instances:
    """The instances of an image of `height` x `width` pixels, best first.

    items: one `Instance` each: a soft alpha map in its window, score, class
    image: the RGB pixels in which they were found; None where they are not known
    classes: names of the classes, by `Instance.category`

    `found[found.scores > 0.7]`, `found[:10]` and `found[[3, 1]]` are Instances again; `found[0]` is
    one `Instance`.
    """

    items: tuple[Instance, ...]
    height: int
    width: int
    image: UInt8[np.ndarray, "h w c"] | None = None
    classes: tuple[str, ...] = ("instance",)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Instance]:
        return iter(self.items)

    @overload
    def __getitem__(self, which: int) -> Instance: ...
    @overload
    def __getitem__(self, which: slice | Sequence[int] | np.ndarray) -> "Instances": ...
    def __getitem__(
        self, which: int | slice | Sequence[int] | np.ndarray
    ) -> "Instance | Instances":
        if isinstance(which, int | np.integer):
            return self.items[which]
        numbers = np.arange(len(self))[
            np.asarray(which, int) if isinstance(which, list | tuple) else which
        ]
        chosen = tuple(self.items[i] for i in numbers.tolist())
        return Instances(chosen, self.height, self.width, self.image, self.classes)

    def __repr__(self) -> str:
        best = f", scores {self.scores.max():.2f} to {self.scores.min():.2f}" if len(self) else ""
        return f"Instances({len(self)} in {self.width} x {self.height} pixels{best})"

    @property
    def scores(self) -> Float[np.ndarray, "n"]:
        """In [0, 1]; of a calibrated model the probability of an overlap of 0.5 with an object."""
        return np.array([a.score for a in self.items], float)

    @property
    def areas(self) -> Int[np.ndarray, "n"]:
        """Pixels of each mask."""
        return np.array([a.area for a in self.items], int)

    @property
    def categories(self) -> Int[np.ndarray, "n"]:
        """The class of each, an index into `classes`."""
        return np.array([a.category for a in self.items], int)

    @property
    def boxes_xywh(self) -> Int[np.ndarray, "n 4"]:
        """Left, top, width and height of each mask, in pixels."""
        return np.array([a.box_xywh for a in self.items], int).reshape(-1, 4)

    @property
    def boxes_xyxy(self) -> Int[np.ndarray, "n 4"]:
        """Left, top, right and bottom of each mask, in pixels; right and bottom are the first
        pixels outside."""
        boxes = self.boxes_xywh
        boxes[:, 2:] += boxes[:, :2]
        return boxes

    def alphas(self) -> Float32[np.ndarray, "n h w"]:
        """The soft alpha maps in [0, 1]: n times the image in memory."""
        maps = np.zeros((len(self), self.height, self.width), np.float32)
        for whole, a in zip(maps, self.items, strict=True):
            whole[a.window] = a.alpha / np.float32(OPAQUE)
        return maps

    def masks(self) -> Bool[np.ndarray, "n h w"]:
        """Pixels that belong to each: n times the image in memory."""
        maps = np.zeros((len(self), self.height, self.width), bool)
        for whole, a in zip(maps, self.items, strict=True):
            whole[a.window] = a.mask
        return maps

    def labels(self) -> Int[np.ndarray, "h w"]:
        """The label image: 0 for background, else 1 + the place of the best instance that covers
        the pixel."""
        numbers = np.zeros((self.height, self.width), np.int32)
        for n in range(len(self) - 1, -1, -1):
            a = self.items[n]
            numbers[a.window][a.mask] = n + 1
        return numbers

    def coco(self, *, file_name: str = "image.png") -> dict[str, Any]:
        """A COCO json of this one image: RLE masks, boxes, scores."""
        notes = [
            annotation(a, number=n, image=1, height=self.height, width=self.width)
            | {"category_id": a.category + 1}
            for n, a in enumerate(self.items, start=1)
        ]
        images = [{"id": 1, "file_name": file_name, "height": self.height, "width": self.width}]
        categories = [{"id": n, "name": name} for n, name in enumerate(self.classes, start=1)]
        return {"images": images, "annotations": notes, "categories": categories}

    def picture(self) -> Image.Image:
        """The image with a coloured veil over each instance; over black where the image is not
        known."""
        pixels = (
            np.zeros((self.height, self.width, 3), np.uint8)
            if self.image is None
            else rgb_of(self.image)
        )
        return Image.fromarray(overlay(pixels, self.items))

    def show(self) -> Image.Image:
        """The picture, which a notebook displays."""
        return self.picture()

    def _repr_png_(self) -> bytes:
        """What a notebook displays for the value itself."""
        content = io.BytesIO()
        self.picture().save(content, "PNG")
        return content.getvalue()

    def save(self, file: str | Path) -> Path:
        """Write a COCO json (.json), a picture (.png), a label image (.tif) or arrays (.npz), by
        the name's ending.

        An .npz holds labels, scores, boxes_xyxy and areas. Raises ValueError for another ending.
        """
        path = Path(file)
        if path.suffix.lower() not in FORMATS:
            raise ValueError(
                f"{path}: the ending says what is written; use one of {', '.join(FORMATS)}"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        match path.suffix.lower():
            case ".json":
                write_text(path, json.dumps(self.coco()) + "\n")
            case ".png":
                path.write_bytes(self._repr_png_())
            case ".npz":
                np.savez_compressed(
                    path,
                    labels=self.labels(),
                    scores=self.scores,
                    boxes_xyxy=self.boxes_xyxy,
                    areas=self.areas,
                )
            case _:
                write_label_image(path, self.labels())
        return path
