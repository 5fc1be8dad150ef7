"""How well instances fit labels, all categories as one."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from genseg.data.instances.coco import AnnotatedImage
from genseg.data.instances.run_length import encode
from genseg.measure.coco import coco_scores
from genseg.measure.overlaps import (
    Overlap,
    alpha_errors,
    best_overlaps,
    box_overlap,
    calibration_error,
    foreground_ari,
    located,
    match,
    overlaps_of,
    pairs_of,
    tp_ratio,
)

# detections an image may have for AP: nuclei images hold up to 375, COCO's limit is 100
MAX_DETS = 1000
# COCO's: pixels up to which a label belongs to it
SIZES = {"small": 32**2, "medium": 96**2, "large": math.inf}
THIRDS = ("smallest third", "middle third", "largest third")

Images = Sequence[AnnotatedImage]
Measures = dict[str, float]


def by_kind(found: Images, truth: Images, *, threshold: float | None = None) -> dict[str, Measures]:
    """The measures of all images, and of each kind when there are several. Image i of both is the
    same."""
    groups = {"all": list(range(len(truth)))}
    kinds = sorted({t.kind for t in truth})
    if len(kinds) > 1:
        groups |= {
            kind or "no kind": [i for i, t in enumerate(truth) if t.kind == kind] for kind in kinds
        }
    thirds = thirds_of(truth)
    return {
        name: dict(
            class_agnostic(
                [found[i] for i in of], [truth[i] for i in of], threshold=threshold, thirds=thirds
            )
        )
        for name, of in groups.items()
    }


def class_agnostic(
    found: Images,
    truth: Images,
    *,
    threshold: float | None = None,
    thirds: tuple[float, float] | None = None,
) -> Iterator[tuple[str, float]]:
    """Names and values of all measures; image i of both is the same. nan: not known, or nothing to
    measure it on.

    threshold: predictions of a lower score are left out of TP/(TP+FP+FN)
    thirds: areas that part the labels by size; by default those of `truth`

    mBO and recall are means over labels, AP and AR are COCO's, the errors of alphas are means over
    pairs that match at IoU 0.5, the calibration error is that of scores as probabilities of such a
    match, the rest are means over images. Where only boxes are known, recall is that of boxes.
    """
    outlined = all(image.outlined for image in (*found, *truth))
    yield "images", len(truth)
    yield "labels", sum(int((~t.crowd).sum()) for t in truth)
    yield "predictions", sum(len(f.instances) for f in found)
    yield from _coco("box", found, truth, known=True)
    yield from _coco("mask", found, truth, known=outlined)
    each = [
        _compare(f, t, outlined=outlined, threshold=threshold)
        for f, t in zip(found, truth, strict=True)
    ]
    yield "TP/(TP+FP+FN) at IoU 0.5", _mean([c.ratio50 for c in each])
    yield "TP/(TP+FP+FN) at IoU 0.75", _mean([c.ratio75 for c in each])
    yield "mBO", _mean(np.concatenate([c.best for c in each]))
    yield "CorLoc", _mean([c.located for c in each])
    yield "FG-ARI", _mean([c.ari for c in each])
    mad, mse = (
        zip(*[pair for c in each for pair in c.errors], strict=True)
        if any(c.errors for c in each)
        else ([], [])
    )
    yield "alpha MAD", _mean(mad)
    yield "alpha MSE", _mean(mse)
    scores, right = (
        np.concatenate([getattr(c, name) for c in each]) for name in ("scores", "right")
    )
    yield "calibration error", calibration_error(scores, right)
    areas, recalled = (
        np.concatenate([getattr(c, name) for c in each]) for name in ("areas", "recalled")
    )
    parts = zip(THIRDS, (*(thirds or thirds_of(truth)), math.inf), strict=True)
    for scale in (SIZES.items(), parts):
        over = -math.inf
        for name, up_to in scale:
            yield f"recall, {name}", _mean(recalled[(areas > over) & (areas <= up_to)])
            over = up_to


@dataclass(frozen=True)
class _Comparison:
    """One image: what its predictions are worth. Crowds are no labels."""

    ratio50: float
    ratio75: float
    located: float
    ari: float
    best: Float[np.ndarray, "m"]  # of each label
    areas: Float[np.ndarray, "m"]
    recalled: Bool[np.ndarray, "m"]
    # of each prediction; not of those in crowds, which are neither right nor wrong
    scores: Float[np.ndarray, "n"]
    right: Bool[np.ndarray, "n"]
    errors: list[tuple[float, float]]  # MAD and MSE of each pair


def _compare(
    found: AnnotatedImage, truth: AnnotatedImage, *, outlined: bool, threshold: float | None
) -> _Comparison:
    single = ~truth.crowd
    labels = [i for i, one in zip(truth.instances, single, strict=True) if one]
    scores = np.array([i.score for i in found.instances], float)
    if outlined:
        overlap: Overlap = overlaps_of(found.instances, truth.instances, truth.crowd)
    else:
        overlap = box_overlap(found.boxes_xywh, truth.boxes_xywh, truth.crowd)
    pairs = match(overlap[:, single], 0.5)
    recalled = np.zeros(len(labels), bool)
    recalled[[j for _, j in pairs]] = True
    right = np.zeros(len(scores), bool)
    right[[i for i, _ in pairs]] = True
    counted = np.ones(len(scores), bool)
    counted[pairs_of(overlap[:, ~single], 0.5)[0][:, 0]] = False
    counted |= right
    errors = []
    if found.alphas is not None and truth.alphas is not None:
        soft = [a for a, one in zip(truth.alphas, single, strict=True) if one]
        errors = [alpha_errors(found.alphas[i], soft[j]) for i, j in pairs]
    used = overlap if threshold is None else overlap[scores >= threshold]
    return _Comparison(
        ratio50=tp_ratio(used, truth.crowd, 0.5) if outlined else math.nan,
        ratio75=tp_ratio(used, truth.crowd, 0.75) if outlined else math.nan,
        located=float(located(found.boxes_xywh, scores, truth.boxes_xywh[single]))
        if labels
        else math.nan,
        ari=foreground_ari(found.instances, labels, truth.height, truth.width)
        if outlined
        else math.nan,
        best=best_overlaps(overlap[:, single]) if outlined else np.full(len(labels), math.nan),
        areas=truth.areas[single],
        recalled=recalled,
        scores=scores[counted],
        right=right[counted],
        errors=errors,
    )


def _coco(what: str, found: Images, truth: Images, *, known: bool) -> Iterator[tuple[str, float]]:
    names = [f"{what} {name}" for name in ("AP", "AP50", "AP75", "AR@100")]
    names += [f"{what} AP, {size}" for size in SIZES] if what == "mask" else []
    if not known:
        yield from ((name, math.nan) for name in names)
        return
    images = [{"id": i, "height": t.height, "width": t.width} for i, t in enumerate(truth)]
    sides = [
        [r for i, image in enumerate(s) for r in _records(i, image, what == "mask")]
        for s in (truth, found)
    ]
    s = coco_scores(images, *sides, masks=what == "mask", per_category=False, max_dets=MAX_DETS)
    values = (s.ap, s.ap50, s.ap75, s.recall[100], s.small, s.medium, s.large)
    yield from zip(names, values, strict=False)


def _records(number: int, image: AnnotatedImage, masks: bool) -> Iterator[dict[str, Any]]:
    for instance, box, area, crowd in zip(
        image.instances, image.boxes_xywh, image.areas, image.crowd, strict=True
    ):
        shape = (
            {"segmentation": encode(instance, image.height, image.width)}
            if masks
            else {"bbox": box.tolist()}
        )
        yield {
            "image_id": number,
            "area": area,
            "iscrowd": bool(crowd),
            "score": instance.score,
        } | shape


def thirds_of(truth: Images) -> tuple[float, float]:
    """Areas up to which labels are in the smallest and in the middle third; nan without labels."""
    areas = np.concatenate([t.areas[~t.crowd] for t in truth])
    low, high = np.quantile(areas, (1 / 3, 2 / 3)).tolist() if areas.size else (math.nan, math.nan)
    return low, high


def _mean(values: Sequence[float] | np.ndarray) -> float:
    """Mean of the values that are known; nan when none is."""
    known = [float(v) for v in values if not math.isnan(v)]
    return math.fsum(known) / len(known) if known else math.nan
