"""What is in the labels of a COCO json."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genseg.data.images.coco_files import CocoError, load_json
from genseg.data.labels.findings import Findings
from genseg.data.labels.labelled_set import LabelledSet, read_labelled


@dataclass(frozen=True)
class LabelReport:
    """What a json's labels are. Crowds and what fine-tuning leaves out are not counted among
    `labels`.

    counts: labels of each usable image; categories: (name, labels), the most frequent first
    sides: square roots of the labels' areas, in pixels; masks: whether they have masks, or boxes
        alone
    findings: what is wrong with the rest, and what fine-tuning does with it; why: why nothing can
        be used, or ""
    """

    counts: tuple[int, ...] = ()
    crowds: int = 0
    categories: tuple[tuple[str, int], ...] = ()
    sides: tuple[int, ...] = ()
    masks: bool = False
    findings: Findings = ()
    why: str = ""

    @property
    def labels(self) -> int:
        return sum(self.counts)


def report_labels(path: Path) -> LabelReport | None:
    """What fine-tuning would see in a COCO json; None for what is none, and for one that has no
    annotations."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    content = load_json(path)
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if not annotations:
        return None
    try:
        masks = any(isinstance(a, dict) and a.get("segmentation") for a in annotations)
        labelled, findings = read_labelled(path, masks=masks)
    except (CocoError, TypeError) as error:
        return LabelReport(why=str(error).removeprefix(f"{path}: "))
    return _report(labelled, findings, masks=masks)


def _report(labelled: LabelledSet, findings: Findings, *, masks: bool) -> LabelReport:
    single = [~image.crowd for image in labelled.images]
    classes = np.concatenate(
        [image.classes[one] for image, one in zip(labelled.images, single, strict=True)]
    )
    areas = [
        image.areas[one]
        for image, one in zip(labelled.images, single, strict=True)
        if image.areas is not None
    ]
    names = dict.fromkeys((name for _, name in labelled.categories), 0)
    count = Counter(names | Counter(labelled.categories[c][1] for c in classes.tolist()))
    return LabelReport(
        counts=tuple(int(one.sum()) for one in single),
        crowds=sum(int((~one).sum()) for one in single),
        categories=tuple(count.most_common()),
        sides=tuple(np.sqrt(np.concatenate(areas)).round().astype(int).tolist()),
        masks=masks,
        findings=findings,
    )
