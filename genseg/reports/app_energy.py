"""What the live page says of an energy: E of an instance that is clicked, and maps between the
codes of two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy import ndarray, vstack
from torch import Tensor

from genseg.alpha.codes import STRIDE, Codes
from genseg.alpha.decoder import AlphaDecoder
from genseg.alpha.tiles import Tile, tile_at
from genseg.core.names import ALPHA_NAME, ENERGY_NAME
from genseg.data.instances.instance import OPAQUE, Instance, cut_instance, resized
from genseg.energies.maps import Maps
from genseg.energies.model import digest, load_energy
from genseg.reports.app_seen import Seen, drawn
from genseg.reports.energy_looks import energies_of
from genseg.show.brightness import brightened, display_gain
from genseg.show.draw import close_up, grid, square_around, titled
from genseg.show.levels import signed
from genseg.workflows.generate.opened import AlphaRun, Opened

INVITATION = (
    "Click an instance in the picture above to see its energy E, low for an instance; then another "
    "one, and the sliders lead from the code of the first to that of the second. Samples are other "
    "vectors, at the place of the slider."
)
SAMPLES, COLUMNS = 6, 3  # vectors that are drawn at once, and pictures in a row
KNOWN = 64  # instances of the image, at most, by which they are drawn
DRAWN = "Vectors that instances of this image could have, the lowest energy first."
ALONE = "One instance alone counts, so every sample is its own vector: lower the score."
AROUND = 3.0  # sides of what is drawn on average that a picture of it shows
TILE = 200  # pixels of such a picture


def without_energies(runs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Runs that find instances, and those of genseg energy among the ones given."""
    energies = [r for r in runs if (r / ENERGY_NAME).is_file() and not (r / ALPHA_NAME).is_file()]
    return [r for r in runs if r not in energies], energies


def with_energies(
    opened: dict[str, Opened], runs: Sequence[Path], given: Sequence[Path]
) -> dict[str, Opened]:
    """Runs with the energy of their decoder: one that is given, or else their own, or the first one
    beside them that was trained for it. Raises ValueError for one that is given and fits none."""
    used, found = set[Path](), dict[str, Opened]()
    for (name, run), path in zip(opened.items(), runs, strict=True):
        alpha = path / ALPHA_NAME if path.is_dir() else path
        found[name] = run
        if not isinstance(run, AlphaRun) or not isinstance(run.model.decoder, AlphaDecoder):
            continue
        beside = [alpha.parent, *sorted(p for p in alpha.parent.absolute().parent.iterdir())]
        known = digest(alpha)
        for folder in [*given, *beside]:
            if not (folder / ENERGY_NAME).is_file():
                continue
            energy, facts = load_energy(folder / ENERGY_NAME)
            if facts.alpha == known:
                energy.to(run.model.device).requires_grad_(False)
                found[name] = replace(run, energy=energy)
                used.add(folder)
                break
    for folder in given:
        if folder not in used:
            raise ValueError(f"{folder} is an energy for none of these runs; give its run, too")
    return found


@dataclass(frozen=True)
class Ends:
    """One instance that was clicked, or two: their codes, in a part of an image.

    pixels: of that part; tile: which it is, of an image of `size`
    """

    name: str
    pixels: UInt8[ndarray, "_ _ 3"]
    embeddings: Float[Tensor, "e h w"]
    tile: Tile
    size: tuple[int, int]
    codes: Codes


@torch.no_grad()
def clicked(
    run: AlphaRun, seen: Seen, before: Ends | None, x: int, y: int, score: float
) -> tuple[Ends | None, str]:
    """What is known after a click, and a word on it. A third instance follows the second."""
    here = next((a for a in seen.counted(score) if a.covers(y, x)), None)
    if run.energy is None or here is None:
        return before, f"No instance that counts at {x}, {y}."
    if before is not None and before.name == seen.name:
        alpha = _map(before, seen, here)
        if float(alpha.sum()) >= 1:
            codes = _codes(run, before, alpha)
            pair = [torch.cat([v[-1:], w]) for v, w in _fields(before.codes, codes)]
            after = replace(before, codes=Codes(*pair))
            return after, f"{_said(run, before, alpha, x, y)} The sliders lead to it."
    after = _part(run, seen, here)
    alpha = _map(after, seen, here)
    after = replace(after, codes=_codes(run, after, alpha))
    return after, f"{_said(run, after, alpha, x, y)} Click another one."


def _fields(a: Codes, b: Codes) -> list[tuple[Tensor, Tensor]]:
    return [(getattr(a, n), getattr(b, n)) for n in ("vector", "place", "scale", "image")]


def _said(run: AlphaRun, ends: Ends, alpha: Float[Tensor, "1 h w"], x: int, y: int) -> str:
    assert run.energy is not None
    energy = float(energies_of(run.energy, ends.embeddings, alpha))
    sure = float(torch.sigmoid(torch.tensor(-energy)))
    return f"At {x}, {y}: E = {signed(energy)}, sigmoid(\N{MINUS SIGN}E) = {sure:.2f}."


def _part(run: AlphaRun, seen: Seen, a: Instance) -> Ends:
    """The part of an image, as the model sees it, that an instance lies in."""
    small, whole = run.model.prepared(seen.pixels), seen.pixels.shape[:2]
    h, w = small.shape[:2]
    left, top, across, down = a.box_xywh
    y, x = (top + down / 2) * h / whole[0], (left + across / 2) * w / whole[1]
    tile = tile_at(h, w, y, x, tile=run.model.config.tile)
    pixels, decoder = small[tile.window], run.model.decoder
    assert isinstance(decoder, AlphaDecoder)
    embeddings, _ = decoder(run.model.encoder.pyramid(run.model.tensor([pixels])))
    none = embeddings.new_zeros(0)
    codes = Codes(none[:, None], none.view(0, 2), none, none.long())
    return Ends(seen.name, pixels, embeddings[0].float(), tile, (h, w), codes)


def _map(ends: Ends, seen: Seen, a: Instance) -> Float[Tensor, "1 h w"]:
    """An instance of the image as a map at the stride of the embeddings."""
    small = resized(a, seen.pixels.shape[:2], ends.size)
    h, w = (STRIDE * n for n in ends.embeddings.shape[1:])
    whole = torch.zeros(1, h, w, device=ends.embeddings.device)
    if small is not None:
        part = torch.from_numpy(small.paint(*ends.size)[ends.tile.window])
        whole[0, : part.shape[0], : part.shape[1]] = part.to(whole) / OPAQUE
    return F.avg_pool2d(whole, STRIDE)


def _codes(run: AlphaRun, ends: Ends, alpha: Float[Tensor, "1 h w"]) -> Codes:
    assert run.energy is not None
    image = torch.zeros(1, dtype=torch.long, device=alpha.device)
    return run.energy.encode(ends.embeddings[None], Maps(alpha, image)).codes


@torch.no_grad()
def between(
    run: AlphaRun, ends: Ends | None, place: float, vector: float
) -> tuple[UInt8[ndarray, "_ _ 3"] | None, str]:
    """The map of a code so far on the way from the first to the second instance, in place (and
    scale) and in what the vector says; its energy."""
    if ends is None or run.energy is None:
        return None, ""
    c = ends.codes
    code = Codes(
        torch.lerp(c.vector[:1], c.vector[-1:], vector),
        torch.lerp(c.place[:1], c.place[-1:], place),
        torch.lerp(c.scale[:1], c.scale[-1:], place),
        c.image[:1],
    )
    alpha = run.energy.decode(ends.embeddings[None], code).sigmoid()
    energy = float(energies_of(run.energy, ends.embeddings, alpha))
    found = cut_instance(_levels(ends, alpha[0]))
    seen = Seen(ends.name, ends.pixels, () if found is None else (found,))
    nothing = "" if found is not None else " Nothing is drawn."
    return drawn(seen, 0.0, "Soft alpha"), f"E = {signed(energy)}.{nothing}"


def _levels(ends: Ends, alpha: Float[Tensor, "h w"]) -> UInt8[ndarray, "_ _"]:
    """A map at the stride of the embeddings, in pixels of the part of the image."""
    large = F.interpolate(alpha[None, None], scale_factor=STRIDE, mode="bilinear")[0, 0]
    h, w = ends.pixels.shape[:2]
    return (large[:h, :w] * OPAQUE).round().byte().cpu().numpy()


@torch.no_grad()
def sampled(
    run: AlphaRun,
    seen: Seen,
    ends: Ends,
    place: float,
    score: float,
    generator: torch.Generator,
) -> tuple[UInt8[ndarray, "_ _ 3"] | None, str]:
    """What other vectors draw at a place on the way from the first to the second instance, with the
    energy of each, the lowest first; and a word. They are drawn as the energy's prior says, or else
    as the vectors of the instances that count."""
    assert run.energy is not None
    maps = (_map(ends, seen, a) for a in seen.counted(score)[:KNOWN])
    known = [_codes(run, ends, alpha).vector for alpha in maps if float(alpha.sum()) >= 1]
    near = torch.cat(known or [ends.codes.vector])
    vector = run.energy.prior.sampled(near, SAMPLES, generator)
    at, scale = (torch.lerp(x[:1], x[-1:], place) for x in (ends.codes.place, ends.codes.scale))
    first = ends.codes.image[:1]
    codes = Codes(
        vector, at.expand(SAMPLES, 2), scale.expand(SAMPLES), first.expand(SAMPLES).clone()
    )
    alpha = run.energy.decode(ends.embeddings[None], codes).sigmoid()
    energies = energies_of(run.energy, ends.embeddings, alpha).tolist()
    side = STRIDE * float(alpha.sum((1, 2)).mean().sqrt().clamp_min(1)) * AROUND / 2
    y, x = at[0].tolist()
    h, w = ends.pixels.shape[:2]
    square = square_around([(y - side, x - side, y + side, x + side)], h, w, margin=0)
    bright = brightened(ends.pixels, display_gain(ends.pixels))
    order, rows = sorted(range(SAMPLES), key=energies.__getitem__), []
    for some in (order[n : n + COLUMNS] for n in range(0, SAMPLES, COLUMNS)):
        row = [close_up(bright, _levels(ends, alpha[i]), square, side=TILE) for i in some]
        words = [f"E = {energies[i]:.2f}" for i in some]  # the font has no other minus
        rows.append(titled(grid(row, columns=COLUMNS, side=TILE), words, side=TILE, below=True))
    alike = len(near) == 1 and bool((vector == near).all())
    return vstack(rows), ALONE if alike else DRAWN


class EnergyAnswers:
    """What the page does on each event of an energy. Each returns ends, words, picture, words; or
    the last two."""

    def __init__(self, runs: Mapping[str, Opened]) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.runs = {
            name: run
            for name, run in runs.items()
            if isinstance(run, AlphaRun) and run.energy is not None
        }

    def clicked(
        self,
        name: str,
        seen: Seen | None,
        ends: Ends | None,
        score: float,
        place: float,
        vector: float,
        at: tuple[int, int],
    ) -> tuple[Any, ...]:
        """A click at x and y of an image."""
        if seen is None or name not in self.runs:
            return None, "This run has no energy beside it." if seen else "", None, ""
        ends, said = clicked(self.runs[name], seen, ends, *at, score)
        return ends, said, *self.walked(name, ends, place, vector)

    def walked(self, name: str, ends: Ends | None, place: float, vector: float) -> tuple[Any, ...]:
        """The sliders are moved."""
        return between(self.runs[name], ends, place, vector) if name in self.runs else (None, "")

    def sampled(
        self, name: str, seen: Seen | None, ends: Ends | None, score: float, place: float
    ) -> tuple[Any, ...]:
        """Samples are asked for: picture, words."""
        if name not in self.runs or seen is None or ends is None:
            return None, "Click an instance first."
        return sampled(self.runs[name], seen, ends, place, score, self.generator)

    def forgotten(self) -> tuple[Any, ...]:
        """Another image, or another run."""
        return None, "", None, ""
