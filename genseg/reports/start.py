"""What a run with the alpha task starts from: its proposals, alone before its model has found
anything, then beside what it finds."""

import html

import numpy as np

from genseg.core.names import BANKS
from genseg.data.composites.bank import load_bank
from genseg.reports.pictures import TILE, Pixels, small, within_budget
from genseg.reports.run import SHOWN, SIDE, Run, chosen
from genseg.reports.training_pictures import Shrunk
from genseg.show.brightness import brightened, display_gain
from genseg.show.draw import overlay
from genseg.show.page import Section
from genseg.show.shown import shown_words
from genseg.show.viewer import Picture, data_uri, viewer
from genseg.workflows.pretrain.snapshots import middle, spaced

PAIRS = 4  # images whose proposals are shown beside what the model finds


def beside(run: Run) -> Section | None:
    """The proposals of the first round that are pasted, beside what the model finds in the same
    images."""
    c, images, file = run.config, run.images, run.path / BANKS / "0.npz"
    if c is None or images is None or not file.is_file() or run.folder is not None:
        return None
    pictures, score, low = run.looked
    bank, source = load_bank(file), Shrunk(images, c.alpha.side)
    if not pictures or not len(bank):
        return None
    columns: dict[str, list[str]] = {"proposals": [], "found": []}
    names = [images.name(i) for i in range(len(images))]
    for p in spaced(pictures, PAIRS):
        i = names.index(p.name)
        pixels, gain = source.read(i)[0], display_gain(p.pixels)
        sure = [bank[k] for k in bank.of_image(i) if bank.scores[k] >= c.alpha.compose.sure]
        found = [a for a in p.instances if a.score >= score]
        # proposals are of the whole image, and a large one is looked at in a window
        at_first = middle(overlay(brightened(pixels, gain), sure), SIDE)
        at_last = overlay(brightened(p.pixels, gain), found)
        shown = zip(columns, (at_first, at_last), (len(sure), len(found)), strict=True)
        for name, picture, count in shown:
            alt = html.escape(f"{p.name}, {name}: {count}")
            columns[name].append(
                f'<img src="{data_uri(_tile(picture), quality=82)}" width="{TILE}" '
                f'height="{TILE}" alt="{alt}">'
            )
    body = "".join(
        f"<figure><figcaption>{name}</figcaption>{''.join(cells)}</figure>"
        for name, cells in columns.items()
    )
    return Section(
        "beside",
        "Beside",
        "What training started from, beside what the model finds",
        f'<div class="scroll"><div class="steps">{body}</div></div>',
        f"Each row is one image: the regions that {c.alpha.proposals} proposed and that were "
        f"pasted (score {c.alpha.compose.sure:g} or more), and what the model finds."
        f"{shown_words(score, low)}",
    )


def _tile(pixels: Pixels) -> Pixels:
    return small(middle(pixels, min(pixels.shape[:2])))


def proposals(run: Run) -> Section | None:
    """The proposals of the first round, until the model has been looked at for the first time in
    training."""
    c, images, file = run.config, run.images, run.path / BANKS / "0.npz"
    if c is None or images is None or not file.is_file() or run.looked_at or run.folder is not None:
        return None
    bank = load_bank(file)
    if not len(bank):
        return None
    source, pictures = Shrunk(images, c.alpha.side), []
    for i in chosen(len(images), SHOWN):
        pixels, at = source.read(i)
        if at == i:  # else another image stands in for a broken one
            found = sorted((bank[k] for k in bank.of_image(i)), key=lambda a: -a.score)
            pictures.append(Picture(images.files[i], pixels, tuple(found)))
    if not pictures:
        return None
    score, low = c.alpha.compose.sure, float(np.floor(bank.scores.min() * 100) / 100)
    data = within_budget(pictures, score)
    return Section(
        "proposals",
        "Proposals",
        f"What training starts from: {len(bank):,} proposals in {len(images):,} images",
        viewer("proposals", data, scored=True),
        f"Regions by the method {c.alpha.proposals}, without a label and before any training. "
        f"Those that score {score:g} or more are pasted over other images. They need not be "
        "right: the model learns to do better.",
        {"pictures": data, "threshold": min(score, 1.0), "low": max(0.0, min(low, score))},
    )
