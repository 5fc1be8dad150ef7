"""COCO's average precision and recall: pycocotools behind one function that knows its traps.

* An empty list of results raises in `loadRes`: results are made into a COCO object here, empty or
not.
* A detection that is matched by the annotation with id 0 counts as unmatched: ids are counted from
1 here.
* `summarize` answers -1 unless 100 is among `maxDets`: the mean over the arrays is taken here.
* A polygon of four numbers is taken for a box and raises: see
genseg.data.instances.run_length.code_segmentation.
* Results with a box and a mask are sized by their box, also when masks are compared: here by what
is compared.
* It prints: not here.
"""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from genseg.data.instances.run_length import code_segmentation

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class CocoScores:
    """From 0 to 1, averaged over categories; nan where there is no label.

    ap: average precision, mean over IoU 0.50, 0.55 .. 0.95; ap50 and ap75 at one IoU
    small, medium, large: ap of labels of up to 32^2, up to 96^2 and of more pixels
    recall: average recall over the same IoUs, by how many detections an image may have: 1, 10, 100
        and `max_dets`
    recall_small, recall_medium, recall_large: average recall of labels of these sizes, of
    `max_dets` detections
    per_class: the same of each category, by its id; empty for one category
    """

    ap: float
    ap50: float
    ap75: float
    small: float
    medium: float
    large: float
    recall: Mapping[int, float]
    recall_small: float = float("nan")
    recall_medium: float = float("nan")
    recall_large: float = float("nan")
    per_class: Mapping[int, "CocoScores"] = field(default_factory=dict)


def coco_scores(
    images: Records,
    truth: Records,
    found: Records,
    *,
    masks: bool,
    per_category: bool,
    max_dets: int,
    backend: str = "pycocotools",
) -> CocoScores:
    """Score detections `found` against annotations `truth`, both in COCO's format, of all `images`.

    masks: compare masks, otherwise boxes
    per_category: average over categories; otherwise all are one, also those that no label has
    max_dets: detections an image may have, the best first, for everything but `recall` (COCO: 100)
    backend: a key of BACKENDS; the numbers are the same

    A crowd is ignored: not counted as a label, and what lies in it is not counted as wrong.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend}: use one of {', '.join(BACKENDS)}")
    sizes = {i["id"]: (int(i["height"]), int(i["width"])) for i in images}
    categories = {a["category_id"] for a in truth} if per_category else {1}
    sides = []
    for records, labels in ((truth, True), (found, False)):
        records = [r for r in records if not per_category or r["category_id"] in categories]
        made = [
            _record(r, n, *sizes[r["image_id"]], masks=masks, labels=labels)
            | ({} if per_category else {"category_id": 1})
            for n, r in enumerate(records, start=1)
        ]
        sides.append(_coco(images, made, categories))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = BACKENDS[backend](sides[0], sides[1], "segm" if masks else "bbox")
        evaluation.params.maxDets = sorted({1, 10, 100, max_dets})
        evaluation.evaluate()
        evaluation.accumulate()
    p = evaluation.params
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    whole = _summarise(p, precision, recall, max_dets)
    if not per_category:
        return whole
    parts = ((c, precision[:, :, k : k + 1], recall[:, k : k + 1]) for k, c in enumerate(p.catIds))
    return replace(
        whole, per_class={int(c): _summarise(p, some, those, max_dets) for c, some, those in parts}
    )


def _record(
    r: Mapping[str, Any], number: int, height: int, width: int, *, masks: bool, labels: bool
) -> dict[str, Any]:
    """What is compared of a label or detection. Labels keep their area, as COCO's are those of its
    polygons."""
    kept = {k: r[k] for k in ("image_id", "category_id", "score") if k in r}
    kept |= {"id": number, "iscrowd": int(bool(r.get("iscrowd", 0))) if labels else 0}
    if masks:
        kept["segmentation"] = code_segmentation(r["segmentation"], height, width)
        area = float(rle.area(kept["segmentation"]))
    else:
        kept["bbox"] = [float(v) for v in r["bbox"]]
        area = kept["bbox"][2] * kept["bbox"][3]
    return kept | {"area": r.get("area", area) if labels else area}


def _coco(images: Records, annotations: list[dict[str, Any]], categories: set[int]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{k: i[k] for k in ("id", "height", "width")} for i in images],
        "annotations": annotations,
        "categories": [{"id": c} for c in sorted(categories)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


class _Evaluation(COCOeval):
    """COCOeval that keeps and matches overlapping pairs only: the same numbers, on nuclei 20 times
    as fast, and in a sixth of the memory where an image has a thousand detections and labels."""

    def computeIoU(self, imgId: np.int64, catId: np.int64) -> Any:
        """Which detection overlaps which label enough for any match, and by how much."""
        # of nothing: a bare []
        overlap = np.atleast_2d(np.array(super().computeIoU(imgId, catId), float))
        pairs = np.nonzero(overlap >= needed(self.params.iouThrs).min())
        return pairs, overlap[pairs]

    def evaluateImg(
        self, imgId: np.int64, catId: np.int64, aRng: Sequence[float], maxDet: int
    ) -> dict[str, Any] | None:
        """Matches of one image, one category and one range of areas, as `accumulate` wants them."""
        truth, found = self._gts[imgId, catId], self._dts[imgId, catId]
        if not truth and not found:
            return None
        low, high = aRng
        found = sorted(found, key=lambda f: -f["score"])[:maxDet]  # as computeIoU has sorted them
        overlap = np.zeros((len(found), len(truth)))
        pairs, values = self.ious[imgId, catId]
        overlap[pairs] = values
        crowd = np.array([t["iscrowd"] for t in truth], bool)
        ignored = crowd | np.array([not low <= t["area"] <= high for t in truth], bool)
        outside = np.array([not low <= f["area"] <= high for f in found], bool)
        taken = greedy(overlap, self.params.iouThrs, ignored=ignored, crowd=crowd)
        matched = taken >= 0
        return {
            "dtMatches": matched,
            "dtScores": [f["score"] for f in found],
            "gtIgnore": ignored,
            "dtIgnore": np.where(matched, np.append(ignored, False)[taken], outside),
        }


def needed(thresholds: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
    """The least overlap at each threshold: a sum of floats may miss 1."""
    return np.minimum(thresholds, 1 - 1e-10)


def greedy(
    overlap: Float[np.ndarray, "n m"],
    thresholds: Float[np.ndarray, "t"],
    *,
    ignored: Bool[np.ndarray, "m"],
    crowd: Bool[np.ndarray, "m"],
) -> Int[np.ndarray, "t n"]:
    """The label that each detection takes at each overlap, -1 for none, as COCO matches.

    Detections choose in their order: of the labels still free the one that overlaps most, an
    ignored one only when there is no other; of equal overlaps the last. A crowd is never used up.
    """
    least = needed(thresholds)
    choice = np.full((len(thresholds), len(overlap)), -1)
    free = np.ones((len(thresholds), overlap.shape[1]), bool)
    for i in np.flatnonzero((overlap >= least.min()).any(1)):
        near = np.flatnonzero(overlap[i] >= least.min())
        for j in sorted(near, key=lambda j: (ignored[j], -overlap[i, j], -j)):
            takes = (choice[:, i] < 0) & free[:, j] & (overlap[i, j] >= least)
            choice[takes, i] = j
            free[takes, j] = crowd[j]
    return choice


def _summarise(p: Any, precision: np.ndarray, recall: np.ndarray, max_dets: int) -> CocoScores:
    """p: parameters; precision: IoU, recall, category, area, detections; recall: IoU, category,
    area, detections."""
    most = p.maxDets.index(max_dets)
    sizes = [p.areaRngLbl.index(a) for a in ("all", "small", "medium", "large")]
    all_, small, medium, large = (precision[..., a, most] for a in sizes)
    at50, at75 = (int(np.argmin(np.abs(p.iouThrs - iou))) for iou in (0.5, 0.75))
    return CocoScores(
        ap=_mean(all_),
        ap50=_mean(all_[at50]),
        ap75=_mean(all_[at75]),
        small=_mean(small),
        medium=_mean(medium),
        large=_mean(large),
        recall={n: _mean(recall[..., sizes[0], m]) for m, n in enumerate(p.maxDets)},
        recall_small=_mean(recall[..., sizes[1], most]),
        recall_medium=_mean(recall[..., sizes[2], most]),
        recall_large=_mean(recall[..., sizes[3], most]),
    )


def _mean(values: np.ndarray) -> float:
    """Mean over those that are not -1, which stands for a category without labels; nan when none is
    left."""
    known = values[values > -1]
    return float(known.mean()) if known.size else float("nan")


def _faster(truth: COCO, found: COCO, kind: str) -> Any:
    """faster-coco-eval's evaluation in C++, of the same numbers."""
    try:
        from faster_coco_eval import COCO as FasterCOCO
        from faster_coco_eval import COCOeval_faster
    except ImportError:
        raise ValueError(
            "the backend faster needs faster-coco-eval: pip install 'genseg[fast]'"
        ) from None
    sides = []
    for side in (truth, found):
        sides.append(FasterCOCO())
        sides[-1].dataset = side.dataset
        sides[-1].createIndex()
    return COCOeval_faster(*sides, kind)


BACKENDS: dict[str, Callable[[COCO, COCO, str], Any]] = {
    "pycocotools": _Evaluation,
    "faster": _faster,
}
