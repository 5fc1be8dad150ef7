"""What makes a representation good: all measures of encoders on the same images, beside each
other."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from genseg.core.check import at_least
from genseg.core.files import write_text
from genseg.core.names import REPRESENTATION_NAME
from genseg.core.result import Result
from genseg.data.images.pixels import centre
from genseg.measure.features import fit_batch_norms, stage_features
from genseg.measure.representation.bootstrap import FEW_DRAWS, Estimate, bootstrap, resampled
from genseg.measure.representation.measured import Measured, measure_embeddings
from genseg.measure.representation.perturb import PERTURBATIONS, perturbed
from genseg.measure.representation.similarity import linear_cka
from genseg.nn.encoder import Encoder
from genseg.nn.encoder_file import EncoderFacts, encoder_file, facts_of
from genseg.nn.kept_reading import reads_as
from genseg.runs.folder import check_out
from genseg.workflows.evaluate.probe import FITTED, opened_encoder
from genseg.workflows.evaluate.representation_sets import MeasuredImages, Of, measured_images
from genseg.workflows.evaluate.representation_table import as_json, tables

IMAGES = 2000  # that are measured, unless more are asked for
PERTURBED, VIEWS = 1000, 2  # images that are perturbed, and how often by each perturbation
RANDOM = "random weights"


@dataclass(frozen=True)
class RepresentationScores(Result, Mapping[str, Mapping[str, Estimate]]):
    """Run -> measure -> value and standard error, of the encoder's output: such as
    `scores["runs/mine"]["effective_rank"].value`.

    layers: run -> its stages from the first to the output, the last alone unless all were asked for
    similarity: (run, run) -> linear CKA of their outputs
    lines: what was measured, and how
    """

    layers: Mapping[str, Mapping[str, Measured]]
    similarity: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    data: str = ""

    def __getitem__(self, run: str) -> Mapping[str, Estimate]:
        return list(self.layers[run].values())[-1].measures

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def numbers(self) -> dict[str, dict[str, float]]:
        """Run -> measure -> value, of the encoder's output."""
        return {run: {name: e.value for name, e in found.items()} for run, found in self.items()}

    def text(self) -> str:
        return "\n".join([*self.lines, "", *tables(self.layers, self.similarity)])


@reads_as("runs", alike=True)
def evaluate_representation(
    runs: Sequence[Path],
    data: str | Path,
    *,
    layers: bool = False,
    images: int = IMAGES,
    of: Of | None = None,
    baselines: bool = False,
    seed: int = 0,
    out: Path | None = None,
) -> RepresentationScores:
    """Measure the encoders of runs on the same images.

    data: class folders, images without classes, a list, a COCO json; `embedded` (single objects) or
        `embedded:scenes`, of which colour, position, size and count are known
    layers: measure after each stage of the encoder
    images: at most so many, drawn by `seed`; 0: all
    of: of a json: whether objects are cut out, or images are taken whole; None: objects where there
        are several categories
    baselines: add random weights of the first run's architecture, as they are and with batch norms
        fitted to the images
    out: a json of all numbers; None: into each run, as representation.json

    Raises ValueError for what a user can mend.
    """
    at_least(0, images=images, seed=seed)
    if not runs:
        raise ValueError("give a run directory or an encoder.safetensors to measure")
    if twice := [run for run in runs if list(runs).count(run) > 1]:
        raise ValueError(f"{twice[0]} is given twice; give it once")
    if out is not None:
        check_out(out)
    files = {str(run): encoder_file(run) for run in runs}
    facts = {name: facts_of(file) for name, file in files.items()}
    measured = measured_images(str(data), images=images, seed=seed, of=of)
    opened: dict[str, tuple[Callable[[], Encoder], EncoderFacts]] = {}
    first = next(iter(files))
    if baselines:
        opened = {
            RANDOM: (partial(opened_encoder, files[first], pretrained=False), facts[first]),
            FITTED: (partial(_fitted, files[first], facts[first], measured), facts[first]),
        }
    for name, file in files.items():
        opened[name] = (partial(opened_encoder, file, pretrained=True), facts[name])
    found, outputs = {}, {}
    for name, (make, known) in opened.items():
        try:
            found[name], outputs[name] = _measured(make(), known, measured, layers, seed)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    scores = RepresentationScores(
        found, _similarities(outputs, seed), _lines(str(data), measured, outputs), str(data)
    )
    if out is not None:
        write_text(out, json.dumps(as_json(scores.layers, scores.similarity, _head(scores))))
    else:
        _into_runs(runs, scores)
    return scores


def _into_runs(runs: Sequence[Path], scores: RepresentationScores) -> None:
    """A file into each run directory, with its own numbers after those of the baselines."""
    beside = {name: scores.layers[name] for name in (RANDOM, FITTED) if name in scores.layers}
    for run in runs:
        if run.is_dir():
            own = {**beside, run.absolute().name: scores.layers[str(run)]}
            write_text(run / REPRESENTATION_NAME, json.dumps(as_json(own, {}, _head(scores))))


def _head(scores: RepresentationScores) -> dict[str, Any]:
    return {"data": scores.data, "lines": list(scores.lines)}


def _fitted(file: Path, facts: EncoderFacts, measured: MeasuredImages) -> Encoder:
    encoder = opened_encoder(file, pretrained=False)
    view: dict[str, Any] = {"size": facts.size, "mean": facts.mean, "std": facts.std}
    fit_batch_norms(encoder, measured.source, measured.indices, **view)
    return encoder


def _measured(
    encoder: Encoder, facts: EncoderFacts, measured: MeasuredImages, layers: bool, seed: int
) -> tuple[dict[str, Measured], Float[Tensor, "n d"]]:
    """The measures of one encoder, by stage, and its output."""
    n = len(measured.indices)
    look: dict[str, Any] = {"mean": facts.mean, "std": facts.std}

    def whole(i: int) -> UInt8[np.ndarray, "size size c"]:
        return centre(measured.source.read(i)[0], facts.size)

    drawn = np.random.default_rng([seed, *b"viewed"]).permutation(n)
    viewed = sorted(drawn[: min(PERTURBED, (n + 1) // 2)].tolist())
    plain = stage_features(encoder, lambda i: whole(i)[None], measured.indices, **look)
    changed = stage_features(
        encoder,
        lambda i: perturbed(whole(i), i, count=VIEWS, seed=seed),
        [measured.indices[k] for k in viewed],
        **look,
    )
    stages = [*enumerate(zip(plain, changed, strict=True), start=1)]
    found = {}
    for number, (features, views) in stages if layers else stages[-1:]:
        parts = views.split(VIEWS, dim=1)
        found[f"stage {number}"] = measure_embeddings(
            features[:, 0],
            labels=measured.labels,
            factors=measured.factors,
            views=dict(zip(PERTURBATIONS, parts, strict=True)),
            viewed=torch.tensor(viewed),
            seed=seed,
        )
    return found, plain[-1][:, 0]


def _similarities(
    outputs: Mapping[str, Float[Tensor, "n _"]], seed: int
) -> dict[tuple[str, str], Estimate]:
    """Linear CKA of each two encoders."""
    found = {}
    for a, b in combinations(outputs, 2):
        x, y = outputs[a], outputs[b]
        most = max(resampled(x), resampled(y))
        cka = bootstrap(partial(_cka, x, y), len(x), draws=FEW_DRAWS, most=most, seed=seed)
        found[a, b] = cka["cka"]
    return found


def _cka(x: Tensor, y: Tensor, i: Int[Tensor, "n"]) -> dict[str, float]:
    return {"cka": linear_cka(x[i], y[i])}


def _lines(
    data: str, measured: MeasuredImages, outputs: Mapping[str, Float[Tensor, "n _"]]
) -> tuple[str, ...]:
    """What was measured, and what limits it."""
    n, said = len(measured.indices), [f"{data}: {measured.what}"]
    dimensions = max(x.shape[1] for x in outputs.values())
    if n <= 2 * dimensions:
        said.append(
            f"{n} images are few for {dimensions} dimensions: they limit ranks and LiDAR, and "
            "total correlation, which needs two images for each dimension, is left out"
        )
    return (*said, *measured.notes)
