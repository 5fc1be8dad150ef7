"""A function for each command that measures encoders, as `genseg.api` has them for the others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from genseg.core.paths import expand
from genseg.workflows.evaluate.probe import Probed, probe_encoders
from genseg.workflows.evaluate.representation import RepresentationScores
from genseg.workflows.evaluate.representation import evaluate_representation as measure_encoders
from genseg.workflows.pretrain.zero_shot import ZeroShot
from genseg.workflows.pretrain.zero_shot import zero_shot as read_names

PathLike = str | Path


def probe(
    runs: PathLike | Sequence[PathLike],
    *,
    train: PathLike,
    test: PathLike,
    kind: Literal["knn", "linear", "fewshot"] = "knn",
    **options: Any,
) -> Probed:
    """`genseg probe`: accuracies of classifiers on the features of encoders. Further options are
    those of the command: limit, k, shots, seeds, margin."""
    listed = [runs] if isinstance(runs, str | Path) else runs
    found = [expand(r) for r in listed]
    first, second = str(expand(train)), str(expand(test))
    return probe_encoders(found, train=first, test=second, kind=kind, **options)


def zero_shot(
    run: PathLike,
    data: PathLike,
    *,
    words: PathLike | None = None,
    names: Mapping[str, str] | None = None,
    classes: Sequence[str] = (),
    limit: int = 0,
) -> ZeroShot:
    """`genseg probe --data`: which class's word vector is nearest to each image, by a run
    with a semantic target. classes: further names that an image may be taken for."""
    file = None if words is None else str(expand(words))
    found = str(expand(data))
    return read_names(expand(run), found, words=file, names=names, classes=classes, limit=limit)


def evaluate_representation(
    runs: PathLike | Sequence[PathLike],
    data: PathLike,
    *,
    layers: bool = False,
    images: int = 2000,
    of: Literal["objects", "images"] | None = None,
    baselines: bool = False,
    seed: int = 0,
    out: PathLike | None = None,
) -> RepresentationScores:
    """`genseg evaluate representation`: what makes the features of encoders good, on the same
    images. The result is a mapping: run -> measure -> value and standard error."""
    listed = [runs] if isinstance(runs, str | Path) else runs
    return measure_encoders(
        [expand(run) for run in listed],
        str(data),
        layers=layers,
        images=images,
        of=of,
        baselines=baselines,
        seed=seed,
        out=None if out is None else expand(out),
    )
