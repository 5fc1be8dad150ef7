"""Zero-shot reading: which class name's word vector is nearest to what a semantic run makes of an
image, also for classes whose names training never saw."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genseg import config as configs
from genseg.core.names import CONFIG_NAME
from genseg.core.paths import expand
from genseg.core.result import Result
from genseg.core.schedule import Plan
from genseg.core.words import amount
from genseg.data.images.pixels import centre, normalise
from genseg.data.images.source import ImageSource
from genseg.data.labels.findings import format_findings
from genseg.data.labels.word_vectors import class_vectors, dimension
from genseg.measure.knn import Accuracy, accuracy
from genseg.methods import METHODS
from genseg.methods.semantic import SUPERVISED
from genseg.methods.target import BATCH, full_batches
from genseg.nn.encoder import Encoder
from genseg.nn.encoder_file import EncoderFacts, encoder_file, facts_of
from genseg.nn.kept_reading import reads_as
from genseg.runs import checkpoint
from genseg.workflows.evaluate.probe_sets import LabelledImages, labelled
from genseg.workflows.pretrain.config import CHOICES, PretrainConfig
from genseg.workflows.pretrain.parts import run_images


@dataclass(frozen=True)
class Nearest:
    """Images of some classes, read among the names of `names` classes."""

    images: int
    names: int
    accuracy: Accuracy


@dataclass(frozen=True)
class ZeroShot(Result, Mapping[str, Nearest]):
    """Which images, among which names -> how often the nearest name is right, in parts of 1.

    seen, unseen: the classes of the data whose names training has had, and the others
    """

    run: Path
    rows: Mapping[str, Nearest]
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Nearest:
        return self.rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def text(self) -> str:
        held = ", ".join(self.unseen) or "none"
        lines = [*self.notes, f"{self.run}: {SUPERVISED}; classes that training never saw: {held}"]
        width = max(map(len, self.rows))
        for name, row in self.rows.items():
            a, chance = row.accuracy, 100 / row.names
            lines.append(
                f"  {name:{width}s}  {amount(row.images, 'image'):>14s}  top-1 {100 * a.top1:5.1f} "
                f"%   balanced {100 * a.balanced:5.1f} %   by chance {chance:.1f} %"
            )
        return "\n".join(lines)


@reads_as("run")
def zero_shot(
    run: Path,
    data: str,
    *,
    words: str | None = None,
    names: Mapping[str, str] | None = None,
    classes: Sequence[str] = (),
    limit: int = 0,
) -> ZeroShot:
    """Read the images of a class folder, a list or the boxes of a COCO json by a semantic run.

    words: word vectors; None: the run's own file
    names: what classes are called, beside what the run's recipe says
    classes: further names that an image may be taken for
    limit: at most so many images, drawn by a fixed seed; 0: all

    Raises ValueError when the run was not trained on word vectors, when the data have fewer than
    two classes, or a class no word.
    """
    config = _semantic_config(run, words)
    target = config.method.target
    model, known = _load(run, config)
    images, findings = run_images(expand(data), crops=True)
    if len(images.classes) < 2:
        raise ValueError(
            f"{data} has {len(images.classes)} classes: give class folders, a list with classes, "
            "or a COCO json, of two classes or more"
        )
    among = sorted({*images.classes, *classes})
    called = {c: w for c, w in target.names.items() if c in among} | dict(names or {})
    vectors = torch.from_numpy(class_vectors(target.words, among, called)).float()
    asked = labelled(ImageSource(images, None), limit)
    made = _word_space(model, asked, facts_of(encoder_file(run)))
    truth = torch.tensor([among.index(images.classes[c]) for c in asked.labels.tolist()])
    seen = tuple(c for c in images.classes if c in known and c not in target.unseen)
    unseen = tuple(c for c in images.classes if c not in seen)
    return ZeroShot(
        run,
        _rows(made, vectors, truth, among, seen, unseen),
        seen,
        unseen,
        (format_findings(findings),) if findings else (),
    )


def _rows(
    made: Float[Tensor, "n d"],
    vectors: Float[Tensor, "k d"],
    truth: Int[Tensor, "n"],
    among: Sequence[str],
    seen: Sequence[str],
    unseen: Sequence[str],
) -> dict[str, Nearest]:
    groups = {
        "seen classes, among these": (seen, seen),
        "unseen classes, among these": (unseen, unseen),
        "unseen classes, among all": (unseen, among),
        "all classes, among all": ((*seen, *unseen), among),
    }
    rows = {}
    for name, (asked, allowed) in groups.items():
        places = torch.tensor([among.index(c) for c in allowed], dtype=torch.long)
        some = torch.isin(truth, torch.tensor([among.index(c) for c in asked], dtype=torch.long))
        if len(places) > 1 and some.any():
            found = places[nearest(made[some], vectors[places])]
            rows[name] = Nearest(int(some.sum()), len(places), accuracy(found, truth[some]))
    return rows


def nearest(made: Float[Tensor, "n d"], vectors: Float[Tensor, "k d"]) -> Int[Tensor, "n"]:
    """The vector, of length 1 each, at the smallest angle."""
    return (made @ vectors.T).argmax(1)


def _semantic_config(run: Path, words: str | None) -> PretrainConfig:
    file = run / CONFIG_NAME
    advice = "train one with --config byol_semantic method.target.words=FILE"
    if not file.is_file():
        raise ValueError(f"{run} is no run of genseg pretrain: there is no {file}; {advice}")
    config = configs.load(PretrainConfig, file=file, overrides=[], choices=CHOICES)
    if getattr(getattr(config.method, "target", None), "name", "") != "semantic":
        raise ValueError(f"{run} has not learnt to output word vectors; {advice}")
    if words is None:
        return config
    target = replace(config.method.target, words=words)
    return replace(config, method=replace(config.method, target=target))


def _load(run: Path, config: PretrainConfig) -> tuple[nn.Module, tuple[str, ...]]:
    """What maps images to word vectors, from the run's last checkpoint; and the run's classes."""
    saved = checkpoint.load_latest(run)
    if saved is None:
        raise ValueError(f"{run} has no checkpoint yet; let genseg pretrain go on")
    tensors, state = saved
    content = checkpoint.unflatten(tensors, state["structure"])["module"]
    start = "" if config.alpha.name == "none" else "method."
    parts = {name.removeprefix(start): x for name, x in content.items() if name.startswith(start)}
    width, own = dimension(config.method.target.words), parts["teacher.vectors"].shape[1]
    if width != own:
        raise ValueError(
            f"{config.method.target.words} has vectors of {width} numbers, and {run} was trained "
            f"on {own}: give the same file"
        )
    encoder = Encoder(replace(config.encoder, weights=None))
    byol = METHODS[config.method.name][0](encoder, config.method, Plan(1, 1, 1))
    model = nn.Sequential()
    for name in ("encoder", "head", "predictor"):
        part = byol.get_submodule(name)
        own_state = {
            k.removeprefix(f"{name}."): x for k, x in parts.items() if k.startswith(f"{name}.")
        }
        part.load_state_dict(own_state)
        model.append(part)
    return model.eval(), tuple(state["classes"])


@torch.no_grad()
def _word_space(
    model: nn.Module, asked: LabelledImages, facts: EncoderFacts
) -> Float[Tensor, "n d"]:
    """What the run makes of the centre views, on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    found = []
    indices = full_batches(asked.indices)  # a head that whitens wants many in each
    for first in range(0, len(indices), BATCH):
        part = indices[first : first + BATCH]
        pixels = np.stack([centre(asked.source.read(i)[0], facts.size) for i in part])
        x = normalise(torch.from_numpy(pixels).to(device), mean=facts.mean, std=facts.std)
        found.append(model(x).float().cpu())
    return torch.cat(found)[: len(asked.indices)]
