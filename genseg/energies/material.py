"""What an energy is trained on: composites that its decoder has not seen, their pixel embeddings
and true maps, and what the decoder finds in them itself. Made once, and kept in the user's cache.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float16, Int, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from genseg.alpha.codes import STRIDE
from genseg.alpha.decoder import AlphaDecoder
from genseg.alpha.generate import candidates
from genseg.alpha.kept import GenerateConfig
from genseg.alpha.model import AlphaModel
from genseg.alpha.tiles import iou
from genseg.core.words import amount
from genseg.data.composites.compose import Composites
from genseg.data.composites.composer import Composer
from genseg.data.images.cache import cache_folder
from genseg.data.instances.instance import OPAQUE, Instance
from genseg.energies.draws import Draws
from genseg.energies.judge import Scene
from genseg.energies.maps import Maps, nearest
from genseg.energies.shaping import Examples, Judged
from genseg.nn.weights import save_weights

VERSION = 2  # of the material: other numbers come out of other code
UNSEEN = 2**31 + 2**30  # epochs from here on are those of no training and no calibration
BATCH = 16  # composites that the encoder sees at once
SMALLEST = 4.0  # pixels of a map, at the stride of the embeddings
# the decoder's own instances: fainter ones than are ranked, too, and doubles, to learn from
OWN = GenerateConfig(candidate=0.05, score=0.05, min_area=1)
Progress = Callable[[range, str], Iterable[int]]
PAIRS = 64  # composites of which every two share cut-outs
SHARED = 3  # cut-outs that two composites share, where they are to
DOUBLES = 0.8  # overlap from which on two of them are one


@dataclass(frozen=True)
class Material:
    """Embeddings and maps of images; the maps of an image follow one another, image after image.

    source: which cut-out of the bank a true map is of
    score: that the decoder gives its own instance; overlap: of that with the nearest true map;
    nearest: which true map that is
    """

    embeddings: Float16[Tensor, "b e h w"]
    alpha: UInt8[Tensor, "n h w"]
    image: Int[Tensor, "n"]
    source: Int[Tensor, "n"]
    own: UInt8[Tensor, "m h w"]
    own_image: Int[Tensor, "m"]
    score: Float[Tensor, "m"]
    overlap: Float[Tensor, "m"]
    nearest: Int[Tensor, "m"]

    def __len__(self) -> int:
        return len(self.embeddings)

    def examples(
        self, chosen: Sequence[int], draws: Draws, progress: float, *, maps: int, own: int
    ) -> Examples:
        """What a step sees of some images: at most so many true maps, and own instances, of each,
        drawn anew."""
        true, image = self._rows(self.image, chosen)
        mine, own_image = self._rows(self.own_image, chosen)
        truth = Maps(self.alpha[true].float() / OPAQUE, image)
        place = torch.zeros(len(self.image), dtype=torch.long)
        place[true] = torch.arange(len(true))
        some = drawn_of_each(image, maps, draws)
        few = drawn_of_each(own_image, own, draws)
        mine = mine[few]
        found = Maps(self.own[mine].float() / OPAQUE, own_image[few])
        which = place[self.nearest[mine]] if len(self.image) else self.nearest[mine]
        judged = Judged(found, self.overlap[mine], which)
        pixels = self.embeddings[torch.tensor(list(chosen))].float()
        return Examples(pixels, truth[some], judged, draws, progress, known=truth)

    def scene(self, i: int, device: torch.device) -> Scene:
        """The i-th image, as it is judged, on a device."""
        mine = self.image == i
        alpha = self.alpha[mine].to(device).float() / OPAQUE
        return Scene(self.embeddings[i].to(device).float(), alpha, self.source[mine].to(device))

    def part(self, first: int, last: int) -> "Material":
        """Some images that follow one another."""
        rows, mine = (
            ((of >= first) & (of < last)).nonzero()[:, 0] for of in (self.image, self.own_image)
        )
        start = int(rows[0]) if len(rows) else 0
        return Material(
            self.embeddings[first:last],
            self.alpha[rows],
            self.image[rows] - first,
            self.source[rows],
            self.own[mine],
            self.own_image[mine] - first,
            self.score[mine],
            self.overlap[mine],
            self.nearest[mine] - start,
        )

    @staticmethod
    def _rows(
        of: Int[Tensor, "n"], chosen: Sequence[int]
    ) -> tuple[Int[Tensor, "k"], Int[Tensor, "k"]]:
        """The rows of some images, in their order, and which of the chosen each is of."""
        wanted = torch.tensor(list(chosen))
        first = torch.searchsorted(of, wanted)
        last = torch.searchsorted(of, wanted, right=True)
        rows = [torch.arange(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
        number = torch.repeat_interleave(torch.arange(len(wanted)), last - first)
        return torch.cat([torch.zeros(0, dtype=torch.long), *rows]), number


def drawn_of_each(image: Int[Tensor, "n"], most: int, draws: Draws) -> Int[Tensor, "k"]:
    """Rows, in their order: at most so many of each image, drawn at random."""
    chance = draws.uniform(image)
    order = torch.argsort(image.double() + chance.double())
    first = torch.searchsorted(image, image)  # the rows of an image follow one another
    kept = order[torch.arange(len(image), device=image.device) - first < most]
    return kept.sort().values


def material(
    model: AlphaModel,
    composer: Composer,
    images: int,
    count: int,
    *,
    key: str,
    seed: int,
    progress: Progress,
) -> Material:
    """So many composites over `images` images, as the model sees them.

    key: by which they are kept in the user's cache, for the next run
    progress: shows how far the work is
    """
    kept = cache_folder() / "energy" / f"{key}-{count}-{seed}-{VERSION}.safetensors"
    with contextlib.suppress(SafetensorError, ValueError, KeyError, OSError, TypeError):
        return _read(kept)
    made = composed(model, composer, images, count, seed=seed, progress=progress)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError, RuntimeError):  # a full disk costs time, and nothing else
        save_weights(vars(made), kept, {})
    return made


def _read(file: Path) -> Material:
    return Material(**load_file(file))


def composed(
    model: AlphaModel,
    composer: Composer,
    images: int,
    count: int,
    *,
    seed: int,
    progress: Progress = lambda work, what: work,
) -> Material:
    """The same, made anew."""
    rng = np.random.default_rng([seed, *b"hosts"])
    hosts = rng.integers(images, size=count).tolist()
    parts = []
    for first in progress(range(0, count, BATCH), f"embeddings of {amount(count, 'composite')}"):
        keys = [(UNSEEN + n, hosts[n]) for n in range(first, min(first + BATCH, count))]
        parts.append(embedded(model, composer(keys)))
    return joined(parts)


@torch.no_grad()
def embedded(model: AlphaModel, composites: Composites) -> Material:
    """The pixel embeddings of composites, their true maps, and the decoder's own instances."""
    decoder = model.decoder
    assert isinstance(decoder, AlphaDecoder)
    embeddings, places, classes = model.proposed(list(composites.image.numpy()))
    truth, large = shrunk_maps(composites.visible, composites.owner)
    h, w = embeddings.shape[2:]
    maps, image, score = list[Tensor](), list[int](), list[float]()
    for i, found in enumerate(candidates(decoder, embeddings.float(), places, OWN, classes)):
        ignored = F.avg_pool2d(composites.ignored[i][None, None].float(), STRIDE)[0, 0] > 0.5
        for a in distinct(found):
            whole = torch.from_numpy(a.paint(h, w))
            mask = whole >= (OPAQUE + 1) // 2
            if bool(mask.any()) and float(ignored[mask].float().mean()) < 0.5:
                maps.append(whole)
                image.append(i)
                score.append(a.score)
    own = torch.stack(maps) if maps else torch.zeros(0, h, w, dtype=torch.uint8)
    owner = torch.tensor(image, dtype=torch.long)
    overlap, which = nearest(Maps(own.float() / OPAQUE, owner), truth)
    return Material(
        embeddings.half().cpu(),
        (truth.alpha * OPAQUE).round().byte(),
        truth.image,
        composites.source[large],
        own,
        owner,
        torch.tensor(score),
        overlap,
        which,
    )


def shrunk_maps(
    visible: UInt8[Tensor, "n h w"], image: Int[Tensor, "n"]
) -> tuple[Maps, Bool[Tensor, "n"]]:
    """Alphas at the stride of the embeddings, and which they are: those that are nothing there are
    left out."""
    alpha = F.avg_pool2d(visible[:, None].float() / OPAQUE, STRIDE)[:, 0]
    large = alpha.sum((1, 2)) >= SMALLEST
    return Maps(alpha[large], image[large]), large


def paired(composer: Composer) -> Composer:
    """The same composites, but every two show some cut-outs alike, at other places."""
    alike = replace(composer.config, shared=SHARED, rotate=0.0, turn=False, zoom=(1.0, 1.0))
    return Composer(composer.source, composer.bank, alike, share=1.0, seed=composer.seed)


def distinct(found: Sequence[Instance]) -> list[Instance]:
    """Instances without those that are nearly the same as a better one."""
    kept = list[tuple[Instance, int]]()
    for a in found:
        area = a.area
        # what differs more than that in size overlaps less
        near = (b for b, other in kept if DOUBLES * max(area, other) <= min(area, other))
        if all(iou(a, b) < DOUBLES for b in near):
            kept.append((a, area))
    return [a for a, _ in kept]


def joined(parts: Sequence[Material]) -> Material:
    """Several as one."""
    images = np.cumsum([0, *(len(p) for p in parts)]).tolist()
    rows = np.cumsum([0, *(len(p.image) for p in parts)]).tolist()
    return Material(
        torch.cat([p.embeddings for p in parts]),
        torch.cat([p.alpha for p in parts]),
        torch.cat([p.image + n for p, n in zip(parts, images, strict=False)]),
        torch.cat([p.source for p in parts]),
        torch.cat([p.own for p in parts]),
        torch.cat([p.own_image + n for p, n in zip(parts, images, strict=False)]),
        torch.cat([p.score for p in parts]),
        torch.cat([p.overlap for p in parts]),
        torch.cat([p.nearest + n for p, n in zip(parts, rows, strict=False)]),
    )
