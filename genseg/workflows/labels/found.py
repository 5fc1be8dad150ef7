"""What genseg generate or predict has found, or any COCO json, with its images and alpha maps."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from genseg.core.check import between
from genseg.core.names import ALPHAS, ENVIRONMENT_NAME, INSTANCES_NAME, PREDICTIONS_NAME
from genseg.data.images.coco_files import CocoError
from genseg.data.images.files import SUFFIXES
from genseg.data.instances.coco import picture_name
from genseg.data.instances.instance import Instance
from genseg.data.instances.soft import read_alpha
from genseg.data.labels.annotated import Usable, read_usable
from genseg.data.labels.categories import Categories
from genseg.data.labels.entries import Entry, by_json
from genseg.data.labels.preflight import Label


def found_json(found: Path) -> Path:
    """The COCO json of a folder of results, or the json itself. Raises ValueError where there is
    none."""
    if not found.is_dir():
        return found
    files = [found / name for name in (INSTANCES_NAME, PREDICTIONS_NAME)]
    file = next((f for f in files if f.is_file()), None)
    if file is None:
        raise ValueError(
            f"{found} holds no {' and no '.join(f.name for f in files)}: give what genseg generate "
            "or predict has written, or a COCO json"
        )
    return file


def read_found(found: Path, images: Path | None, *, score: float = 0.0) -> Usable:
    """The instances that score so much, of a folder of results or a COCO json.

    images: the folder of their images; None: that which genseg generate or predict has looked at,
        or as the json names them

    Raises CocoError or ValueError for what a user can mend, and for a semantic model's result,
    which has no instances.
    """
    between(0, 1, score=score)
    file = found_json(found)
    usable = read_usable(file, folders=folders_of(images or looked_at(file)), size=by_json)
    refuse_semantic(usable)
    kept = {n: [x for x in labels if x.score >= score] for n, labels in usable.labels.items()}
    return replace(usable, labels=kept)


def looked_at(file: Path) -> Path | None:
    """The folder whose images a result is of, where env.json beside it has one that is there."""
    try:
        folder = Path(json.loads((file.parent / ENVIRONMENT_NAME).read_bytes())["folder"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if folder.suffix.lower() in SUFFIXES and folder.is_file():  # one image
        return folder.parent
    return folder if folder.is_dir() else None


def folders_of(images: Path | None) -> Sequence[Path] | None:
    """Where the images of a json may lie; None: as it names them."""
    if images is not None and not images.is_dir():
        raise ValueError(f"--images {images} is no folder; give that of the images")
    return None if images is None else [images, images / "images"]


def refuse_semantic(usable: Usable) -> None:
    """Raise CocoError for what a semantic model has made."""
    if any("mask" in entry.record for entry in usable.entries.values()):
        raise CocoError(
            f"{usable.source}: a semantic model has made it, and its classes of pixels are no "
            "instances; the maps beside it in masks/ are PNG that labelling tools read as they are"
        )


def categories_of(found: Usable) -> Categories:
    """Ids and names; of a json that has none, the ids of its annotations."""
    if found.categories is not None:
        return found.categories
    numbers = sorted({label.category for labels in found.labels.values() for label in labels}) or [
        1
    ]
    return tuple((n, "instance" if len(numbers) < 2 else str(n)) for n in numbers)


def alpha_of(found: Usable, entry: Entry, label: Label, instance: Instance) -> Instance | None:
    """The soft alpha map of an instance, where alphas/ beside the json has it. Raises CocoError for
    a file that is not of it."""
    file = found.source.parent / ALPHAS / picture_name(entry.name, label.number)
    return read_alpha(file, instance, entry.height, entry.width) if file.is_file() else None
