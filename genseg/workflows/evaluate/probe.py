"""Measure finished encoders by what simple classifiers make of their frozen features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genseg.core.result import Result
from genseg.data.images.pixels import centre
from genseg.data.images.uneven import notes_on
from genseg.data.labels.findings import format_findings
from genseg.measure.features import features, fit_batch_norms
from genseg.measure.knn import Accuracy, accuracy, knn
from genseg.measure.linear import draw_shots, few_shots, linear
from genseg.nn.encoder import Encoder, load_weights
from genseg.nn.encoder_file import encoder_file, facts_of
from genseg.nn.kept_reading import reads_as
from genseg.workflows.evaluate.probe_sets import LabelledImages, labelled_pair

FITTED = "random weights, batch norms fitted"
# of the training and of the test images
Features = tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]


@dataclass(frozen=True)
class Probed(Result):
    """Accuracies of classifiers on the features of encoders, in parts of 1.

    kind: a key of PROBES
    accuracies: of knn and linear: name of the features -> top-1, and balanced over classes
    draws: of fewshot: images of each class -> name of the features -> accuracy of each draw
    """

    kind: str
    train: int  # images
    test: int
    accuracies: Mapping[str, Accuracy] = field(default_factory=dict)
    draws: Mapping[int, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
    k: int = 20
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        lines = [*self.notes]
        if self.kind == "fewshot":
            for shots, scores in self.draws.items():
                lines += _few_shot_table(shots, scores)
            return "\n".join(lines)
        lines.append(PROBES[self.kind].format(k=self.k, test=self.test, train=self.train))
        width = max(map(len, self.accuracies))
        for name, a in self.accuracies.items():
            top1, balanced = f"{100 * a.top1:5.1f} %", f"{100 * a.balanced:5.1f} %"
            lines.append(f"  {name:{width}s}  top-1 {top1}   balanced {balanced}")
        return "\n".join(lines)


@reads_as("runs", alike=True)
def probe_encoders(
    runs: Sequence[Path],
    *,
    train: str,
    test: str,
    kind: str = "knn",
    limit: int = 0,
    k: int = 20,
    shots: Sequence[int] = (1, 5, 10),
    seeds: int = 5,
    margin: float = 0.1,
) -> Probed:
    """Measure the encoders of `runs`, beside random weights and raw pixels.

    kind: a key of PROBES; shots and seeds are of `fewshot`, k is of `knn`. The random weights are
    those of the first run's architecture, size and normalisation; as they are, and with batch norms
    fitted to the training images.
    """
    if kind not in PROBES:
        raise ValueError(f"--kind {kind}: choose one of {', '.join(PROBES)}")
    files = [encoder_file(run) for run in runs]
    known, asked = labelled_pair(train, test, limit=limit, margin=margin)
    if kind == "fewshot":
        # raises now, and not after all features, when a class has fewer
        draw_shots(known.labels, max(shots), 0)
    facts = [facts_of(file) for file in files]
    found: dict[str, Features] = {"raw pixels (16 x 16)": (raw_pixels(known), raw_pixels(asked))}
    found["random weights"] = _both(
        _embedding(files[0], pretrained=False, fitted=None), known, asked
    )
    found[FITTED] = _both(_embedding(files[0], pretrained=False, fitted=known), known, asked)
    for run, file, of_file in zip(runs, files, facts, strict=True):
        name = f"{run}: {of_file.method}, {of_file.images_seen} images seen"
        found[name] = _both(_embedding(file, pretrained=True, fitted=None), known, asked)
    notes = [
        f"{p}:\n{format_findings(i.findings)}"
        for p, i in ((train, known), (test, asked))
        if i.findings
    ]
    notes += [
        f"{p}: {more}" for p, i in ((train, known), (test, asked)) if (more := notes_on(i.files))
    ]
    counts: dict[str, Any] = {"train": len(known.indices), "test": len(asked.indices)}
    if kind == "fewshot":
        draws = {
            n: {
                name: tuple(few_shots(x, known.labels, z, asked.labels, shots=n, seeds=seeds))
                for name, (x, z) in found.items()
            }
            for n in shots
        }
        return Probed(kind, **counts, draws=draws, notes=tuple(notes))
    accuracies = {}
    for name, (x, z) in found.items():
        guess = knn(x, known.labels, z, k=k) if kind == "knn" else linear(x, known.labels, z)
        accuracies[name] = accuracy(guess, asked.labels)
    return Probed(kind, **counts, accuracies=accuracies, k=k, notes=tuple(notes))


PROBES = {  # the kinds of probes, and the first line of their tables
    "knn": "{k}-nearest neighbours: {test} images by {train}",
    "linear": "linear classifier on frozen features: {test} images by {train}",
    "fewshot": "linear classifier on {shots} image{s} of each class, balanced accuracy over "
    "{seeds} draws",
}


def _few_shot_table(shots: int, draws: Mapping[str, tuple[float, ...]]) -> list[str]:
    """A line for each encoder: mean and standard deviation over draws, which all encoders share,
    and of the differences to fitted random weights, draw by draw."""
    width = max(map(len, draws))
    scores = {name: 100 * np.asarray(s) for name, s in draws.items()}
    seeds = len(scores[FITTED])
    lines = [PROBES["fewshot"].format(shots=shots, s="" if shots == 1 else "s", seeds=seeds)]
    for name, s in scores.items():
        line = f"  {name:{width}s}  {s.mean():5.1f}{_spread(s)} %"
        d = s - scores[FITTED]
        gain = "" if name == FITTED else f"   over fitted random {d.mean():+5.1f}{_spread(d)}"
        lines.append(line + gain)
    return lines


def _spread(values: Float[np.ndarray, "n"]) -> str:
    """The standard deviation; of one draw there is none."""
    return f" ± {values.std(ddof=1):4.1f}" if len(values) > 1 else ""


def _both(
    embed: Callable[[LabelledImages], Float[Tensor, "_ d"]],
    known: LabelledImages,
    asked: LabelledImages,
) -> Features:
    return embed(known), embed(asked)


def _embedding(
    file: Path, *, pretrained: bool, fitted: LabelledImages | None
) -> Callable[[LabelledImages], Float[Tensor, "n d"]]:
    """The encoder of a file as a function of images; with random weights of seed 0 when not
    `pretrained`, with batch norms fitted to the images `fitted`."""
    facts, encoder = facts_of(file), opened_encoder(file, pretrained=pretrained)
    view: dict[str, Any] = {"size": facts.size, "mean": facts.mean, "std": facts.std}
    if fitted is not None:
        fit_batch_norms(encoder, fitted.source, fitted.indices, **view)
    return lambda images: features(encoder, images.source, images.indices, **view)


def opened_encoder(file: Path, *, pretrained: bool) -> Encoder:
    """The encoder of a file, on the GPU where there is one; with random weights of seed 0 when not
    `pretrained`."""
    torch.manual_seed(0)
    encoder = Encoder(facts_of(file).encoder)
    if pretrained:
        load_weights(encoder, file)
    return encoder.to("cuda" if torch.cuda.is_available() else "cpu")


def raw_pixels(images: LabelledImages) -> Float[Tensor, "n d"]:
    """Pixels of the images at 16 x 16, mean removed: what needs no network."""
    x = np.stack([centre(images.source.read(i)[0], 16).reshape(-1) for i in images.indices]).astype(
        np.float32
    )
    return torch.from_numpy(x - x.mean(1, keepdims=True))
