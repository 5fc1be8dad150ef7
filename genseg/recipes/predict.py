"""Predictions of a fine-tuned model for a folder of images: COCO json for instances, PNG of classes for pixels."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from genseg.core.check import between
from genseg.core.threads import in_order, several_at_once
from genseg.core.words import amount
from genseg.data.images import ImageError, ImageList, list_images, listing
from genseg.recipes.generate import (
    MOST,
    ROWS,
    as_coco,
    decoded,
    read_rows,
    read_settings,
    refuse_inside,
    scoring_precision,
    write_png,
)
from genseg.train.run import RunError, write_environment, write_text
from genseg.transfer.model import Pixels
from genseg.transfer.predictor import Predictor, as_records, load_predictor, predictor_file
from genseg.transfer.segmenter import Segmenter

RESULT, MASKS = "predictions.json", "masks"


@dataclass(frozen=True)
class _Work:
    """What is written where."""

    predictor: Predictor
    images: ImageList
    out: Path
    score: float

    @property
    def rows(self) -> Path:
        return self.out / ROWS

    def row(self, read: tuple[int, Pixels | ImageError]) -> dict[str, Any]:
        """What is kept of an image: its size and what was found, or why it cannot be read."""
        i, image = read
        row: dict[str, Any] = {"id": i + 1, "file_name": self.images.files[i]}
        if isinstance(image, ImageError):
            return row | {"broken": str(image)}
        h, w = image.shape[:2]
        row |= {"height": h, "width": w}
        if isinstance(self.predictor.model, Segmenter):
            inside = [p for p in Path(row["file_name"] + ".png").parts if p not in ("/", "..")]
            classes = self.predictor.segment(image).cpu().numpy().astype(np.uint8)
            write_png(self.out / MASKS / "/".join(inside), classes)
            return row | {"mask": f"{MASKS}/{'/'.join(inside)}"}
        found = [d for d in self.predictor.detect(image) if d.score >= self.score]
        records = as_records(found, image=i + 1, height=h, width=w, categories=self.predictor.categories)
        for n, (record, d) in enumerate(zip(records, found, strict=True), start=1):
            record |= {"id": (i + 1) * MOST + n, "iscrowd": 0}
            record["area"] = d.instance.area if d.instance else record["bbox"][2] * record["bbox"][3]
        return row | {"annotations": records}


def predict(
    run: Path, folder: str, out: Path, *, score: float = 0.5, fresh: bool = False,
    after: Callable[[], object] = lambda: None,
) -> str:  # fmt: skip
    """Write `out/predictions.json` with what a fine-tuned model finds in the images of `folder`, and say what it is.

    Of a semantic model: one 8-bit PNG an image in `out/masks`, 0 for background, 1, 2, ... in the order of the json's
    `categories`. score: detections that score less are left out; after: called after each image

    Each image's result is kept as soon as it is there: the same command goes on where it was. Images that cannot be
    read are listed in `out/broken.txt`. Raises ValueError for what a user can mend.
    """
    between(0, 1, score=score)
    predictor, made = load_predictor(run)
    if isinstance(predictor.model, Segmenter):
        refuse_inside(out, folder)
    predictor.model.to("cuda" if torch.cuda.is_available() else "cpu")
    predictor.precision = scoring_precision(made["config"]["precision"], predictor.device)
    images = list_images(folder)
    work = _Work(predictor, images, out, score)
    weights = hashlib.blake2b(predictor_file(run).read_bytes(), digest_size=16).hexdigest()
    origin = hashlib.blake2b(json.dumps([weights, listing(images), score]).encode(), digest_size=16).hexdigest()
    _open(work, origin, fresh)
    facts = {"run": str(run), "folder": str(Path(folder).absolute()), "images": len(images)}
    write_environment(out, device=predictor.device, facts=facts)
    rows = read_rows(work.rows)
    write_text(work.rows, "".join(json.dumps(row) + "\n" for row in rows))  # without a line that a kill has cut
    done = {row["id"] for row in rows}
    todo = [i for i in range(len(images)) if i + 1 not in done]
    calm = 0.5 if os.isatty(2) else 30
    with (
        work.rows.open("a") as file,
        ThreadPoolExecutor(1) as reading,
        several_at_once(predictor.device) as looking,
    ):
        bar = tqdm(total=len(images), initial=len(done), unit=" images", mininterval=calm, desc="predict")
        with bar as progress:
            for row in in_order(looking, work.row, decoded(images, todo, reading)):
                file.write(json.dumps(row) + "\n")
                file.flush()
                progress.update()
                after()
    return _finish(work)


def _open(work: _Work, origin: str, fresh: bool) -> None:
    """Begin in `out`, or go on there. Raises RunError when it holds the result of something else."""
    kept = work.out / "settings.json"
    if fresh:
        if kept.exists():  # else they are not ours: a folder of labels has masks/ too
            shutil.rmtree(work.out / MASKS, ignore_errors=True)
        for file in (work.rows, work.out / RESULT, work.out / "broken.txt", kept):
            file.unlink(missing_ok=True)
    work.out.mkdir(parents=True, exist_ok=True)
    if kept.exists() and read_settings(kept) != {"origin": origin}:
        raise RunError(f"{work.out} holds the result of another model, other images or another --score; choose "
                       "another --out, or --fresh")  # fmt: skip
    write_text(kept, json.dumps({"origin": origin}) + "\n")


def _finish(work: _Work) -> str:
    """Put the json together and say what there is."""
    rows = sorted(read_rows(work.rows), key=lambda row: row["id"])
    broken = [row for row in rows if "broken" in row]
    coco = as_coco(rows, work.predictor.categories)
    write_text(work.out / RESULT, json.dumps(coco))
    semantic = isinstance(work.predictor.model, Segmenter)
    what = "masks of" if semantic else f"{amount(len(coco['annotations']), 'object')} in"
    text = f"{work.out / RESULT}: {what} {amount(len(coco['images']), 'image')}"
    if broken:
        write_text(work.out / "broken.txt", "".join(f"{row['file_name']}\t{row['broken']}\n" for row in broken))
        text += f"; {amount(len(broken), 'image')} cannot be read, see {work.out / 'broken.txt'}"
    return text
