"""How much more training an arm needs to be as good as another one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def reached(
    arms: Sequence[str],
    values: Mapping[str, Mapping[int, Mapping[str, float]]],
    metric: str,
    cost: str,
) -> dict[str, Any] | None:
    """Where `metric` = a + b log2(cost), fitted by least squares to all cells of all arms but the
    last, meets the mean of the last one.

    It is a straight line through few points, and is continued beyond them: a guess at best. times:
    that cost over the last arm's; null where the line does not rise. None with fewer than two costs
    to fit, or without the last arm.
    """
    *fitted, last = arms
    points = [
        (math.log2(v[cost]), v[metric])
        for arm in fitted
        for v in values.get(arm, {}).values()
        if metric in v and v.get(cost, 0) > 0
    ]
    aims = [v for v in values.get(last, {}).values() if metric in v and v.get(cost, 0) > 0]
    if not aims or len({x for x, _ in points}) < 2:
        return None
    x, y = np.array(points).T
    slope, offset = np.polyfit(x, y, 1)
    level = math.fsum(v[metric] for v in aims) / len(aims)
    spent = math.fsum(v[cost] for v in aims) / len(aims)
    needed = (level - offset) / slope if slope > 0 else math.inf
    known = math.isfinite(needed) and needed < 1000
    return {
        "arms": list(fitted),
        "aim": last,
        "level": level,
        "for_each_doubling": float(slope),
        "times": float(2.0**needed / spent) if known else None,
        "beyond": bool(known and needed > float(x.max())),
    }
