"""The sections of a report that show an energy: what it holds for an instance, and how it changes
from map to map."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from genseg.core.words import amount
from genseg.data.instances.instance import OPAQUE
from genseg.energies.corrupt import Kind
from genseg.reports.energy_looks import (
    LEFT,
    SHIFTS,
    STEPS,
    TRUE,
    WALK,
    WORST,
    Drawn,
    Looked,
    looked,
)
from genseg.reports.run import Run
from genseg.show.levels import Level, legend, levels, ordered, plane, span_of
from genseg.show.page import Section

FEWER = 3  # of the other sections
EXTREME = 6  # own instances of the lowest energy, and of the highest
START = 0.4  # overlap with the true map from which a descent begins
SCALE = legend("lowest E of a row", "highest")
WHOLE = legend("E of true maps", "of corrupted ones")
UNSEEN = "Composites that the run has not been trained on."
DIM = "Dim images are shown brighter."


def maps(run: Run) -> Section | None:
    """True maps, what they are not, and the decoder's worst, in the order of their energy."""
    seen = looked(run)
    if seen is None or not seen.shown:
        return None
    rows, first = "", 0
    for s, found in seen.shown:
        true_first = ordered(_cells(seen, s.image, found))
        first += true_first[0].word == TRUE
        rows += levels(true_first, name="E")
    return Section(
        "maps",
        "Maps",
        "Maps and their energies: the lower, the more like an instance",
        SCALE + rows,
        f"{UNSEEN} Each row is one true map, framed, and what it is not, from the lowest energy "
        f"to the highest; the true map should come first, and does in {first} of "
        f"{amount(len(seen.shown), 'row')}. Corrupted maps overlap the true one by about {LEFT:g} "
        f"where their kind has a strength; {WORST}, is what the decoder itself finds there "
        f"with the least overlap. {DIM}",
    )


def usual(seen: Looked) -> tuple[float, float]:
    """A span of energies for what is compared from row to row: from the median of some true maps to
    that of corrupted ones."""
    every = [d for _, found in seen.shown for d in found]
    true, other = (
        [d.energy for d in every if (d.name == TRUE) == is_it] for is_it in (True, False)
    )
    return span_of([float(np.median(true)), float(np.median(other))])


def _cells(seen: Looked, image: int, found: Sequence[Drawn]) -> list[Level]:
    """Maps as pictures of one part of an image."""
    square = seen.square(image, torch.stack([d.alpha for d in found]))
    return [
        Level(
            seen.picture(image, d.alpha, square),
            d.energy,
            d.name,
            "" if d.name == TRUE else f"overlap {d.overlap:.2f}",
            d.name == TRUE,
        )
        for d in found
    ]


def descent(run: Run) -> Section | None:
    """Corrupted maps, and what the autoencoder makes of them, again and again."""
    seen = looked(run)
    if seen is None or not seen.decodes or not (subjects := seen.subjects(FEWER)):
        return None
    rows, span = "", usual(seen)
    for n, s in enumerate(subjects):
        kind: Kind = "noise" if n % 2 == 0 else "shift"
        truth = seen.true(s)
        steps = seen.descent(s.image, seen.corrupted(s, [kind], START)[0])
        names = [TRUE, kind, *(f"step {k}" for k in range(1, STEPS + 1))]
        found = seen.drawn(s.image, truth, names, torch.cat([truth[None], steps]))
        rows += levels(_cells(seen, s.image, found), name="E", span=span)
    return Section(
        "descent",
        "Descent",
        "Descent: a corrupted map, and three steps of a ← Dec(x, Enc(x, a))",
        WHOLE + rows,
        "The true map, framed, is not used. Where E is shaped well, it falls from step to step, "
        "and the map comes to lie on the instance.",
    )


def own(run: Run) -> Section | None:
    """The decoder's own instances of the lowest and of the highest energy."""
    seen = looked(run)
    if seen is None or not seen.own:
        return None
    m = seen.material
    best, worst = seen.own[:EXTREME], seen.own[EXTREME:][-EXTREME:]

    def cell(k: int, energy: float) -> Level:
        image, alpha = int(m.own_image[k]), m.own[k].float() / OPAQUE
        square = seen.square(image, alpha[None], margin=0.5)
        more = f"overlap {float(m.overlap[k]):.2f}"
        picture = seen.picture(image, alpha, square)
        return Level(picture, energy, f"score {float(m.score[k]):.2f}", more)

    span, body = span_of([e for _, e in seen.own]), legend("lowest E", "highest")
    for title, some in (("Lowest energy", best), ("Highest energy", worst)):
        body += f"<h3>{title}</h3>" + levels([cell(*each) for each in some], name="E", span=span)
    return Section(
        "own",
        "Own instances",
        "Best and worst: the decoder's own instances by their energy",
        body,
        f"Of {amount(len(seen.own), 'instance')}, drawn at random from those that the decoder "
        f"finds in {amount(len(m), 'composite')} at whatever score. Overlap is that with the "
        "nearest true map.",
    )


def landscape(run: Run) -> Section | None:
    """E over shifts of true maps."""
    seen = looked(run)
    if seen is None or not (subjects := seen.subjects(FEWER)):
        return None
    body, hit = "", 0
    for n, s in enumerate(subjects):
        values, truth = seen.landscape(s), seen.true(s)
        middle = SHIFTS // 2
        low = np.unravel_index(np.argmin(np.nan_to_num(values, nan=np.inf)), values.shape)
        hit += max(abs(int(k) - middle) for k in low) <= 1
        found = seen.drawn(s.image, truth, [TRUE], truth[None])
        drawn = plane(
            f"Landscape {n + 1}",
            values,
            low="−1",
            high="1",
            across="moved right, in sides of the map",
            down="moved down",
        )
        picture = levels(_cells(seen, s.image, found), name="E")
        body += f"<div>{picture}<figure>{drawn}</figure></div>"
    return Section(
        "landscape",
        "Landscape",
        "Landscape: E of a true map that is moved",
        f'{legend("lowest E of a map", "highest")}<div class="planes">{body}</div>',
        f"{SHIFTS} x {SHIFTS} shifts; the cross is the true place, the ring the lowest energy: a "
        f"step or less apart in {hit} of {len(subjects)}.",
    )


def walks(run: Run) -> Section | None:
    """Codes between those of two instances, decoded."""
    seen = looked(run)
    if seen is None or not seen.decodes:
        return None
    rows, count, span = "", 0, usual(seen)
    for image in range(len(seen.material)):
        if count == FEWER or (pair := seen.pair(image)) is None:
            continue
        count += 1
        alpha = seen.walk(image, pair)
        energy, _ = seen.measured(image, alpha, alpha[0])
        ends = seen.material.alpha[list(pair)].float() / OPAQUE
        square = seen.square(image, ends, most=math.inf)
        words = ["first", *(f"{100 * k // (WALK - 1)} %" for k in range(1, WALK - 1))]
        cells = [
            Level(seen.picture(image, a, square), e, word)
            for a, e, word in zip(alpha, energy, [*words, "second"], strict=True)
        ]
        rows += levels(cells, name="E", span=span)
    if not count:
        return None
    return Section(
        "walks",
        "Between",
        "Between two instances: a walk in the space of codes",
        WHOLE + rows,
        "Place and vector go from the code of one instance to that of another of the same image, "
        "and each code is drawn in the image. Half of one and half of another is no instance: "
        "where E rises on the way, it says so.",
    )


def said(run: Run) -> str:
    """What an energy is worth, in a sentence; nothing without one."""
    worth = last(run)
    if "auroc" not in worth:
        return ""
    return (
        f"Of a true and a corrupted map the energy finds the true one {100 * worth['auroc']:.0f} "
        "times in 100."
    )


def last(run: Run) -> dict[str, float]:
    """The last numbers by which an energy was judged: those of the end, or so far the latest."""
    names = ("auroc", "reconstruction", "copy", "ignore", "moved")
    rows = [row for row in run.rows if "auroc" in row or "auroc_last" in row]
    if run.shaped is None or not rows:
        return {}
    row = rows[-1]
    return {n: float(v) for n in names if (v := row.get(f"{n}_last", row.get(n))) is not None}


def energy_figures(run: Run) -> list[tuple[str, str]]:
    """The numbers of the first screen."""
    worth = last(run)
    words = {
        "auroc": "AUROC of true maps against corrupted ones",
        "reconstruction": "overlap of r(a) with a",
        "copy": "overlap in another image: low is good",
        "ignore": "overlap with another's vector: low is good",
        "moved": "overlap where it lies elsewhere: high is good",
    }
    return [(f"{worth[name]:.3f}", word) for name, word in words.items() if name in worth]
