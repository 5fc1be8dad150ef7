"""What a run with the alpha task starts from: its proposals, before its model has found
anything."""

import numpy as np

from genseg.core.names import BANKS
from genseg.data.composites.bank import load_bank
from genseg.reports.pictures import within_budget
from genseg.reports.run import SHOWN, Run, chosen
from genseg.reports.training_pictures import Shrunk
from genseg.show.page import Section
from genseg.show.viewer import Picture, viewer


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
