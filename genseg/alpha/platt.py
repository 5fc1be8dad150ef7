"""A calibration that is learnt where it is known which instances are right."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from sklearn.linear_model import LogisticRegression

from genseg.alpha.calibration import Calibration, logit, sigmoid

LEAST = 20  # instances, without which nothing is learnt
# a slope at the least: where scores say nothing, all are about as likely as instances are in the
# mean
FLAT = 0.1


def fit_calibration(scores: Float[np.ndarray, "n"], right: Bool[np.ndarray, "n"]) -> Calibration:
    """The likeliest calibration, with Platt's targets: (r + 1) / (r + 2) for each of r right ones,
    1 / (w + 2) for each of w wrong ones, so that it is finite where a score parts them. Of fewer
    than LEAST instances nothing is learnt.
    """
    r, w = int(right.sum()), int((~right).sum())
    if r + w < LEAST:
        return Calibration()
    x = np.array([logit(s) for s in np.clip(scores, 1e-6, 1 - 1e-6).tolist()])[:, None]
    target = np.where(right, (r + 1) / (r + 2), 1 / (w + 2))
    both = LogisticRegression(C=np.inf).fit(
        np.concatenate([x, x]), np.repeat([1, 0], len(x)), np.concatenate([target, 1 - target])
    )
    slope, offset = float(both.coef_[0, 0]), float(both.intercept_[0])
    if slope >= FLAT:
        return Calibration(slope, offset)
    offset = brentq(
        lambda o: np.mean([sigmoid(FLAT * v + o) for v in x[:, 0]]) - target.mean(), -30, 30
    )
    return Calibration(FLAT, offset)
