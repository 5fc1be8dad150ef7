"""Scores that are probabilities: a model is tried on composites, which know their instances."""

from dataclasses import replace

import numpy as np

from genseg.alpha.calibration import Calibration
from genseg.alpha.model import AlphaModel
from genseg.alpha.platt import fit_calibration
from genseg.data.composites.composer import Composer
from genseg.data.instances.instance import cut_instance
from genseg.measure.overlaps import mask_overlap, match
from genseg.workflows.generate.finder import Finder

JUDGED = 64  # composites on which scores are calibrated
UNSEEN = 2**31  # epochs from here on are those of no training: their composites are new
RIGHT = 0.5  # overlap from which on an instance is right
FAINT = 0.05  # least score of an instance that is judged


def calibrated(model: AlphaModel, composer: Composer, composites: int = JUDGED) -> Calibration:
    """How often the model's instances of a score are right, whatever its calibration is now; of the
    scores that its `rank` gives, where it has one."""
    look, config, before = model.look, model.config, model.calibration
    # composites are made as images are prepared
    model.look = replace(look, side=0, stretch=False)
    model.config = replace(config, score=FAINT, candidate=FAINT)
    model.calibration = Calibration()
    try:
        return calibration_on(model, composer, composites)
    finally:
        model.look, model.config, model.calibration = look, config, before


def calibration_on(model: Finder, composer: Composer, composites: int) -> Calibration:
    """How often instances of a score are right, in composites that training has not seen."""
    scores, right = list[float](), list[bool]()
    hosts = np.random.default_rng(0).integers(len(composer.source), size=composites).tolist()
    for n, host in enumerate(hosts):
        made = composer([(UNSEEN + n, host)])
        layers = [a for a in (cut_instance(v) for v in made.visible.numpy()) if a is not None]
        found = model.instances(made.image[0].numpy())
        overlap = mask_overlap(found, layers, np.zeros(len(layers), bool))
        hit, ignored = {k for k, _ in match(overlap, RIGHT)}, made.ignored[0].numpy()
        for k, a in enumerate(found):
            if k in hit or ignored[a.window][a.mask].mean() < 0.5:
                scores.append(a.score)
                right.append(k in hit)
    return fit_calibration(np.array(scores, float), np.array(right, bool))
