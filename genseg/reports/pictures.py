"""The sections of a report that are pictures."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import cv2
import numpy as np
from jaxtyping import UInt8

from genseg.core.names import ALPHAS
from genseg.core.words import amount
from genseg.data.images.png import read_png
from genseg.data.images.source import ImageError, decode
from genseg.data.instances.coco import AnnotatedImage, file_key, picture_name
from genseg.data.instances.instance import cut
from genseg.data.proposals.scale import other_recipe
from genseg.reports.judge import COUNTS, OVERLAP
from genseg.reports.run import SHOWN, Ranked, Run, chosen
from genseg.show.brightness import brightened, display_gain
from genseg.show.draw import overlay
from genseg.show.failures import FAILURES, is_empty
from genseg.show.page import Section, figure
from genseg.show.shown import shown_from, shown_words
from genseg.show.viewer import DIGITS, Picture, data_uri, picture_data, thumbnail, viewer
from genseg.workflows.generate.records import MOST as NUMBERS
from genseg.workflows.pretrain.snapshots import spaced

EXTREMES = 4  # images that are shown as the best, and as the worst
EXAMPLES = 3  # of each way to fail
EMPTY = 0.3  # share of images without an instance from which on a word is due
TILE = 192  # pixels of a small picture, for screens of two pixels a point
COLUMNS = 6  # snapshots side by side
BUDGET = 9_000_000  # characters of pictures in a viewer, so that a report stays below 15 MB
Pixels = UInt8[np.ndarray, "_ _ c"]


def found(run: Run) -> Section | None:
    """The images with their instances, in the viewer."""
    pictures, score, low = pictures_of(run)
    if not pictures:
        return None
    data = within_budget(pictures, score)
    run.kept["fitting"] = len(data)
    everything = max(run.total, len(run.ranked), len(data))  # what is still found has no ranks
    title = (
        "What was found in "
        f"{f'{len(data)} of ' if everything > len(data) else ''}{amount(everything, 'image')}"
    )
    lead = "Point at an instance to see its score; click it, or its chip, to hide it."
    if everything > len(data):
        lead += (
            " Shown are some drawn at random, the surest, the least sure, and those that may have "
            "failed."
        )
    if not run.judged:
        lead += (
            " Scores order the instances of one source; those of a run with the alpha task are "
            "calibrated, as far as it could."
        )
        lead += shown_words(score, low)
    if run.semantic:
        lead = (
            "Each class that was found is a layer of its own colour: click it, or its chip, to "
            "hide it."
        )
        lead += " What is labelled has a line of the same colour." if run.judged else ""
    if run.judged:
        title = f"What was found in {amount(len(data), 'validation image')}, and what is labelled"
        lead += " From the best image to the worst."
    return Section(
        "found",
        "Found",
        title,
        viewer("found", data, scored=not run.semantic),
        lead,
        {"pictures": data, "threshold": score, "low": low},
    )


def pictures_of(run: Run) -> tuple[list[Picture], float, float]:
    """What the viewer shows, the score from which instances count, and the least that is kept:
    rounded down to the viewer's digits, or the instance that scores least could not be shown."""
    if "pictures" not in run.kept:
        pictures, *scores = _shown(run)
        score, low = (math.floor(s * 10**DIGITS + 1e-6) / 10**DIGITS for s in scores)
        run.kept["pictures"] = pictures, score, low
    return cast(tuple[list[Picture], float, float], run.kept["pictures"])


def _shown(run: Run) -> tuple[list[Picture], float, float]:
    if run.listed:
        return list(_listed(run)), *run.shown
    pictures, score, low = run.looked
    if run.judged:
        pictures = best_middle_worst(pictures)
    if not pictures and run.looked_at and (taken := run.snapshots)[1]:
        images, last = taken[0], taken[1][-1]
        pictures = [
            Picture(f"image {n + 1}, step {last.step}", image, instances)
            for n, (image, instances) in enumerate(zip(images, last.found, strict=True))
        ]
        score, low = shown_from(p.instances for p in pictures)
    return pictures, score, low


def _listed(run: Run) -> Any:
    """The pictures of an instances.json: some at random, then the best, the worst, and those that
    may have failed."""
    by_name = {i.key: i for i in run.listed}
    names = [run.listed[i].key for i in chosen(len(run.listed), SHOWN)]
    for r in (*best(run), *worst(run), *(r for _, rs in failed(run) for r in rs[:EXAMPLES])):
        names += [r.name] if r.name not in names else []
    for name in names:
        if (pixels := read(run, by_name[name])) is not None:
            yield picture(run, by_name[name], pixels)


def picture(run: Run, image: AnnotatedImage, pixels: Pixels) -> Picture:
    """An image of an instances.json, with soft alphas where they were written."""
    files = [run.path / ALPHAS / picture_name(image.name, n) for n in image.numbers]
    soft = bool(files) and all(f.is_file() for f in files)
    instances = image.instances
    if soft:
        instances = tuple(
            cut(read_png(f), a.score) for f, a in zip(files, image.instances, strict=True)
        )
    labels = (
        tuple(run.classes.get(n, "?") for n in image.numbers) if run.classes or run.semantic else ()
    )
    hues = tuple(n % NUMBERS - 1 for n in image.numbers) if run.semantic else ()
    if not image.outlined and labels:  # a class has the colour of its place in the json
        order = [*run.class_names, "?"]
        instances = tuple(
            replace(a, category=order.index(c)) for a, c in zip(instances, labels, strict=True)
        )
    return Picture(
        image.title, pixels, instances, labels, soft, hues=hues, boxes=not image.outlined
    )


def read(run: Run, image: AnnotatedImage) -> Pixels | None:
    """The pixels of an image of an instances.json, or None where they are not to be had at the size
    it names."""
    images = run.images
    if images is None:
        return None
    root = images.root
    for place in (root / image.name, root / "images" / image.name, root / file_key(image.name)):
        if place.is_file():
            try:
                pixels = decode(place, image=image.page)
            except ImageError:
                return None
            return pixels if pixels.shape[:2] == (image.height, image.width) else None
    return None


def within_budget(pictures: Sequence[Picture], score: float) -> list[dict[str, Any]]:
    """The data of the pictures, as many as fit; instances count from a score on."""
    data: list[dict[str, Any]] = []
    size = 0
    for p in pictures:
        entry = picture_data(p, score)
        size += len(entry["image"]) + len(entry["atlas"]) + 60 * len(entry["found"])
        if data and size > BUDGET:
            break
        data.append(entry)
    return data


def steps(run: Run) -> Section | None:
    """The same images as training went on."""
    images, taken = run.snapshots
    if not images or not taken or taken[-1].step == 0:
        return None
    shown = spaced(taken, COLUMNS)
    columns, gains = [], [display_gain(image) for image in images]
    for snapshot in shown:
        score, _ = shown_from(snapshot.found)
        drawn = [[a for a in found if a.score >= score] for found in snapshot.found]
        cells = "".join(
            f'<img src="{data_uri(small(overlay(brightened(image, gain), found)), quality=82)}" '
            f'width="{TILE}" height="{TILE}" alt="image {n + 1} after {snapshot.step} steps: '
            f'{len(found)} instances">'
            for n, (image, gain, found) in enumerate(zip(images, gains, drawn, strict=True))
        )
        total, count = sum(map(len, snapshot.found)), sum(map(len, drawn))
        before = "" if snapshot.step else "training has not begun<br>"
        of = "" if count == total else f" of {total:,}"
        caption = (
            f"<figcaption>step {snapshot.step:,}<br>{before}{count:,}{of} instances</figcaption>"
        )
        columns.append(f"<figure>{caption}{cells}</figure>")
    return Section(
        "steps",
        "Steps",
        "The same images as training went on",
        f'<div class="scroll"><div class="steps">{"".join(columns)}</div></div>',
        f"The middles of {len(images)} images, drawn once; no label was used." + _dim(gains),
    )


def _dim(gains: Sequence[float]) -> str:
    """A sentence on the pictures that are shown brighter than they are; nothing where there is
    none."""
    return " Dim images are shown brighter than they are." if any(g > 1 for g in gains) else ""


def small(pixels: Pixels, side: int = TILE) -> Pixels:
    """A square picture at the size of a tile."""
    return np.asarray(
        cv2.resize(
            pixels,
            (side, side),
            interpolation=cv2.INTER_AREA if len(pixels) > side else cv2.INTER_LINEAR,
        )
    )


# by score and by failure


def best(run: Run) -> list[Ranked]:
    return _scored(run)[:EXTREMES]


def worst(run: Run) -> list[Ranked]:
    return _scored(run)[EXTREMES:][-EXTREMES:][::-1]


def _scored(run: Run) -> list[Ranked]:
    """The images that have a score: without labels an empty one has none."""
    return [r for r in run.ranked if r.instances or r.judged is not None]


def best_middle_worst(pictures: Sequence[Picture]) -> list[Picture]:
    """Of many, the best first, as many of each as are shown."""
    middle = max(EXTREMES, (len(pictures) - EXTREMES) // 2)
    places = [
        *range(EXTREMES),
        *range(middle, middle + EXTREMES),
        *range(len(pictures) - EXTREMES, len(pictures)),
    ]
    return [pictures[n] for n in sorted(set(places)) if 0 <= n < len(pictures)]


def failed(run: Run) -> list[tuple[int, list[Ranked]]]:
    """For each way to fail its number in FAILURES, and the images."""
    if "failed" not in run.kept:
        run.kept["failed"] = [
            (n, [r for r in run.ranked if f.holds(r.instances, r.height, r.width)])
            for n, f in enumerate(FAILURES)
        ]
    return cast(list[tuple[int, list[Ranked]]], run.kept["failed"])


def extremes(run: Run) -> Section | None:
    """The images whose instances score best and worst, and those in which something may have gone
    wrong."""
    # without labels a class of pixels has no score
    if not run.ranked or (run.semantic and not run.judged):
        return None
    pictures, score, _ = pictures_of(run)
    # the viewer has these alone
    known = {p.name: (n, p) for n, p in enumerate(pictures[: run.kept.get("fitting")])}
    most, fewest = ("Best", "Worst") if run.judged else ("Surest", "Least sure")
    body = f'<div class="two"><div><h3>{most}</h3>{_cards(best(run), known, score)}</div>'
    some = any(p.instances for p in pictures)
    boxes = any(p.boxes for p in pictures) or any(not i.outlined for i in run.listed)
    nothing = (
        "There are too few images to tell."
        if some
        else f"Nothing was found: try a lower score, or train longer.{_other(run)}"
    )
    least = _cards(worst(run), known, score) or f"<p>{nothing}</p>"
    body += f"<div><h3>{fewest}</h3>{least}</div></div>"
    if run.semantic:
        return Section(
            "extremes",
            "Best and worst",
            "Best and worst by mIoU",
            body,
            "By the mean over the classes of an image, background among them, of "
            f"{len(run.ranked)} images.",
        )
    groups = ""
    for n, images in failed(run):
        f, kind = FAILURES[n], "group some" if images else "group"
        if f.of_masks and boxes:
            continue
        meaning = f.meaning
        if f.holds is is_empty and some and len(images) > EMPTY * len(run.ranked):
            meaning += f".{_other(run)}" if _other(run) else ""
        title = f"{f.name.capitalize()}: {len(images):,} of {len(run.ranked):,} images"
        groups += (
            f'<div class="{kind}"><h3>{title}</h3><p>{meaning}</p>'
            f"{_cards(images[:EXAMPLES], known, score)}</div>"
        )
    body += f'<div class="groups">{groups}</div>'
    by = "By the mean score of an image's instances."
    if run.total > len(run.ranked):
        by += f" These are {len(run.ranked):,} of the {run.total:,} images, drawn at random."
    if run.judged:
        by = (
            f"By TP / (TP + FP + FN) at an IoU of {OVERLAP} with the labels, of {len(run.ranked)} "
            f"images; instances count from a score of {COUNTS} on."
        )
    return Section(
        "extremes",
        "Best and worst",
        "Best and worst by score, and where to look for failures",
        body,
        f"{by} The groups are derived from the instances alone, so an image in one may still be "
        "right.",
    )


def _other(run: Run) -> str:
    """What suits other images than the run's proposals do; nothing for what has none."""
    c = run.config
    if c is None or c.alpha.name != "places":
        return ""
    return f" {other_recipe(c.alpha.proposals)}."


def _cards(images: Sequence[Ranked], known: dict[str, tuple[int, Picture]], score: float) -> str:
    cards = []
    for r in images:
        if r.name in known:
            n, p = known[r.name]
            source = thumbnail(p, score, side=200)
            count = f"{len(r.instances)} instance{'' if len(r.instances) == 1 else 's'}"
            caption = p.note or (f"{count}, {r.score:.2f}" if r.instances else "nothing")
            cards.append(
                figure(
                    source,
                    caption,
                    alt=f"{r.name}: {caption}; open it",
                    size=(200, 200),
                    jump=("found", n),
                )
            )
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""
