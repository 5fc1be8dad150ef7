"""Labelled data as a model needs them: instances of a COCO json, or maps of classes."""

from typing import Protocol, runtime_checkable

from genseg.core.paths import expand
from genseg.data.labels.categories import Categories
from genseg.data.labels.class_maps import check_classes, read_mask_folder
from genseg.data.labels.findings import Findings
from genseg.data.labels.labelled_set import LabelledSet, read_labelled


def is_semantic(name: str) -> bool:
    """Whether a model of that name gives pixels a class."""
    return name in ("unet", "fpn", "deeplabv3plus")


@runtime_checkable
class ReadLabels(Protocol):
    """Reads what a model of that name trains on or is scored on, as `read_labels` does."""

    def __call__(
        self, path: str, model: str, *, categories: Categories | None = None
    ) -> tuple[LabelledSet, Findings]: ...


def read_labels(
    path: str, model: str, *, categories: Categories | None = None
) -> tuple[LabelledSet, Findings]:
    """What a model of that name trains on or is scored on: a COCO json, or a folder with images/
    and masks/."""
    file = expand(path)
    if file.is_dir() and not (is_semantic(model) and (file / "masks").is_dir()):
        folder = (
            "; for a class for each pixel also a folder with images/ and masks/"
            if is_semantic(model)
            else ""
        )
        described = next((f for f in sorted(file.glob("*.y*ml")) if f.is_file()), None)
        yolo = (
            f"; of YOLO's data, genseg convert {described} --to coco --out FILE.json makes one"
            if described
            else ""
        )
        raise ValueError(f"{path} is a folder; give a COCO json{folder}{yolo}")
    if file.is_dir():
        return read_mask_folder(file / "images", file / "masks", categories=categories)
    labelled, found = read_labelled(file, categories=categories, masks=model != "faster_rcnn")
    if is_semantic(model):
        check_classes(len(labelled.categories), file)
    return labelled, found
