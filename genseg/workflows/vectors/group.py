"""Part instances into groups of like look: classes without a label."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans

from genseg.core.check import at_least
from genseg.core.files import write_text
from genseg.core.names import ENVIRONMENT_NAME
from genseg.core.reading import current, words_of
from genseg.core.result import Result
from genseg.core.words import amount
from genseg.data.images.inputs import rgb_of
from genseg.data.images.source import ImageError
from genseg.data.instances.instance import Instance
from genseg.data.labels.annotated import Usable, instance_of
from genseg.data.labels.box_crops import square_around
from genseg.data.labels.entries import Entry
from genseg.data.labels.preflight import Label
from genseg.data.regions.area import Pixels
from genseg.data.regions.opened import pixels_of
from genseg.data.regions.scene import Scene
from genseg.nn.kept_reading import reads_as
from genseg.workflows.labels.found import read_found
from genseg.workflows.vectors.embed import Embedder, instance_vectors

SHOWN = 24  # cut-outs of a group
MARGIN = 0.2  # of the longer side around each


@dataclass(frozen=True)
class Shown:
    """An instance in the square around it, and which annotation it is."""

    pixels: np.ndarray
    instance: Instance
    number: int


@dataclass(frozen=True)
class Grouped(Result):
    """Groups of instances, the largest first.

    file: the COCO json, whose categories are the groups
    names, counts: of each group; shown: some of each, the most typical first
    broken: images that could not be read: their instances are in no group
    unseen: of so many that would be shown the pixels around cannot be read
    """

    file: Path
    names: tuple[str, ...]
    counts: tuple[int, ...]
    shown: tuple[tuple[Shown, ...], ...]
    broken: tuple[str, ...] = ()
    unseen: int = 0

    def text(self) -> str:
        lines = [f"{self.file}: {amount(sum(self.counts), 'instance')} in {len(self.names)} groups"]
        lines += [f"{n:8,d}  {name}" for name, n in zip(self.names, self.counts, strict=True)]
        if self.broken:
            lines.append(
                f"{amount(len(self.broken), 'image')} cannot be read, the first: {self.broken[0]}"
            )
        if self.unseen:
            lines.append(
                f"note: {amount(self.unseen, 'cut-out')} left out of the page, since the pixels "
                "around cannot be read"
            )
        return "\n".join(lines)


@reads_as("found")
def group(
    found: Path,
    out: Path,
    *,
    k: int,
    run: Path | None = None,
    names: Sequence[str] = (),
    images: Path | None = None,
    score: float = 0.0,
) -> Grouped:
    """Part the instances of a result or a COCO json into `k` groups by their vectors, and write
    them as categories of a COCO json. The same call gives the same groups.

    run: whose encoder embeds them; None: that which found them, as env.json says
    names: of the groups, the largest first; none: group 1, group 2, ...
    images, score: as for `read_found`

    Raises ValueError for what a user can mend.
    """
    at_least(2, k=k)
    if out.suffix.lower() != ".json":
        raise ValueError(f"--out {out}: it is a COCO json; end it in .json")
    if names and (len(names) != k or len(set(names)) != k or not all(names)):
        raise ValueError(f"--names: give {k} different names by commas, got {', '.join(names)}")
    usable = read_found(found, images, score=score)
    embedder, broken = Embedder(run or _run_of(usable.source)), list[str]()
    entries, labels, vectors = list[Entry](), list[Label](), list[np.ndarray]()
    for entry, some, each in instance_vectors(embedder, usable, broken):
        entries += [entry] * len(some)
        labels += some
        vectors.append(each)
    if len(labels) < k:
        lost = f"; {broken[0]}" if broken else ""
        raise ValueError(f"--k {k}: there are {amount(len(labels), 'instance')}{lost}")
    groups, near = clusters(np.concatenate(vectors), k)
    called = tuple(names) or tuple(f"group {n}" for n in range(1, k + 1))
    _write(usable, out, list(zip(labels, groups.tolist(), strict=True)), called)
    chosen = [_typical(near, groups == n) for n in range(k)]
    shown = tuple(_cut_out(entries, labels, some) for some in chosen)
    unseen = sum(map(len, chosen)) - sum(map(len, shown))
    counts = tuple(np.bincount(groups, minlength=k).tolist())
    return Grouped(out, called, counts, shown, tuple(broken), unseen)


def clusters(
    vectors: Float[np.ndarray, "n d"], k: int
) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """The group of each vector, 0 the largest, by k-means on the sphere's chords; and its cosine to
    the middle of its group. Of ten beginnings, always the same ones, the best is kept."""
    x = vectors.astype(np.float64)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    found = KMeans(k, n_init=10, random_state=0).fit(x)
    counts = np.bincount(found.labels_, minlength=k)
    order = np.argsort(-counts, kind="stable")
    middles = found.cluster_centers_ / np.maximum(
        np.linalg.norm(found.cluster_centers_, axis=1, keepdims=True), 1e-12
    )
    near = (x * middles[found.labels_]).sum(1)
    return np.argsort(order)[found.labels_], near


def _run_of(source: Path) -> Path:
    """The run that has found the instances of a json."""
    try:
        return Path(json.loads((source.parent / ENVIRONMENT_NAME).read_bytes())["run"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{source}: it does not say which run has found its instances; give --run RUN, whose "
            "encoder embeds them"
        ) from None


def _write(
    usable: Usable, out: Path, grouped: Sequence[tuple[Label, int]], names: Sequence[str]
) -> None:
    """The json with a group as the category of each annotation; others are left out. It names the
    images relative to itself."""
    images = [
        {
            **e.record,
            "file_name": os.path.relpath(e.path.absolute(), out.absolute().parent),
            "height": e.height,
            "width": e.width,
        }
        for e in usable.entries.values()
    ]
    annotations = [{**x.record, "id": x.number, "category_id": n + 1} for x, n in grouped]
    categories = [{"id": n, "name": name} for n, name in enumerate(names, start=1)]
    out.parent.mkdir(parents=True, exist_ok=True)
    info = words_of(current())
    content = {
        **({"info": info} if info else {}),
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    write_text(out, json.dumps(content))


def _typical(near: Float[np.ndarray, "n"], mine: np.ndarray) -> list[int]:
    """Those of a group that lie nearest to its middle."""
    order = np.flatnonzero(mine)
    typical: list[int] = order[np.argsort(-near[order], kind="stable")][:SHOWN].tolist()
    return typical


def _cut_out(
    entries: Sequence[Entry], labels: Sequence[Label], chosen: Sequence[int]
) -> tuple[Shown, ...]:
    """Some instances, of which each image is opened once, without those around which the pixels
    cannot be read: what was embedded of them may be a smaller square."""
    shown: dict[int, Shown] = {}
    for path, page in dict.fromkeys((entries[n].path, entries[n].page) for n in chosen):
        mine = [n for n in chosen if (entries[n].path, entries[n].page) == (path, page)]
        with suppress(ImageError):  # of the image
            pixels = pixels_of(path, page)
            for n in mine:
                with suppress(ImageError):  # of a window of it
                    shown[n] = _shown(pixels, entries[n], labels[n])
    return tuple(shown[n] for n in chosen if n in shown)


def _shown(pixels: Pixels | Scene, entry: Entry, label: Label) -> Shown:
    instance = instance_of(label, entry)
    left, top, w, h = instance.box_xywh
    box = (left, top, left + w, top + h)
    rows, columns = square_around(box, entry.height, entry.width, MARGIN)
    return Shown(
        np.ascontiguousarray(rgb_of(pixels[rows, columns])),
        Instance(instance.within(rows, columns), 0, 0, instance.score),
        label.number,
    )
