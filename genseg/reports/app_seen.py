"""What the live page keeps of an image: its pixels, what a run finds in them, and what a click has
asked for."""

import json
import math
import tempfile
import zipfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from genseg.core.names import INSTANCES_NAME
from genseg.core.reading import Reading, current
from genseg.core.words import amount
from genseg.data.images.decode import resize
from genseg.data.images.inputs import rgb_of
from genseg.data.images.source import ImageError, decode
from genseg.data.images.uneven import notes_on
from genseg.data.instances.coco import annotation
from genseg.data.instances.instance import OPAQUE, Instance, resized
from genseg.data.labels.categories import Categories
from genseg.data.proposals.scale import TELLS
from genseg.data.regions.opened import by_windows, open_small
from genseg.measure.overlaps import mask_overlap
from genseg.show.brightness import brightened, display_gain, gain_words
from genseg.show.draw import boxes, cut_outs, overlay
from genseg.show.shown import LOW, shown_from
from genseg.workflows.generate.opened import ONE_CLASS, AlphaRun, Opened, ProposerRun

Pixels = UInt8[np.ndarray, "_ _ c"]
# pixels of the longer side of an image; larger ones are shrunk, so that a click answers soon
LONGEST = 2048
# up to which a small image is enlarged: Gradio's component shows none larger than it is
SHORTEST = 720
PREVIEW = 520  # pixels of the longer side of an image's preview
SHOWS = ("Soft alpha", "Hard mask", "Cut-outs", "Image")
SAME = 0.5  # overlap from which on two instances are one
# what is told of an image that is read by windows
LARGER = (
    "genseg generate RUN FILE --side 0, or genseg predict of a fine-tuned run, looks at all of its "
    "pixels"
)
DASH = 6  # pixels of a dash of the line around a guess


@dataclass(frozen=True)
class Seen:
    """An image and what a run finds in it.

    found: all instances, also those that score little
    kept: those that a click has found and the user has kept; they count whatever they score
    guess: what the latest click has found; it does not count
    place: x and y of that click
    whole: height and width of the file's image, where `pixels` are shrunk
    boxes: whether instances are boxes alone
    preview: the picture that stands for the file in the page
    more: what the file holds and nobody looks at, in a sentence
    """

    name: str
    pixels: Pixels
    found: tuple[Instance, ...] = ()
    kept: tuple[Instance, ...] = ()
    guess: Instance | None = None
    place: tuple[int, int] = (0, 0)
    whole: tuple[int, int] | None = None
    categories: Categories = ONE_CLASS
    boxes: bool = False
    preview: str | None = None
    more: str = ""

    def scoring(self, score: float) -> list[Instance]:
        """The instances that were found and score enough."""
        return [a for a in self.found if a.score >= score]

    def added(self, score: float) -> list[Instance]:
        """What was kept, but for what `scoring` has already."""
        return [a for a in self.kept if not _one_of(a, self.scoring(score))]

    def counted(self, score: float) -> list[Instance]:
        """What is shown, counted and exported."""
        return [*self.scoring(score), *self.added(score)]

    def may_keep(self, score: float) -> bool:
        """Whether there is a guess that does not count yet."""
        return self.guess is not None and not _one_of(self.guess, self.counted(score))


def read(file: str, channels: str = "", pages: str = "") -> Seen:
    """An image file, in which nothing has been looked for. channels, pages: what is used of it; of
    what is not said, as the runs were trained. Raises ImageError for one that cannot be read."""
    name = Path(file).name
    try:
        wanted = Reading(channels, pages).over(current())
        pixels, whole, more = _read(Path(file), wanted)
    except ValueError as error:
        why = str(error).removeprefix(f"{file}: ")
        if "say what to use" in why or "images are made of it" in why:
            why += ". Write that into Channels and Pages, and drop it again"
        raise ImageError(f"{name} cannot be read: {why}") from None
    return Seen(name, pixels, whole=whole, more=more)


def _read(file: Path, wanted: Reading) -> tuple[Pixels, tuple[int, int], str]:
    """An image of LONGEST pixels at most, height and width of the whole, and a word on it. What is
    read by windows is shrunk on the way, from a level of its pyramid where it has one."""
    if not by_windows(file):
        pixels = decode(file, reading=wanted)
        return _at_most(pixels, LONGEST), pixels.shape[:2], notes_on((file,))
    scene, whole = open_small(file, LONGEST, reading=wanted)
    return scene.resized(_size(scene.size, LONGEST))[:, :], whole, LARGER


def look(run: Opened, seen: Seen) -> Seen:
    """What a run finds in an image; what another has found, or a click, is forgotten."""
    found = tuple(run.instances(seen.pixels))
    return replace(
        seen, found=found, kept=(), guess=None, categories=run.categories, boxes=run.boxes
    )


def start(run: Opened, seen: Seen, score: float) -> float:
    """The score that the page's slider has for a new image: as it is set, `score`; the one from
    which on a user would keep instances where the run finds all, for their order."""
    return shown_from([seen.found], run.score)[0] if run.score < LOW else score


def click(run: Opened, seen: Seen, x: int, y: int, score: float) -> tuple[Seen, str]:
    """The run's guess at a pixel, not counted yet, and a word on it. A click on what was kept, or
    on the guess of the click before, removes it."""
    if here := [a for a in seen.added(score) if a.covers(y, x)]:
        kept = tuple(a for a in seen.kept if a not in here)
        return replace(seen, kept=kept, guess=None), f"Removed: what you had kept at {x}, {y}."
    if seen.guess is not None and seen.may_keep(score) and seen.guess.covers(y, x):
        return replace(seen, guess=None), f"The guess at {x}, {y} is dropped."
    after = replace(seen, guess=_guess(run, seen, y, x, score), place=(x, y))
    return after, describe(after, score) or f"Nothing here: no instance is proposed at {x}, {y}."


def describe(seen: Seen, score: float) -> str:
    """A word on the guess, if there is one, beside the least score that counts."""
    if seen.guess is None:
        return ""
    (x, y), (_, _, w, h), own = seen.place, seen.guess.box_xywh, seen.guess.score
    what = f"{'' if seen.boxes else f'{seen.guess.area:,} px, '}{w} x {h}"
    if len(seen.categories) > 1:
        what = f"{seen.categories[seen.guess.category][1]}, {what}"
    if not seen.may_keep(score):
        return f"At {x}, {y}: {what}, score {own:.2f}. It counts already."
    if own < score:
        return (
            f"Nothing here (best guess {own:.2f}). The dashed line at {x}, {y} is that guess: "
            f"{what}."
        )
    return f"At {x}, {y}: {what}, score {own:.2f}, besides what was found. It does not count yet."


def keep(seen: Seen) -> tuple[Seen, str]:
    """The guess counts from now on, whatever it scores."""
    if seen.guess is None:
        return seen, ""
    said = f"Kept, with its score of {seen.guess.score:.2f}. Click it again to remove it."
    return replace(seen, kept=(*seen.kept, seen.guess), guess=None), said


def _guess(run: Opened, seen: Seen, y: int, x: int, score: float) -> Instance | None:
    """What the run draws at a pixel; where that scores too little, what it has found there in the
    whole image."""
    drawn = run.at(seen.pixels, y, x)
    found = next((a for a in seen.found if a.covers(y, x)), None)
    if drawn is None or (found is not None and drawn.score < score):
        return found if drawn is None or (found is not None and found.score >= score) else drawn
    return drawn


def _one_of(a: Instance, others: list[Instance]) -> bool:
    return bool(others) and bool(
        mask_overlap([a], others, np.zeros(len(others), bool)).max() >= SAME
    )


def _at_most(pixels: Pixels, longest: int) -> Pixels:
    before = (pixels.shape[0], pixels.shape[1])
    after = _size(before, longest)
    return pixels if after == before else resize(pixels, after[::-1], cv2.INTER_AREA)


def _size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Height and width at a longer side of so much, or less."""
    h, w = size
    if max(h, w) <= longest:
        return h, w
    return max(1, round(h * longest / max(h, w))), max(1, round(w * longest / max(h, w)))


def notes(run: Opened, seen: Seen) -> str:
    """What a user has to know of the file, and of how it is looked at and shown; nothing where all
    is plain."""
    (h, w), shrinking = seen.pixels.shape[:2], run.shrinking
    height, width = seen.whole or (h, w)
    times = height / h * max(1.0, shrinking.factor(h, w))
    smaller = (
        f"{width:,} x {height:,} px, looked at in 1/{times:.1f} of its sides, where nothing of "
        "less than "
    )
    smaller += f"{math.ceil(times * shrinking.least)} px across can be found"
    said = [smaller if times > 1 else "", seen.more, gain_words(display_gain(seen.pixels))]
    if not seen.found and isinstance(run, AlphaRun | ProposerRun):
        said.append(
            "nothing is found, not even with little score; the recipe alpha is for things that are "
            f"small and repeat, photos_alpha for those that are large and few: {TELLS}"
        )
    return f"{seen.name}: {'; '.join(filter(None, said))}." if any(said) else ""


def preview(seen: Seen, folder: Path) -> Seen:
    """A small picture of the image, in a folder of its own below `folder`: browsers show no
    TIFF."""
    small = _at_most(rgb_of(brightened(seen.pixels, display_gain(seen.pixels))), PREVIEW)
    file = Path(tempfile.mkdtemp(dir=folder)) / "preview.png"
    file.write_bytes(_png(small))
    return replace(seen, preview=str(file))


def enlargement(seen: Seen) -> int:
    """By how much the picture of an image is larger than the image, in each direction."""
    return max(1, SHORTEST // max(seen.pixels.shape[:2]))


def drawn(seen: Seen, score: float, show: str) -> Pixels:
    """The image as `show` says, enlarged; a white line around what was kept, a dashed one around a
    guess."""
    times, before = enlargement(seen), seen.pixels.shape[:2]
    after = (before[0] * times, before[1] * times)
    bright = rgb_of(brightened(seen.pixels, display_gain(seen.pixels)))
    pixels = np.asarray(cv2.resize(bright, after[::-1], interpolation=cv2.INTER_CUBIC))
    counted, kept, guess = (
        [large for a in some if (large := resized(a, before, after)) is not None]
        for some in (seen.counted(score), seen.added(score), [seen.guess] if seen.guess else [])
    )
    out = _instances(seen, pixels, counted, show)
    for a in kept:
        _line(out, a, dashed=False)
    for a in guess:
        _line(out, a, dashed=seen.may_keep(score))
    return out


def _instances(seen: Seen, pixels: Pixels, instances: list[Instance], show: str) -> Pixels:
    if show == "Image":
        return pixels.copy()
    if show == "Cut-outs":
        return cut_outs(pixels, instances)
    names = [name for _, name in seen.categories]
    if seen.boxes:
        return boxes(pixels, instances, names)
    hard = [replace(a, alpha=a.mask.astype(np.uint8) * OPAQUE) for a in instances]
    hues = [a.category for a in instances] if len(names) > 1 else None
    return overlay(pixels, hard if show == "Hard mask" else instances, hues=hues)


def _line(out: Pixels, a: Instance, *, dashed: bool) -> None:
    """A white line with a dark edge around an instance, drawn into `out`."""
    lines, _ = cv2.findContours(
        a.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(a.left, a.top)
    )
    cv2.drawContours(out, lines, -1, (0, 0, 0), 5)
    if not dashed:
        cv2.drawContours(out, lines, -1, (255, 255, 255), 2)
        return
    for line in lines:
        for n in range(0, len(line), 2 * DASH):
            cv2.polylines(out, [line[n : n + DASH]], False, (255, 255, 255), 2)


def count(seen: Seen, score: float) -> str:
    """How many instances are shown, of how many."""
    scoring, added = seen.scoring(score), seen.added(score)
    shown = [*scoring, *added]
    every = len(seen.found) + sum(not _one_of(a, list(seen.found)) for a in added)
    text = f"{len(shown):,} of {amount(every, 'instance')}"
    if added:
        text += f": {len(scoring):,} by score, {len(added):,} kept by you"
    if len(seen.categories) > 1 and shown:
        classes = Counter(seen.categories[a.category][1] for a in shown)
        text += f" ({', '.join(f'{n:,} {name}' for name, n in classes.most_common())})"
    return text


def coco(seen: Seen, score: float) -> dict[str, Any]:
    """COCO json of the instances that are shown, in the pixels of the file's image; boxes alone
    have no masks."""
    small = seen.pixels.shape[:2]
    h, w = seen.whole or small
    large = [a if small == (h, w) else resized(a, small, (h, w)) for a in seen.counted(score)]
    found = []
    for n, a in enumerate(large, start=1):
        if a is not None and a.area:
            made = annotation(a, number=n, image=1, height=h, width=w)
            made["category_id"] = seen.categories[a.category][0]
            if seen.boxes:
                del made["segmentation"]
            found.append(made)
    images = [{"id": 1, "file_name": seen.name, "height": h, "width": w}]
    categories = [{"id": number, "name": name} for number, name in seen.categories]
    return {"images": images, "annotations": found, "categories": categories}


def downloads(seen: Seen, score: float, folder: Path) -> tuple[str, str]:
    """instances.json and cutouts.zip, of the instances that are shown, in a folder of their own
    below `folder`."""
    place = Path(tempfile.mkdtemp(dir=folder))
    (place / INSTANCES_NAME).write_text(json.dumps(coco(seen, score)))
    with zipfile.ZipFile(place / "cutouts.zip", "w") as archive:  # PNGs are compressed already
        for n, a in enumerate(seen.counted(score), start=1):
            colours = rgb_of(seen.pixels[a.window])
            archive.writestr(f"cutout-{n}.png", _png(np.dstack([colours, a.alpha])))
    return str(place / INSTANCES_NAME), str(place / "cutouts.zip")


def _png(pixels: UInt8[np.ndarray, "_ _ _"]) -> bytes:
    """RGB or RGBA as a PNG."""
    order = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    done, content = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(pixels), order))
    assert done
    return content.tobytes()
