"""What a fine-tuned model is worth on labelled images: COCO's AP and AR for instances, mIoU for
pixels."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from genseg.core import dist
from genseg.core.check import at_least
from genseg.core.files import write_text
from genseg.core.precision import scoring_precision
from genseg.core.result import Result
from genseg.core.threads import in_order, several_at_once
from genseg.data.images.uneven import notes_on
from genseg.data.labels.class_maps import semantic_target
from genseg.data.labels.findings import Findings, format_findings
from genseg.data.labels.labelled_set import LabelledImage, LabelledSet
from genseg.data.labels.read import read_labels
from genseg.data.labels.samples import read_sample, seen_sample
from genseg.data.regions.opened import refuse_whole
from genseg.measure.coco import CocoScores
from genseg.measure.detection import detection_scores
from genseg.measure.semantic import confusion, iou, mean_iou, pixel_accuracy
from genseg.nn.kept_reading import reads_as
from genseg.runs.folder import check_out
from genseg.transfer.predictor import Predictor, as_records, load_predictor
from genseg.transfer.segmenter import Segmenter
from genseg.workflows.generate.finder import rank_detections
from genseg.workflows.generate.predict import shrinking_of
from genseg.workflows.generate.records import progress_text

# on a line of progress
SHOWN = ("box AP", "box AP50", "mask AP", "mask AP50", "mIoU", "pixel accuracy")
MAIN = ("mask AP", "box AP", "mIoU")  # the first of these that a model has is what it is judged by


@dataclass(frozen=True)
class Scores:
    """Numbers by name, in the order of a table; and what each class has of the main one."""

    values: dict[str, float]
    per_class: dict[str, float] = field(default_factory=dict)
    images: int = 0

    @property
    def main(self) -> float:
        """What the model is judged by; 0 where nothing could be measured."""
        found = next((self.values[name] for name in MAIN if name in self.values), math.nan)
        return 0.0 if math.isnan(found) else found

    def line(self) -> str:
        """The first numbers, for a line of progress."""
        return "  ".join(f"{n} {v:.4f}" for n, v in self.values.items() if n in SHOWN)

    def table(self) -> str:
        """All numbers, a line each, then the classes'."""
        lines = [f"{n:22s}{_shown(v)}" for n, v in self.values.items()]
        if len(self.per_class) > 1:
            name = next(n for n in MAIN if n in self.values)
            lines += ["", f"{name} by class"] + [
                f"  {n:20s}{_shown(v)}" for n, v in self.per_class.items()
            ]
        return "\n".join([f"{self.images} images", *lines])

    def as_json(self) -> dict[str, Any]:
        """As `Scores(**...)` takes it; what is not known is null."""
        known = {n: None if math.isnan(v) else v for n, v in self.values.items()}
        classes = {n: None if math.isnan(v) else v for n, v in self.per_class.items()}
        return {"values": known, "per_class": classes, "images": self.images}


def read_scores(content: Mapping[str, Any]) -> Scores:
    """What `as_json` has made."""
    values, classes = (
        {n: math.nan if v is None else v for n, v in content[k].items()}
        for k in ("values", "per_class")
    )
    return Scores(values, classes, content["images"])


def _shown(value: float) -> str:
    return "      -" if math.isnan(value) else f"{value:7.4f}"


def evaluate_model(
    predictor: Predictor,
    labelled: LabelledSet,
    *,
    limit: int = 0,
    detections: int = 100,
    records: Sequence[Mapping[str, Any]] | None = None,
) -> Scores:
    """Score a model on a set, each process on its share of the images; the same numbers on all
    processes.

    records: what the model finds in all images, where that is known already
    """
    images = labelled.images[: limit or None]
    if isinstance(predictor.model, Segmenter):
        return _semantic(predictor, images)
    records = detect_all(predictor, labelled, images) if records is None else records
    part = labelled.subset([i.number for i in images]) if limit else labelled
    values: dict[str, float] = {}
    per_class: dict[str, float] = {}
    for what in ("box", "mask"):
        if what == "mask" and not (labelled.outlined and getattr(predictor.model, "masks", True)):
            continue
        found = detection_scores(part, records, masks=what == "mask", max_dets=detections)
        values |= {f"{what} {name}": value for name, value in coco_rows(found)}
        names = dict(labelled.categories)
        per_class = {names[number]: s.ap for number, s in found.per_class.items()}
    return Scores(values, per_class, len(images))


def coco_rows(s: CocoScores) -> list[tuple[str, float]]:
    """COCO's table, in its order."""
    rows = [("AP", s.ap), ("AP50", s.ap50), ("AP75", s.ap75)]
    rows += [("AP small", s.small), ("AP medium", s.medium), ("AP large", s.large)]
    rows += [(f"AR@{n}", v) for n, v in s.recall.items()]
    return rows + [
        ("AR small", s.recall_small),
        ("AR medium", s.recall_medium),
        ("AR large", s.recall_large),
    ]


def detect_all(
    predictor: Predictor, labelled: LabelledSet, images: Sequence[LabelledImage] | None = None
) -> list[dict[str, Any]]:
    """COCO's results of `images` (None: all of the set) on all processes, each found by one of
    them.

    Categories have the ids of the set, which may not be those of the training split.
    """
    images, categories = labelled.images if images is None else images, labelled.categories

    def look(image: LabelledImage) -> list[dict[str, Any]]:
        found = predictor.detect(seen_sample(image))
        return as_records(
            found, image=image.number, height=image.height, width=image.width, categories=categories
        )

    with dist.together(), several_at_once(predictor.device) as looking:
        made = in_order(looking, look, images[dist.rank() :: dist.world()])
        mine, done = list[dict[str, Any]](), 0
        try:
            for records in made:
                mine += records
                done += 1
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                progress_text(done, len(images), "nothing is kept, so it begins anew")
            ) from None
    return [record for part in dist.gather_objects(mine) for record in part]


def _semantic(predictor: Predictor, images: Sequence[LabelledImage]) -> Scores:
    classes = len(predictor.categories) + 1

    def look(image: LabelledImage) -> Int[Tensor, "c c"]:
        target = torch.from_numpy(semantic_target(image, len(predictor.categories))).long()
        return confusion(predictor.segment(read_sample(image)).cpu(), target, classes)

    with dist.together(), several_at_once(predictor.device) as looking:
        made = in_order(looking, look, images[dist.rank() :: dist.world()])
        counts = sum(made, torch.zeros(classes, classes, dtype=torch.long))
    counts = dist.total(counts.to(predictor.device)).cpu()
    names = ["background", *(name for _, name in predictor.categories)]
    return Scores(
        {"mIoU": mean_iou(counts), "pixel accuracy": pixel_accuracy(counts)},
        dict(zip(names, iou(counts).tolist(), strict=True)),
        len(images),
    )


@dataclass(frozen=True)
class Evaluated(Result, Mapping[str, float]):
    """The scores of a fine-tuned model by name, such as `evaluated["mask AP"]`; nan where a number
    is not known. findings: what is wrong with the labels."""

    scores: Scores
    findings: Findings = ()
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> float:
        return self.scores.values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scores.values)

    def __len__(self) -> int:
        return len(self.scores.values)

    def text(self) -> str:
        notes = [f"note: {note}" for note in self.notes]
        lines = (format_findings(self.findings), *notes, self.scores.table())
        return "\n".join(filter(None, lines))


@reads_as("run")
def evaluate_files(
    run: Path,
    data: Path,
    *,
    out: Path | None = None,
    detections: int | None = None,
    energy: str | None = None,
    predictions: Path | None = None,
) -> Evaluated:
    """Score a fine-tuned model on a COCO json. All numbers as json in `out`, COCO's results in
    `predictions`. energy: a run of genseg energy that gives what is found its scores

    Raises ValueError for what a user can mend.
    """
    if detections is not None:
        at_least(1, detections=detections)
    predictor, facts = load_predictor(run)
    semantic = isinstance(predictor.model, Segmenter)
    if predictions is not None and semantic:
        raise ValueError(
            "--predictions are COCO's results of instances, and this model gives pixels a class; "
            "genseg predict writes its maps"
        )
    for file in filter(None, (out, predictions)):
        check_out(file)
    predictor.model.to("cuda" if torch.cuda.is_available() else "cpu")
    predictor.precision = scoring_precision(facts.precision, predictor.device)
    if energy is not None:
        rank_detections(predictor, run, energy)
    labelled, findings = read_labels(str(data), facts.model.name, categories=predictor.categories)
    if semantic:
        refuse_whole(
            [image.path for image in labelled.images], "its classes are compared as one picture"
        )
    more = notes_on(tuple(image.path for image in labelled.images))
    shrunk = shrinking_of(predictor).said((image.height, image.width) for image in labelled.images)
    notes = tuple(note for note in (more, *shrunk.get("notes", ())) if note)
    most = detections or facts.detections
    records = None if semantic else detect_all(predictor, labelled)
    scores = evaluate_model(predictor, labelled, detections=most, records=records)
    if out is not None:
        write_text(
            out,
            json.dumps({**scores.as_json(), **({"info": shrunk} if shrunk else {})}, indent=1)
            + "\n",
        )
    if predictions is not None:
        write_text(predictions, json.dumps(records))
    return Evaluated(scores, findings, notes)
