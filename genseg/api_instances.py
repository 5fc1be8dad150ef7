"""A function for each command that uses instances, as `genseg.api` has them for the others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from genseg.core.paths import expand
from genseg.reports.instances.grouped import write_grouped
from genseg.reports.instances.measured import write_measured
from genseg.workflows.labels.measure import Measured
from genseg.workflows.labels.measure import measure as measure_found
from genseg.workflows.vectors.choose import By, Chosen
from genseg.workflows.vectors.choose import choose as choose_images
from genseg.workflows.vectors.embed import Embedded
from genseg.workflows.vectors.embed import embed as embed_all
from genseg.workflows.vectors.group import Grouped
from genseg.workflows.vectors.group import group as group_found

PathLike = str | Path


def measure_instances(
    found: PathLike,
    out: PathLike,
    *,
    images: PathLike | None = None,
    score: float = 0.0,
    pixel_size: float | None = None,
) -> Measured:
    """`genseg measure`: a table of instances, .csv or .parquet, and one of their images.

    found: a folder of generate or predict, or a COCO json; pixel_size: micrometres of a side
    """
    folder = None if images is None else expand(images)
    result = measure_found(
        expand(found), expand(out), images=folder, score=score, pixel_size=pixel_size
    )
    write_measured(result)
    return result


def group(
    found: PathLike,
    out: PathLike,
    *,
    k: int,
    run: PathLike | None = None,
    names: Sequence[str] = (),
    images: PathLike | None = None,
    score: float = 0.0,
) -> Grouped:
    """`genseg group`: instances of like look as categories of a COCO json, and a page of them.

    run: whose encoder embeds them; None: that which found them
    """
    encoder, folder = (None if p is None else expand(p) for p in (run, images))
    result = group_found(
        expand(found), expand(out), k=k, run=encoder, names=names, images=folder, score=score
    )
    write_grouped(result)
    return result


def embed(
    run: PathLike,
    data: PathLike,
    out: PathLike,
    *,
    of: Literal["images", "instances"] | None = None,
    images: PathLike | None = None,
    score: float = 0.0,
) -> Embedded:
    """`genseg embed`: vectors of images, or of the instances of a result: .npz, .csv, .parquet."""
    folder = None if images is None else expand(images)
    return embed_all(expand(run), expand(data), expand(out), of=of, images=folder, score=score)


def choose(
    run: PathLike,
    data: PathLike,
    out: PathLike,
    *,
    count: int,
    by: By = "typical",
    labelled: PathLike | None = None,
    seed: int = 0,
) -> Chosen:
    """`genseg choose`: a list of the images to label next, the most wanted first.

    labelled: a list or json of images that have labels
    """
    known = None if labelled is None else expand(labelled)
    return choose_images(
        expand(run), expand(data), expand(out), count=count, by=by, labelled=known, seed=seed
    )
