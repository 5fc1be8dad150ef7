"""Predictions of a fine-tuned model for a folder of images: COCO json for instances, PNG of classes
for pixels."""

import functools
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image

from genseg.core.check import between
from genseg.core.files import write_text
from genseg.core.names import BROKEN_NAME, MASKS, PREDICTIONS_NAME, ROWS_NAME, SETTINGS_NAME
from genseg.core.precision import scoring_precision
from genseg.core.result import Result
from genseg.core.words import amount
from genseg.data.images.files import list_images, listing
from genseg.data.images.png import write_rows
from genseg.data.images.source import absent_of
from genseg.data.images.uneven import notes_on
from genseg.data.instances.coco import named_after_each
from genseg.data.instances.instance import where_known
from genseg.data.regions.scene import Scene
from genseg.data.regions.scope import WHOLE, Scope
from genseg.nn.kept_reading import reads_as
from genseg.runs.folder import RunError, lock, write_environment
from genseg.show.draw import colour
from genseg.transfer.contract import Detection, Pixels
from genseg.transfer.predictor import Predictor, as_records, load_predictor, predictor_file
from genseg.transfer.segmenter import Segmenter
from genseg.workflows.generate.finder import rank_detections
from genseg.workflows.generate.job import Job
from genseg.workflows.generate.records import (
    broken_text,
    number_of,
    read_settings,
    refuse_inside,
    rows_of,
)
from genseg.workflows.generate.shrinking import Shrinking

PALETTE = [0, 0, 0, *(v for n in range(255) for v in colour(n))]


@dataclass(frozen=True)
class Predicted(Result):
    """What a fine-tuned model finds in a folder of images.

    file: the COCO json; out: the folder of all results
    objects: how many were found; None for a semantic model, which gives each pixel a class
    broken: images that could not be read, as broken.txt lists them
    """

    out: Path
    file: Path
    images: int
    objects: int | None
    broken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        what = "masks of" if self.objects is None else f"{amount(self.objects, 'object')} in"
        found = f"{what} {amount(self.images, 'image')}"
        lines = [f"{self.file}: {found}{broken_text(self.broken, self.out)}"]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True)
class PredictJob(Job):
    """What a fine-tuned model finds in images, from a least score on."""

    predictor: Predictor
    score: float

    @property
    def rows(self) -> Path:
        return self.out / ROWS_NAME

    @functools.cached_property
    def mask_names(self) -> list[str]:
        """Where the map of each image lies below masks/: as genseg finetune reads it."""
        return named_after_each([self.images.name(i) for i in range(len(self.images))], ".png")

    def look(self, i: int, image: Pixels | Scene, row: dict[str, Any]) -> dict[str, Any]:
        """What is found in an image; of a semantic model the name of its map, which is written."""
        # a scene knows it itself
        absent = None if isinstance(image, Scene) else absent_of(self.images, i)
        if isinstance(self.predictor.model, Segmenter):
            name = f"{MASKS}/{self.mask_names[i]}"
            if isinstance(image, Scene):
                parts = (p.astype(np.uint8) for p in self.predictor.segment_rows(image))
                write_rows(self.out / name, parts, *image.size, PALETTE)
            else:
                classes = self.predictor.segment(image).cpu().numpy().astype(np.uint8)
                classes = classes if absent is None else np.where(absent, np.uint8(0), classes)
                write_class_map(self.out / name, classes)
            return {"mask": name}
        number, h, w = row["id"], row["height"], row["width"]
        found = [d for d in self.predictor.detect(image) if d.score >= self.score]
        found = found if absent is None else [k for d in found if (k := _known(d, absent))]
        records = as_records(
            found, image=number, height=h, width=w, categories=self.predictor.categories
        )
        for n, (record, d) in enumerate(zip(records, found, strict=True), start=1):
            record |= {"id": number_of(number, n), "iscrowd": 0}
            record["area"] = (
                d.instance.area if d.instance else record["bbox"][2] * record["bbox"][3]
            )
        return {"annotations": records}


def _known(d: Detection, absent: Bool[np.ndarray, "h w"]) -> Detection | None:
    """A detection without the pixels in which its image has no value; None where none is left."""
    if d.instance is None:
        left, top, right, bottom = (round(v) for v in d.box_xyxy)
        window = absent[max(0, top) : bottom, max(0, left) : right]
        return None if window.size and window.all() else d
    kept = where_known([d.instance], absent)
    return replace(d, instance=kept[0]) if kept else None


def write_class_map(file: Path, classes: UInt8[np.ndarray, "h w"]) -> None:
    """A PNG of class indices with a palette, so that it is seen: background is black."""
    image = Image.fromarray(classes)
    image.putpalette(PALETTE)
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)


@reads_as("run")
def predict(
    run: Path,
    folder: str,
    out: Path,
    *,
    score: float = 0.5,
    energy: str | None = None,
    scope: Scope = WHOLE,
    fresh: bool = False,
    after: Callable[[], object] = lambda: None,
) -> Predicted:
    """Write `out/predictions.json` with what a fine-tuned model finds in the images of `folder`.

    Of a semantic model: a PNG of indices for each image in `out/masks`, 0 for background, 1, 2, ...
    in the order of the json's `categories`. score: detections that score less are left out; energy:
    a run of genseg energy that gives the scores; scope: how much of images is looked at, and how
    closely; after: called after each image

    Each image's result is kept as soon as it is there: the same command goes on where it was.
    Images that cannot be read are listed in `out/broken.txt`. Raises ValueError for what a user can
    mend.
    """
    between(0, 1, score=score)
    predictor, made = load_predictor(run)
    if isinstance(predictor.model, Segmenter):
        refuse_inside(out, folder)
    predictor.model.to("cuda" if torch.cuda.is_available() else "cpu")
    predictor.precision = scoring_precision(made.precision, predictor.device)
    ranked = [] if energy is None else [rank_detections(predictor, run, energy)]
    images = list_images(folder)
    job = PredictJob("predict", images, out, scope, predictor, score)
    weights = hashlib.blake2b(predictor_file(run).read_bytes(), digest_size=16).hexdigest()
    looked = [scope.settings] if scope != WHOLE else []
    made_of = [weights, listing(images), score, *looked, *ranked]
    origin = hashlib.blake2b(json.dumps(made_of).encode(), digest_size=16).hexdigest()
    with lock(out):
        _open(job, origin, fresh)
        facts = {"run": str(run), "folder": str(Path(folder).absolute()), "images": len(images)}
        write_environment(out, device=predictor.device, facts=facts)
        if more := notes_on(images.paths):
            print(f"note: {more}")
        everything = range(len(images))
        job.run(job.look, job.rows, everything, device=predictor.device, after=after)
        return _finish(job)


def _open(job: PredictJob, origin: str, fresh: bool) -> None:
    """Begin in `out`, or go on there. Raises RunError when it holds the result of something
    else."""
    kept = job.out / SETTINGS_NAME
    if fresh:
        if kept.exists():  # else they are not ours: a folder of labels has masks/ too
            shutil.rmtree(job.out / MASKS, ignore_errors=True)
            shutil.rmtree(job.tiles, ignore_errors=True)
        for file in (job.rows, job.out / PREDICTIONS_NAME, job.out / BROKEN_NAME, kept):
            file.unlink(missing_ok=True)
    job.out.mkdir(parents=True, exist_ok=True)
    if kept.exists() and read_settings(kept) != {"origin": origin}:
        raise RunError(
            f"{job.out} holds the result of another model, other images, another --score, "
            "--energy, --region or resolution; choose another --out, or --fresh"
        )
    write_text(kept, json.dumps({"origin": origin}) + "\n")


def _finish(job: PredictJob) -> Predicted:
    """Put the json together."""
    file, p = job.out / PREDICTIONS_NAME, job.predictor
    merged = job.merge(rows_of([job.rows]), file, shrinking_of(p), p.categories)
    objects = None if isinstance(p.model, Segmenter) else merged.annotations
    return Predicted(job.out, file, merged.images, objects, merged.broken, merged.notes)


def shrinking_of(predictor: Predictor) -> Shrinking:
    """How a fine-tuned model shrinks images; of an object of less than two pixels none keeps a
    shape."""
    preparation = predictor.preparation
    return Shrinking(
        lambda h, w: 1 / preparation.scale(h, w),
        2.0,
        "a model trained with augment.fit=false sees them by tiles",
    )
