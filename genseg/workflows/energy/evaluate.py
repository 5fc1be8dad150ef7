"""What energies are worth on labelled images: do they tell the labels' maps from corrupted ones, do
they rank the decoder's own instances?"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genseg.alpha.generate import candidates
from genseg.core.check import at_least, between
from genseg.core.files import write_text
from genseg.core.result import Result
from genseg.core.threads import in_order, several_at_once
from genseg.data.images.source import decode
from genseg.data.instances.coco import AnnotatedImage
from genseg.data.instances.instance import Instance, cut_instance, resized
from genseg.data.labels.annotated import Usable, read_usable
from genseg.energies.autoencoder import Autoencoder
from genseg.energies.corrupt import KINDS
from genseg.energies.finish import rank_correlation
from genseg.energies.judge import Judgement, Scene, judge
from genseg.energies.maps import Maps, nearest
from genseg.energies.material import OWN, distinct, shrunk_maps
from genseg.energies.model import EnergyFacts, digest, load_energy
from genseg.energies.use import Ranker, Ranking
from genseg.nn.kept_reading import reads_as
from genseg.runs.folder import check_out
from genseg.workflows.energy.decoders import DecoderRun, decoder_run
from genseg.workflows.generate.finder import energy_file

SIDE = 256  # pixels of the window of an image that is looked at
ALL = "all"


@dataclass(frozen=True)
class Labelled:
    """A window of a labelled image: its embeddings and the labels' maps, and what the decoder finds
    there, with the overlap of each with a label."""

    scene: Scene
    kind: str
    own: tuple[Instance, ...]
    overlap: np.ndarray


@dataclass(frozen=True)
class Scored:
    """An energy on some images. spearman: rank correlation of the overlap of the decoder's own
    instances with its score, with the energy's R and d (higher is better: of -E), and with the
    ranking."""

    judgement: Judgement
    own: int
    spearman: dict[str, float]


@dataclass(frozen=True)
class EnergyScores(Result, Mapping[str, Mapping[str, Scored]]):
    """Energy -> group of images -> numbers."""

    energies: dict[str, dict[str, Scored]]
    head: tuple[str, ...]

    def __getitem__(self, name: str) -> Mapping[str, Scored]:
        return self.energies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.energies)

    def __len__(self) -> int:
        return len(self.energies)

    def text(self) -> str:
        lines = list(self.head)
        columns = [kind[:9] for kind in KINDS]
        for group in next(iter(self.energies.values()), {}):
            lines += ["", f"{group} images: AUROC of true maps against corrupted ones"]
            lines.append(f"{'':24s}{'mean':>8s}" + "".join(f"{c:>10s}" for c in columns))
            for name, groups in self.energies.items():
                j = groups[group].judgement
                values = "".join(f"{j.separation[kind]:10.3f}" for kind in KINDS)
                lines.append(f"{name[-24:]:24s}{j.mean_separation:8.3f}{values}")
            lines.append(
                f"{'':24s}{'reconst':>8s}{'copy':>10s}{'ignore':>10s}{'own maps':>10s}"
                f"{'by score':>10s}{'by E':>10s}{'ranked':>10s}"
            )
            for name, groups in self.energies.items():
                s = groups[group]
                j, r = s.judgement, s.spearman
                lines.append(
                    f"{name[-24:]:24s}{j.reconstruction:8.3f}{j.copy:10.3f}{j.ignore:10.3f}"
                    f"{s.own:10d}{r['score']:10.3f}{r['energy']:10.3f}{r['ranked']:10.3f}"
                )
        return "\n".join(lines)

    def numbers(self) -> dict[str, Any]:
        """All of it as JSON takes it."""
        return {
            name: {
                group: {
                    **{k: v for k, v in vars(s.judgement).items()},
                    "own": s.own,
                    "spearman": s.spearman,
                }
                for group, s in groups.items()
            }
            for name, groups in self.energies.items()
        }


def evaluate_energies(
    energies: Sequence[Path],
    alpha: Path,
    data: Path,
    *,
    images: int = 0,
    overlap: tuple[float, float] = (0.3, 0.6),
    out: Path | None = None,
) -> EnergyScores:
    """Judge energies by the labels of a COCO json, which none has seen.

    energies: runs of genseg energy for the decoder of the run `alpha`
    images: at most so many of the json, drawn at random; 0: all
    overlap: of corrupted maps with the labels' own, where their kind has a strength

    Raises ValueError for what a user can mend.
    """
    between(0, 1, least=overlap[0], most=overlap[1])
    if out is not None:
        check_out(out)
    looked = look_at_labels(alpha, data, images=images, energies=energies)
    scores = looked.scores(energies, overlap=overlap)
    if out is not None:
        content = {"data": str(data), "energies": _known(scores.numbers())}
        write_text(out, json.dumps(content, indent=1, allow_nan=False))
    return scores


def _known(x: Any) -> Any:
    """Numbers as JSON has them: null for what is not known."""
    if isinstance(x, dict):
        return {name: _known(value) for name, value in x.items()}
    return None if isinstance(x, float) and not math.isfinite(x) else x


@dataclass(frozen=True)
class Looked:
    """Labelled images as the decoder of a run sees them, by which energies are judged as often as
    is wished. file: the decoder's weights"""

    file: Path
    device: torch.device
    data: Path
    images: tuple[Labelled, ...]

    def scores(self, energies: Sequence[Path], *, overlap: tuple[float, float]) -> EnergyScores:
        """What energies are worth here; overlap: as for `evaluate_energies`. Raises ValueError for
        one of another decoder."""
        loaded = {str(one): _loaded(one, self.file) for one in energies}
        for energy, _ in loaded.values():
            energy.to(self.device)
        groups = {ALL: self.images}
        kinds = sorted({one.kind for one in self.images if one.kind})
        if len(kinds) > 1:
            groups |= {k: tuple(one for one in self.images if one.kind == k) for k in kinds}
        found = {
            name: {
                group: _scored(energy, Ranker(energy, facts.ranking, facts.use), some, overlap)
                for group, some in groups.items()
            }
            for name, (energy, facts) in loaded.items()
        }
        maps = sum(len(one.scene.alpha) for one in self.images)
        head = (
            f"{self.data}: {len(self.images)} images, {maps} labels in windows of {SIDE} pixels; "
            f"corrupted maps overlap theirs by {overlap[0]:g} to {overlap[1]:g} where their kind "
            "has a strength",
        )
        return EnergyScores(found, head)


def _loaded(run: Path, decoder: Path) -> tuple[Autoencoder, EnergyFacts]:
    """The energy of a run. Raises ValueError for one of another decoder."""
    path = energy_file(run)
    energy, facts = load_energy(path)
    if facts.alpha != digest(decoder):
        raise ValueError(
            f"{path} was trained for another alpha decoder than {decoder}: give its own run as "
            "--alpha"
        )
    return energy, facts


@reads_as("alpha")
def look_at_labels(
    alpha: Path, data: Path, *, images: int = 0, energies: Sequence[Path] = ()
) -> Looked:
    """The images of a COCO json as the decoder of the run `alpha` sees them; images: as for
    `evaluate_energies`; energies: those of another decoder are refused before. Raises ValueError
    for what a user can mend."""
    at_least(0, images=images)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = decoder_run(alpha, device)
    for one in energies:
        _loaded(one, run.file)
    return Looked(run.file, device, data, tuple(_looked(run, read_usable(data), images)))


def _looked(run: DecoderRun, usable: Usable, most: int) -> list[Labelled]:
    """Some of the labelled images as the model sees them."""
    listed = list(zip(usable.entries.values(), usable.images(), strict=True))
    drawn = np.random.default_rng(0).permutation(len(listed))[: most or None]
    some = [listed[i] for i in sorted(drawn.tolist())]

    def look(one: tuple[Any, AnnotatedImage]) -> Labelled:
        entry, image = one
        kind = str(entry.record.get("kind", ""))
        return _window(run, decode(entry.path, image=entry.page), image, kind)

    with several_at_once(run.model.device) as pool:
        return [one for one in in_order(pool, look, some) if len(one.scene.alpha)]


@torch.no_grad()
def _window(run: DecoderRun, pixels: np.ndarray, image: AnnotatedImage, kind: str) -> Labelled:
    """The middle window of an image, with its labels."""
    small, whole, model = run.prepared(pixels), pixels.shape[:2], run.model
    h, w = small.shape[:2]
    top, left = max(0, h - SIDE) // 2, max(0, w - SIDE) // 2
    part = np.ascontiguousarray(small[top : top + SIDE, left : left + SIDE])
    embeddings, places, classes = model.proposed([part])
    embeddings = embeddings.float()
    rows, columns = 2 * embeddings.shape[2], 2 * embeddings.shape[3]
    canvases = []
    for a, crowd in zip(image.instances, image.crowd, strict=True):
        if crowd:
            continue
        fitted = a if (h, w) == whole else resized(a, whole, (h, w))
        if fitted is None:
            continue
        canvas = np.zeros((rows, columns), np.uint8)
        seen = fitted.paint(h, w)[top : top + SIDE, left : left + SIDE]
        canvas[: seen.shape[0], : seen.shape[1]] = seen
        canvases.append(canvas)
    stacked = np.stack(canvases) if canvases else np.zeros((0, rows, columns), np.uint8)
    truth, _ = shrunk_maps(
        torch.from_numpy(stacked).to(model.device),
        torch.zeros(len(stacked), dtype=torch.long, device=model.device),
    )
    (found,) = candidates(run.decoder, embeddings, places, OWN, classes)
    own = [a for a in distinct(found) if cut_instance(a.alpha) is not None]
    size = embeddings.shape[2:]
    maps = [torch.from_numpy(a.paint(int(size[0]), int(size[1]))).float() / 255 for a in own]
    alpha = torch.stack(maps) if maps else torch.zeros(0, *size)
    numbers = torch.zeros(len(alpha), dtype=torch.long)
    overlap, _ = nearest(Maps(alpha, numbers), Maps(truth.alpha.cpu(), truth.image.cpu()))
    scene = Scene(embeddings[0], truth.alpha)
    return Labelled(scene, kind, tuple(own), overlap.double().numpy())


def _scored(
    energy: Autoencoder, ranker: Ranker, some: Sequence[Labelled], overlap: tuple[float, float]
) -> Scored:
    judgement = judge(energy, [one.scene for one in some], overlap=overlap)
    plain = Ranker(energy, Ranking(), ranker.config)
    score, worth, energies, ranked = (list[np.ndarray]() for _ in range(4))
    for one in some:
        known = plain.evidence(one.scene.embeddings, one.own)
        tau, offset, weight = (
            float(x.detach()) for x in (energy.tau, energy.offset, energy.weight)
        )
        score.append(known.score)
        worth.append(one.overlap)
        energies.append(-(tau * (known.distance - offset) + weight * known.cost))
        ranked.append(ranker.ranking.expected(known))
    joined = [np.concatenate(x) if x else np.zeros(0) for x in (score, energies, ranked)]
    truth = np.concatenate(worth) if worth else np.zeros(0)
    names = ("score", "energy", "ranked")
    return Scored(
        judgement,
        len(truth),
        {name: rank_correlation(x, truth) for name, x in zip(names, joined, strict=True)},
    )
