"""The images that representations are measured on, and their label sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int, Num, UInt8
from torch import Tensor

from genseg.core.paths import expand
from genseg.core.words import amount
from genseg.data.images.files import list_images
from genseg.data.images.source import ImageSource, Readable
from genseg.data.images.uneven import notes_on
from genseg.data.instances.coco import read_json
from genseg.data.labels.box_crops import BoxCrops
from genseg.data.labels.entries import as_number
from genseg.data.labels.findings import format_findings
from genseg.data.labels.labelled_set import LabelledImage, LabelledSet, read_labelled
from genseg.data.labels.samples import read_sample
from genseg.data.scenes.factors import default_factors
from genseg.data.scenes.scenes import default_scenes

Of = Literal["objects", "images"]
MARGIN = 0.1  # around boxes, as genseg probe has it
# --data of the pictures that genseg draws
EMBEDDED = {"embedded": "objects", "embedded:objects": "objects", "embedded:scenes": "images"}
COCO = (
    *("id", "file_name", "width", "height", "license", "flickr_url", "coco_url", "date_captured"),
    *("source", "extra"),  # of other tools: where a file comes from
)


@dataclass(frozen=True)
class MeasuredImages:
    """Some images, in random order.

    what: in words; labels: the class of each, or None; factors: label sets by name, the class among
    them
    """

    source: Readable
    indices: list[int]
    what: str
    labels: Int[Tensor, "n"] | None = None
    factors: Mapping[str, Num[Tensor, "n *t"]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def measured_images(data: str, *, images: int, seed: int, of: Of | None = None) -> MeasuredImages:
    """At most `images` images (0: all) of a folder, a list, a COCO json or the embedded pictures,
    drawn by `seed`.

    Of class folders the class is the label. Of a json, `of` says what is embedded: objects, cut out
    by their boxes, or whole images; None: objects where there are several categories. Label sets
    are then the category of an object, its place and size (of whole images: those of the largest
    object), how many its image has, and what else the json says of each image.

    Raises ValueError for what cannot be used.
    """
    if of is not None and (data in EMBEDDED or not data.endswith(".json")):
        raise ValueError(f"--of {of} is for a COCO json, whose objects are cut out; leave it out")
    if data.endswith(".json") and read_json(expand(data))["annotations"]:
        found = _of_json(expand(data), images, seed, of)
    else:
        path = default_scenes(EMBEDDED[data]) if data in EMBEDDED else data
        found = _of_files(path, images, seed)
        if data in EMBEDDED:
            assert isinstance(found.source, ImageSource)
            known = default_factors(EMBEDDED[data])
            listed = found.source.images
            stems = [listed.path(i).stem for i in found.indices]
            factors = _numbers([known[stem] for stem in stems])
            found = replace(found, factors={**found.factors, **factors})
    kept = {name: f for name, f in found.factors.items() if len(f.unique(dim=0)) > 1}
    said = [
        f"all images have the same {name}: it is left out"
        for name in found.factors
        if name not in kept and name != "class"
    ]
    labels = found.labels
    if labels is None:
        said.append("there are no classes: measures of classes are left out")
    elif len(labels.unique()) < 2:
        said.append("there is one class alone: measures of classes are left out")
        labels = None
    elif single := int((torch.bincount(labels) == 1).sum()):
        said.append(
            f"{amount(single, 'class')} with one image: left out of the measures of classes"
        )
    return replace(found, labels=labels, factors=kept, notes=(*found.notes, *said))


def _drawn(count: int, images: int, seed: int) -> list[int]:
    return np.random.default_rng([seed, *b"measured"]).permutation(count)[: images or None].tolist()


def _of_files(path: str | Path, images: int, seed: int) -> MeasuredImages:
    """Images of a folder or a list, with their classes where they have some."""
    source = ImageSource(list_images(path), None)
    drawn = _drawn(len(source), images, seed)
    indices = [i for i in drawn if source.read(i)[1] == i]  # the others are stand-ins
    notes = [more for more in [notes_on(source.images.paths)] if more]
    if broken := len(drawn) - len(indices):
        notes.append(f"{amount(broken, 'image')} cannot be read and are left out")
    what = amount(len(indices), "image")
    if source.images.labels is None:
        return MeasuredImages(source, indices, what, notes=tuple(notes))
    labels = torch.tensor([source.images.labels[i] for i in indices])
    what += f" of {len(source.images.classes)} classes"
    return MeasuredImages(source, indices, what, labels, {"class": labels}, tuple(notes))


class WholeImages:
    """The images of a labelled set, uncropped; `read` gives what an ImageSource gives."""

    def __init__(self, labelled: LabelledSet) -> None:
        self.images = labelled.images

    def read(self, i: int) -> tuple[UInt8[np.ndarray, "h w c"], int]:
        """The i-th image, and i."""
        return read_sample(self.images[i]), i


def _of_json(path: Path, images: int, seed: int, of: Of | None) -> MeasuredImages:
    """Objects or whole images of a COCO json."""
    labelled, findings = read_labelled(path, masks=False)
    notes = [format_findings(findings)] if findings else []
    if more := notes_on(tuple(image.path for image in labelled.images)):
        notes.append(more)
    of = of or ("objects" if len(labelled.categories) > 1 else "images")
    more_of = _more(path, labelled.images)
    if of == "objects":
        crops = BoxCrops(labelled, MARGIN)
        # neighbours are of one image, which is then read once
        indices = sorted(_drawn(len(crops), images, seed))
        held = [
            (image, n) for image in labelled.images for n in np.flatnonzero(~image.crowd).tolist()
        ]
        chosen: list[tuple[LabelledImage, int | None]] = [held[i] for i in indices]
        labels = torch.tensor([crops.labels[i] for i in indices])
        what = f"{amount(len(indices), 'object')} of {len(labelled.categories)} categories"
        source: Readable = crops
    else:
        indices = sorted(_drawn(len(labelled.images), images, seed))
        chosen = [(labelled.images[i], _largest(labelled.images[i])) for i in indices]
        what, source = amount(len(indices), "image"), WholeImages(labelled)
    factors: dict[str, Tensor] = {}
    if all(n is not None for _, n in chosen):
        factors = _numbers([_of_box(image, int(n or 0)) for image, n in chosen])
    else:
        notes.append("some images have no object: place and size are left out")
        counts = [[np.log2(1 + (~image.crowd).sum())] for image, _ in chosen]
        factors = {"count": torch.tensor(counts, dtype=torch.float32)}
    factors |= {name: _column([v[image.number] for image, _ in chosen]) for name, v in more_of}
    if of == "objects":
        factors = {"class": labels, **factors}
    elif kinds := [name for name, f in factors.items() if not f.is_floating_point()]:
        labels = factors["kind" if "kind" in kinds else kinds[0]]
        what += f", whose classes are their {'kind' if 'kind' in kinds else kinds[0]}"
    else:
        return MeasuredImages(source, indices, what, None, factors, tuple(notes))
    return MeasuredImages(source, indices, what, labels, factors, tuple(notes))


def _largest(image: LabelledImage) -> int | None:
    """The number of the largest object of an image; None where it has none."""
    own = np.flatnonzero(~image.crowd)
    if not len(own):
        return None
    sides = image.boxes_xyxy[own, 2:] - image.boxes_xyxy[own, :2]
    return int(own[sides.prod(1).argmax()])


def _of_box(image: LabelledImage, n: int) -> dict[str, list[float]]:
    """Where an object lies and how large it is, in parts of its image, and how many there are;
    sizes and numbers as logarithms, because ratios are what is seen."""
    left, top, right, bottom = image.boxes_xyxy[n].tolist()
    across, down = (right - left) / image.width, (bottom - top) / image.height
    return {
        "position": [(left + right) / 2 / image.width, (top + bottom) / 2 / image.height],
        "size": [float(np.log2(max(across * down, 1e-9)) / 2)],
        "count": [float(np.log2(1 + (~image.crowd).sum()))],
    }


def _numbers(rows: Sequence[Mapping[str, list[float]]]) -> dict[str, Tensor]:
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]} if rows else {}


def _more(path: Path, images: Sequence[LabelledImage]) -> list[tuple[str, dict[int, Any]]]:
    """What the json says of every image beyond COCO's own keys, such as `kind`: texts and truth
    values, which are classes, and numbers. A text that is another one for most images is a name,
    and no class."""
    records = {as_number(image["id"]): image for image in read_json(path)["images"]}
    used = [image.number for image in images]
    if not used or any(number not in records for number in used):
        return []
    found = []
    for key in records[used[0]]:
        values = [records[number].get(key) for number in used]
        classes = all(isinstance(v, str | bool) for v in values)
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if key in COCO or not (classes or numbers) or (classes and 2 * len({*values}) > len(used)):
            continue
        found.append((key, dict(zip(used, values, strict=True))))
    return found


def _column(values: Sequence[Any]) -> Num[Tensor, "n *t"]:
    """A factor of values: texts and truth values become classes."""
    if isinstance(values[0], str | bool):
        names = sorted({str(v) for v in values})
        return torch.tensor([names.index(str(v)) for v in values])
    return torch.tensor(values, dtype=torch.float32)[:, None]
