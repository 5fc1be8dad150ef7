"""What the report of an energy looks at: composites that nothing was trained on, true maps of them
with what they are not, and the decoder's own instances."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from genseg.alpha.codes import STRIDE, Codes
from genseg.core.names import ENERGY_NAME
from genseg.core.paths import expand
from genseg.data.composites.composer import Composer
from genseg.data.instances.instance import OPAQUE
from genseg.energies.autoencoder import Autoencoder
from genseg.energies.corrupt import Kind, corrupted, geometry_of, moved
from genseg.energies.draws import Draws
from genseg.energies.judge import Scene
from genseg.energies.maps import Maps, soft_overlap
from genseg.energies.material import UNSEEN, Material, embedded
from genseg.energies.model import digest, load_energy
from genseg.reports.run import Run, chosen
from genseg.show.brightness import brightened, display_gain
from genseg.show.draw import close_up, square_around
from genseg.workflows.energy.decoders import composer_of, decoder_run

LATER = 2**20  # composites after the first unseen one: those before are trained on, or judged
COMPOSITES, FEWEST = 16, 4  # composites that are looked at
PIXELS = COMPOSITES * 128**2  # of all of them, about: seconds
OWN = 160  # of the decoder's own instances that are looked at
SIDE = 160  # pixels of a picture
SHOWN = 4  # images whose maps are shown
KINDS: tuple[Kind, ...] = ("shift", "dilate", "erode", "cut", "noise", "union")
LEFT = 0.5  # overlap of a corrupted map with the true one
TRUE, WORST = "true map", "own, worst"
NEAR = 0.05  # least overlap of an own instance that is shown beside a true map
DRAWN = 0.6  # of a true map with what its code draws, from where on a walk may begin or end there
LEAST = 32  # pixels of an image in a picture, at least
STEPS = 3  # of a descent
WALK = 5  # codes from one instance to another
SHIFTS = 17  # along a side of a landscape
REACH = 1.0  # sides by which its maps are moved at most


@dataclass(frozen=True)
class Subject:
    """A true map of a composite, and the decoder's own instance that is nearest to it and overlaps
    it least; None where there is none."""

    image: int
    row: int
    own: int | None


@dataclass(frozen=True)
class Drawn:
    """A map, its energy, and its overlap with the true one."""

    name: str
    alpha: Float[Tensor, "h w"]
    energy: float
    overlap: float


@dataclass(frozen=True)
class Looked:
    """Composites as the decoder and an energy see them. decodes: its codes are trained to draw"""

    energy: Autoencoder
    decodes: bool
    pixels: UInt8[np.ndarray, "b h w 3"]
    material: Material

    def scene(self, image: int) -> Scene:
        return self.material.scene(image, torch.device("cpu"))

    def rows(self, image: int) -> list[int]:
        """The true maps of an image."""
        return (self.material.image == image).nonzero()[:, 0].tolist()

    def subjects(self, count: int) -> list[Subject]:
        """True maps to be shown, one of each image: that of the worst of its own instances, or else
        the one of middle size."""
        m, found = self.material, list[Subject]()
        for image in range(len(m)):
            mine = ((m.own_image == image) & (m.overlap >= NEAR)).nonzero()[:, 0]
            rows = self.rows(image)
            if len(mine):
                worst = int(mine[m.overlap[mine].argmin()])
                found.append(Subject(image, int(m.nearest[worst]), worst))
            elif rows:
                by_size = sorted(rows, key=lambda row: int(m.alpha[row].sum()))
                found.append(Subject(image, by_size[len(rows) // 2], None))
        # those with an own instance first
        return sorted(found, key=lambda s: s.own is None)[:count]

    def true(self, subject: Subject) -> Float[Tensor, "h w"]:
        return self.material.alpha[subject.row].float() / OPAQUE

    def measured(
        self, image: int, alpha: Float[Tensor, "n h w"], truth: Float[Tensor, "h w"]
    ) -> tuple[list[float], list[float]]:
        """E of maps of an image, and their overlap with a true one."""
        energies = energies_of(self.energy, self.scene(image).embeddings, alpha)
        return energies.tolist(), soft_overlap(alpha, truth.expand_as(alpha)).tolist()

    def drawn(
        self,
        image: int,
        truth: Float[Tensor, "h w"],
        names: Sequence[str],
        alpha: Float[Tensor, "n h w"],
    ) -> list[Drawn]:
        """Maps of an image with their names and energies."""
        measured = self.measured(image, alpha, truth)
        return [Drawn(*each) for each in zip(names, alpha, *measured, strict=True)]

    @functools.cached_property
    def shown(self) -> list[tuple[Subject, list[Drawn]]]:
        """Some subjects with their true map, corrupted ones, and the decoder's own."""
        return [(s, self._others(s)) for s in self.subjects(SHOWN)]

    def _others(self, s: Subject) -> list[Drawn]:
        truth, names = self.true(s), [TRUE, *KINDS]
        alpha = torch.cat([truth[None], self.corrupted(s, KINDS, LEFT)])
        if s.own is not None:
            names.append(WORST)
            alpha = torch.cat([alpha, self.material.own[s.own][None].float() / OPAQUE])
        return self.drawn(s.image, truth, names, alpha)

    @functools.cached_property
    def own(self) -> list[tuple[int, float]]:
        """Some of the decoder's own instances, drawn at random, and their energies, the lowest
        first."""
        m, found = self.material, list[tuple[int, float]]()
        some = torch.tensor(chosen(len(m.own), OWN), dtype=torch.long)
        for image in range(len(m)):
            mine = some[m.own_image[some] == image]
            alpha, pixels = m.own[mine].float() / OPAQUE, self.scene(image).embeddings
            if len(mine):
                found += zip(
                    mine.tolist(), energies_of(self.energy, pixels, alpha).tolist(), strict=True
                )
        return sorted(found, key=lambda pair: pair[1])

    def corrupted(
        self, subject: Subject, kinds: Sequence[Kind], overlap: float
    ) -> Float[Tensor, "n h w"]:
        """The true map, corrupted in each way, so that so much is left where the way has a
        strength."""
        maps = self.scene(subject.image).maps  # union asks who else is there
        geometry, mine = geometry_of(maps), self.rows(subject.image).index(subject.row)
        wanted, first = torch.full((len(maps),), overlap), torch.zeros_like(maps.image)
        made = [
            corrupted(geometry, first, wanted, Draws(0, n, [subject.image]), among=[kind])[mine]
            for n, kind in enumerate(kinds)
        ]
        return torch.stack(made)

    def descent(self, image: int, alpha: Float[Tensor, "h w"]) -> Float[Tensor, "_ h w"]:
        """A map, and what becomes of it by a <- r(a)."""
        pixels, steps = self.scene(image).embeddings[None], [alpha]
        for _ in range(STEPS):
            maps = Maps(steps[-1][None], torch.zeros(1, dtype=torch.long))
            steps.append(self.energy.reconstructed(pixels, maps)[0])
        return torch.stack(steps)

    def landscape(self, subject: Subject) -> Float[np.ndarray, "_ _"]:
        """E of the true map moved down and right, by up to REACH of its sides."""
        truth, scene = self.true(subject), self.scene(subject.image)
        steps = torch.linspace(-REACH, REACH, SHIFTS) * truth.sum().sqrt()
        rows = []
        for down in steps:  # one row at a time: memory
            by = torch.stack([down.expand(SHIFTS), steps], 1)
            alpha = moved(truth.expand(SHIFTS, -1, -1), by)
            rows.append(energies_of(self.energy, scene.embeddings, alpha))
        return torch.stack(rows).double().numpy()

    def pair(self, image: int) -> tuple[int, int] | None:
        """Two true maps of an image for a walk: of those of one scale, whose codes draw them, the
        nearest; None without two."""
        rows = self.rows(image)
        if len(rows) < 2:
            return None
        codes, truth = self.codes(image, rows), self.scene(image)
        drawn = self.energy.decode(truth.embeddings[None], codes).sigmoid()
        fit = soft_overlap(drawn, truth.alpha) >= DRAWN
        away = torch.cdist(codes.place, codes.place).fill_diagonal_(torch.inf)
        away[codes.scale[:, None] != codes.scale[None]] = torch.inf
        away[~(fit[:, None] & fit[None])] = torch.inf
        at = int(away.argmin())
        first, second = at // len(rows), at % len(rows)
        return (rows[first], rows[second]) if bool(away[first, second].isfinite()) else None

    def codes(self, image: int, rows: Sequence[int]) -> Codes:
        """Of some true maps of an image."""
        alpha = self.material.alpha[list(rows)].float() / OPAQUE
        maps = Maps(alpha, torch.zeros(len(alpha), dtype=torch.long))
        return self.energy.encode(self.scene(image).embeddings[None], maps).codes

    def walk(self, image: int, pair: tuple[int, int]) -> Float[Tensor, "_ h w"]:
        """The maps of codes between those of two true maps of an image."""
        codes = between(self.codes(image, pair), WALK)
        return self.energy.decode(self.scene(image).embeddings[None], codes).sigmoid()

    # pictures

    def square(
        self,
        image: int,
        maps: Float[Tensor, "n h w"],
        *,
        margin: float = 0.15,
        most: float = 4.0,
    ) -> tuple[int, int, int]:
        """The part of an image in which its maps are shown: all of them, but at most so many times
        as large as the first."""
        boxes = [box for alpha in maps if (box := _box(alpha)) is not None]
        height, width = self.pixels.shape[1:3]
        if not boxes:
            return 0, 0, min(height, width)
        every, first = (
            square_around(some, height, width, margin=more, least=LEAST)
            for some, more in ((boxes, margin), (boxes[:1], min(most, 1e3) / 2 - 0.5))
        )
        return every if every[2] <= first[2] else first

    def picture(
        self, image: int, alpha: Float[Tensor, "h w"], square: tuple[int, int, int]
    ) -> UInt8[np.ndarray, "_ _ 3"]:
        """A map over a part of its image."""
        pixels = self.pixels[image]
        levels = (alpha * OPAQUE).round().clamp(0, OPAQUE).byte().numpy()
        return close_up(brightened(pixels, display_gain(pixels)), levels, square, side=SIDE)


def energies_of(
    energy: Autoencoder, embeddings: Float[Tensor, "e h w"], alpha: Float[Tensor, "n h w"]
) -> Float[Tensor, "n"]:
    """E of maps of one image."""
    image = torch.zeros(len(alpha), dtype=torch.long, device=alpha.device)
    found: Tensor = energy(embeddings[None], Maps(alpha, image))
    return found


def between(ends: Codes, count: int) -> Codes:
    """Codes from the first of two to the second, at equal steps of place, scale and vector."""
    part = torch.linspace(0, 1, count)[:, None]
    vector, place, scale = (
        torch.lerp(x[0], x[1], part) for x in (ends.vector, ends.place, ends.scale[:, None])
    )
    return Codes(vector, place, scale[:, 0], torch.zeros(count, dtype=torch.long))


def _box(alpha: Float[Tensor, "h w"]) -> tuple[float, float, float, float] | None:
    """Top, left, bottom and right of a mask, in pixels of the image; None of an empty one."""
    mask = alpha >= 0.5
    if not bool(mask.any()):
        return None
    y, x = (mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
    ends = (int(y[0]), int(x[0]), int(y[-1]) + 1, int(x[-1]) + 1)
    top, left, bottom, right = (float(STRIDE * n) for n in ends)
    return top, left, bottom, right


def looked(run: Run) -> Looked | None:
    """What the energy of a run says of some composites; None where the run has none, or has not
    ended, or its images, config or decoder are gone."""
    if "energy" not in run.kept:
        run.kept["energy"] = _looked(run) if run.look else None
    return cast(Looked | None, run.kept["energy"])


def _looked(run: Run) -> Looked | None:
    file = run.path / ENERGY_NAME
    if not file.is_file() or (run.config is None and run.shaped is None):
        return None
    energy, facts = load_energy(file)
    energy.requires_grad_(False)
    shaped, cpu = run.shaped, torch.device("cpu")
    try:
        decoder = decoder_run(run.path if shaped is None else expand(shaped.alpha), cpu)
        data = run.folder or (None if shaped is None else shaped.data)
        composer, _ = composer_of(decoder, data, kept=False)
    except (ValueError, OSError):
        return None
    if facts.alpha != digest(decoder.file):
        return None
    compose = replace(composer.config, empty=0.0)
    count = min(COMPOSITES, max(FEWEST, PIXELS // compose.size**2))
    composer = Composer(composer.source, composer.bank, compose, share=1.0, seed=composer.seed)
    hosts = (chosen(len(composer.source), count) * count)[:count]  # few images come again
    made = composer([(UNSEEN + LATER + n, host) for n, host in enumerate(hosts)])
    found = embedded(decoder.model, made)
    return Looked(energy, facts.shape.reconstruct > 0, made.image.numpy(), found)
