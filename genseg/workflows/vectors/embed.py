"""Vectors of images and of instances, by the encoder of a run."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from genseg.core.files import replacing
from genseg.core.names import INSTANCES_NAME, PREDICTIONS_NAME
from genseg.core.result import Result
from genseg.core.tables import Table, check_table
from genseg.core.words import amount
from genseg.data.images.files import ImageList, list_images
from genseg.data.images.pixels import centre
from genseg.data.images.source import ImageError
from genseg.data.instances.instance import Instance
from genseg.data.labels.annotated import Usable, instance_of
from genseg.data.labels.entries import Entry
from genseg.data.labels.preflight import Label
from genseg.data.regions.area import Pixels
from genseg.data.regions.opened import by_windows, open_small, pixels_of, read_image
from genseg.data.regions.scene import Scene
from genseg.measure.features import features, instance_features
from genseg.nn.encoder import Encoder, load_weights
from genseg.nn.encoder_file import EncoderFacts, encoder_file, facts_of
from genseg.nn.kept_reading import reads_as
from genseg.workflows.labels.found import alpha_of, read_found

ENDINGS = (".npz", ".csv", ".parquet")
BATCH = 256  # images, or instances, at once
Vectors = Float32[np.ndarray, "n d"]


@dataclass(frozen=True)
class Embedded(Result):
    """Vectors in a file.

    of: images, or instances; count, width: how many, and of how many numbers
    broken: images that could not be read, and why: they have no vectors
    """

    out: Path
    of: str
    count: int
    width: int
    broken: tuple[str, ...]

    def text(self) -> str:
        said = f"{self.out}: {amount(self.count, self.of.removesuffix('s'))}, {self.width} numbers"
        lost = f"; {amount(len(self.broken), 'image')} cannot be read, the first: "
        return said + " each" + (lost + self.broken[0] if self.broken else "")


class Embedder:
    """The encoder of a run, ready to embed."""

    def __init__(self, run: Path) -> None:
        """Raises ValueError for a run without encoder.safetensors."""
        file = encoder_file(run)
        self.facts: EncoderFacts = facts_of(file)
        self.encoder = Encoder(self.facts.encoder)
        load_weights(self.encoder, file)
        self.encoder.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return int(self.encoder.net.out_channels[-1])

    @property
    def _view(self) -> dict[str, Any]:
        return {"size": self.facts.size, "mean": self.facts.mean, "std": self.facts.std}

    def view(self, images: ImageList, i: int) -> UInt8[np.ndarray, "s s c"]:
        """What is looked at of the i-th image: its centre square. Raises ImageError."""
        return open_view(images, i, self.facts.size)

    def images(self, views: list[np.ndarray]) -> Vectors:
        """A vector for each view of an image."""
        if not views:
            return np.zeros((0, self.width), np.float32)
        return features(self.encoder, _Held(views), range(len(views)), **self._view).numpy()

    def instances(self, pixels: Pixels | Scene, found: list[Instance]) -> Vectors:
        """A vector for each instance of an image, averaged over its alpha map."""
        return instance_features(self.encoder, pixels, found, **self._view).numpy()


class _Held:
    """Pixels in memory as a source of images."""

    def __init__(self, pixels: list[np.ndarray]) -> None:
        self.pixels = pixels

    def read(self, i: int) -> tuple[np.ndarray, int]:
        return self.pixels[i], i


@reads_as("run", also="data")
def embed(
    run: Path,
    data: Path,
    out: Path,
    *,
    of: Literal["images", "instances"] | None = None,
    images: Path | None = None,
    score: float = 0.0,
) -> Embedded:
    """Write a vector for each image of a folder, or for each instance of a result: .npz, .csv or
    .parquet.

    of: None: instances where `data` is what genseg generate or predict has written, or a json with
        annotations; else images
    images: where the images of instances lie; score: instances that score less are left out

    Raises ValueError for what a user can mend.
    """
    ending = out.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"--out {out}: end it in {', '.join(ENDINGS)}")
    if ending != ".npz":
        check_table(out)
    embedder, broken = Embedder(run), list[str]()
    of = of or ("instances" if has_instances(data) else "images")
    if of == "images":
        rows = _of_images(embedder, data, broken)
    else:
        rows = _of_instances(embedder, read_found(data, images, score=score), broken)
    count = (_write_npz if ending == ".npz" else _write_table)(out, rows, embedder.width)
    if broken and not count:
        raise ValueError(f"no image can be read, the first: {broken[0]}")
    return Embedded(out, of, count, embedder.width, tuple(broken))


def has_instances(data: Path) -> bool:
    """Whether a folder is a result of genseg, or a json has annotations."""
    if data.is_dir():
        return any((data / name).is_file() for name in (INSTANCES_NAME, PREDICTIONS_NAME))
    if data.suffix.lower() != ".json" or not data.is_file():
        return False
    try:
        return bool(json.loads(data.read_bytes()).get("annotations"))
    except (ValueError, AttributeError):
        return False  # read as a list of images, which says what is wrong


Row = dict[str, str | int | float | bool | None]
Part = tuple[list[Row], Vectors]


def _of_images(embedder: Embedder, data: Path, broken: list[str]) -> Iterator[Part]:
    listed = list_images(data)
    for first in range(0, len(listed), BATCH):
        rows, views = list[Row](), list[np.ndarray]()
        for i in range(first, min(first + BATCH, len(listed))):
            try:
                views.append(embedder.view(listed, i))
                rows.append({"image": listed.name(i)})
            except ImageError as error:
                broken.append(str(error))
        yield rows, embedder.images(views)


def _of_instances(embedder: Embedder, found: Usable, broken: list[str]) -> Iterator[Part]:
    for entry, labels, vectors in instance_vectors(embedder, found, broken):
        yield [{"image": entry.title, "id": x.number, "score": x.score} for x in labels], vectors


def open_view(images: ImageList, i: int, size: int) -> UInt8[np.ndarray, "s s c"]:
    """The view of evaluation of the i-th image, as `pixels.centre` gives it; of a file that is read
    by windows from the smallest resolution that has so many pixels. Raises ImageError."""
    if images.windows is not None or not by_windows(images.path(i)):
        return centre(read_image(images, i), size)
    told: dict[str, Any] = {"reading": images.reading, "image": images.page(i)}
    scene, _ = open_small(images.path(i), size, **told)
    side = min(scene.size)
    top, left = ((n - side) // 2 for n in scene.size)
    square = scene.part(slice(top, top + side), slice(left, left + side))
    return np.ascontiguousarray(square.resized((size, size))[:, :])


def instance_vectors(
    embedder: Embedder, found: Usable, broken: list[str]
) -> Iterator[tuple[Entry, list[Label], Vectors]]:
    """Of each image its labels, without crowds, some at a time, and their vectors: over the soft
    alpha maps where they are there, else over the masks. Images that cannot be read are put into
    `broken`; of one that is damaged further down, what came before stays."""
    for entry in found.entries.values():
        labels = [label for label in found.labels[entry.number] if not label.crowd]
        try:
            pixels = pixels_of(entry.path, entry.page)
            if pixels.shape[:2] != (entry.height, entry.width):
                raise ImageError(f"{entry.path}: it has another size than the json says")
        except ImageError as error:
            broken.append(str(error))
            continue
        kept = [(x, i) for x in labels if (i := instance_of(x, entry)).area]
        for n in range(0, max(1, len(kept)), BATCH):
            some = kept[n : n + BATCH]
            soft = [alpha_of(found, entry, x, i) or i for x, i in some]
            try:
                vectors = embedder.instances(pixels, soft)
            except ImageError as error:  # a window of a large image
                broken.append(str(error))
                break
            yield entry, [x for x, _ in some], vectors


def _write_npz(out: Path, parts: Iterator[Part], width: int) -> int:
    """Arrays: vectors, and a value for each of its rows by name."""
    rows, vectors = list[Row](), [np.zeros((0, width), np.float32)]
    for more, found in parts:
        rows += more
        vectors.append(found)
    columns = {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file, file.open("wb") as opened:
        np.savez_compressed(opened, vectors=np.concatenate(vectors), **columns)  # type: ignore[arg-type]
    return len(rows)


def _write_table(out: Path, parts: Iterator[Part], width: int) -> int:
    """Columns v0, v1, ... behind those of the rows."""
    with Table(out) as table:
        for rows, vectors in parts:
            for row, vector in zip(rows, vectors.tolist(), strict=True):
                table.add({**row, **{f"v{n}": v for n, v in enumerate(vector)}})
    return table.count
