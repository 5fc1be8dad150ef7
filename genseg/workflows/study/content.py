"""What the cells of a study say together: the content of study.json."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from genseg.measure.paired import mean_and_spread, paired_difference
from genseg.measure.representation.similarity import linear_cka
from genseg.workflows.study.cells import Cell
from genseg.workflows.study.config import StudyConfig
from genseg.workflows.study.make import FEATURES, cost_of, values_of
from genseg.workflows.study.measures import SECONDS
from genseg.workflows.study.ranks import rank_correlations
from genseg.workflows.study.reach import reached
from genseg.workflows.study.statements import judge, parse_statement, verdict


def content_of(
    name: str,
    study: StudyConfig,
    cells: Sequence[Cell],
    settings: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Numbers of all cells that are there, and what follows from them; all of it is JSON."""
    rows = [row for cell in cells if (row := _row(cell, {m: dict(s) for m, s in settings.items()}))]
    content: dict[str, Any] = {
        "name": name,
        "claim": study.claim,
        "metric": study.metric,
        "arms": list(study.arms),
        "planned": len(cells),
        "cells": rows,
        "data": study.data,
    }
    values = by_arm(rows)
    statements = [judge(parse_statement(s), values, study.metric) for s in study.statements]
    content["statements"] = [
        {"text": j.text, "measure": j.measure, **as_json(j.difference), "verdict": j.word}
        for j in statements
    ]
    content["verdict"] = verdict([j.word for j in statements])
    content["differences"] = differences(list(study.arms), values, study.metric)
    if study.cka:
        content["cka"] = alike(cells)
    if study.correlate is not None:
        content["correlate"] = study.correlate
        content["correlations"] = [asdict(r) for r in rank_correlations(values, study.correlate)]
    if study.reach:
        content["reach"] = reached(study.reach, values, study.metric, SECONDS)
    return content


def _row(cell: Cell, settings: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The numbers of a cell; None where its encoder is not there."""
    cost = cost_of(cell)
    if cost is None:
        return None
    found = values_of(cell, settings)
    if cost["seconds"] is not None and cell.kind == "pretrain":
        found[SECONDS] = cost["seconds"]
    row = {"arm": cell.arm, "seed": cell.seed, "cell": cell.folder.name}
    return {**row, "images_seen": cost["images_seen"], "values": found}


def by_arm(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, dict[str, float]]]:
    """arm -> seed -> measure -> value. Raises KeyError, TypeError or ValueError for rows of another
    form."""
    values = dict[str, dict[int, dict[str, float]]]()
    for row in rows:
        known = {str(k): float(v) for k, v in row["values"].items() if math.isfinite(float(v))}
        values.setdefault(str(row["arm"]), {})[int(row["seed"])] = known
    return values


def column(
    values: Mapping[str, Mapping[int, Mapping[str, float]]], arm: str, measure: str
) -> dict[int, float]:
    """seed -> value, of the seeds that have one."""
    return {s: v[measure] for s, v in sorted(values.get(arm, {}).items()) if measure in v}


def differences(
    arms: Sequence[str], values: Mapping[str, Mapping[int, Mapping[str, float]]], metric: str
) -> list[dict[str, Any]]:
    """Each arm against the first one, in pairs of equal seeds; those without a pair are left
    out."""
    base, found = column(values, arms[0], metric), []
    for arm in arms[1:]:
        own = column(values, arm, metric)
        shared = sorted(own.keys() & base.keys())
        if shared:
            d = paired_difference([own[s] for s in shared], [base[s] for s in shared])
            found.append({"arm": arm, "base": arms[0], **as_json(d)})
    return found


def as_json(d: Any) -> dict[str, Any]:
    """A Difference: mean, standard error (null for fewer than two pairs), pairs, and whether it is
    clear."""
    return {
        "difference": d.mean if d.pairs else None,
        "error": d.error if d.pairs > 1 else None,
        "pairs": d.pairs,
        "clear": d.clear,
    }


def alike(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Linear CKA of each two arms, over the seeds that both have; of an arm with itself, between
    its seeds."""
    kept = dict[str, dict[int, torch.Tensor]]()
    for cell in cells:
        if (file := cell.folder / FEATURES).is_file():
            array = np.load(file, allow_pickle=False).astype(np.float32)
            kept.setdefault(cell.arm, {})[cell.seed] = torch.from_numpy(array)
    found, arms = [], list(kept)
    for n, one in enumerate(arms):
        for other in arms[n:]:
            pairs = [
                linear_cka(a, b)
                for s, a in kept[one].items()
                for t, b in kept[other].items()
                if (s < t if one == other else s == t) and len(a) == len(b)
            ]
            if pairs:
                mean, spread = mean_and_spread(pairs)
                deviation = None if math.isnan(spread) else spread
                row = {"arms": [one, other], "mean": mean, "deviation": deviation}
                found.append({**row, "pairs": len(pairs)})
    return found
