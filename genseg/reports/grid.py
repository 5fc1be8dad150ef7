"""Pictures of what was generated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from genseg.core.check import at_least
from genseg.core.result import Result
from genseg.core.words import amount
from genseg.data.images.coco_files import CocoError
from genseg.data.images.inputs import rgb_of
from genseg.data.images.png import write_png
from genseg.data.images.source import decode
from genseg.data.images.uneven import notes_on
from genseg.data.instances.coco import AnnotatedImage, by_file, file_key
from genseg.data.instances.instance import Instance
from genseg.data.labels.annotated import read_usable
from genseg.data.labels.entries import by_json
from genseg.data.labels.findings import counted
from genseg.nn.kept_reading import reads_as
from genseg.show.brightness import brightened, display_gain
from genseg.show.draw import boxes, cut_outs, grid, overlay, titled
from genseg.show.shown import shown_from

Pixels = UInt8[np.ndarray, "h w c"]
MOST = 1e9  # pixels of a picture: three bytes each, and as many again while it is put together


@dataclass(frozen=True)
class Grid(Result):
    """A PNG of images and their instances. lines: what it shows, and what was left out."""

    out: Path
    lines: tuple[str, ...]

    def text(self) -> str:
        return "\n".join(self.lines)


@reads_as("files")
def visualize(
    files: Sequence[Path],
    folder: Path,
    out: Path,
    *,
    count: int,
    columns: int,
    side: int,
    seed: int,
    cutouts: bool = False,
    titles: bool = False,
    names: Sequence[str] | None = None,
) -> Grid:
    """A grid of images, each followed by its instances from each COCO json of `files`, in one PNG.

    folder: where the images of the jsons lie, or lie in images/
    count: images, drawn by `seed` from those of the first json; 0: all
    cutouts: what the instances of each json cut out of the image comes too
    titles: write what each picture is above the first row
    names: what the jsons are called there; None: as their files

    Raises ValueError for what a user can mend.
    """
    at_least(0, count=count, seed=seed)
    at_least(1, columns=columns, side=side)
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out {out}: pictures are PNG; end it in .png")
    places = [folder, folder / "images"]  # also for sizes that a json does not give
    read = [read_usable(file, folders=places, size=by_json) for file in files]
    jsons = [by_file(found.images()) for found in read]
    classes = [[name for _, name in found.categories or ()] for found in read]
    listed = _common(jsons, files[0])
    scores = [shown_from(image.instances for image in found.values()) for found in jsons]
    drawn = np.random.default_rng(seed).permutation(len(listed))[: count or None]
    _check_pixels(len(drawn) * (1 + len(files) * (1 + cutouts)), side)
    pictures, brighter, used = [], 0, list[Path]()
    for name in (listed[i] for i in sorted(drawn.tolist())):
        used.append(_place(folder, file_key(jsons[0][name].name), files[0]))
        image = _pixels(
            used[-1], [(found[name], file) for found, file in zip(jsons, files, strict=True)]
        )
        gain = display_gain(image)
        image, brighter = brightened(image, gain), brighter + (gain > 1)
        kept = [_scoring(f[name], score) for f, (score, _) in zip(jsons, scores, strict=True)]
        pictures.append(image)
        pictures += [
            _drawn(image, found[name], some, names_of)
            for found, some, names_of in zip(jsons, kept, classes, strict=True)
        ]
        pictures += [cut_outs(image, some) for some in kept if cutouts]
    called = [f.stem for f in files] if names is None else names
    row = ["image", *called, *(f"{name}, cut out" for name in called if cutouts)]
    sheet = grid(pictures, columns=columns * len(row), side=side)
    sheet = titled(sheet, row * columns, side=side) if titles else sheet
    write_png(out, sheet)
    dim = f"; {amount(brighter, 'dim image')} shown brighter" if brighter else ""
    lost = [f"{found.source}: {counted(found.lost)}: left out" for found in read if found.lost]
    lost += [
        f"{file}: those that score {score:.2g} or more are drawn; others are there for their order"
        for file, (score, least) in zip(files, scores, strict=True)
        if score > least
    ]
    more = [f"note: {note}" for note in (notes_on(tuple(used)),) if note]
    return Grid(out, (f"{out}: {amount(len(drawn), 'image')}{dim}", *lost, *more))


def _common(jsons: Sequence[Mapping[str, AnnotatedImage]], file: Path) -> list[str]:
    """The images of the first json, in order. Raises CocoError where another one lacks some."""
    listed = sorted(jsons[0])
    if missing := [name for name in listed if any(name not in found for found in jsons)]:
        raise CocoError(
            f"{len(missing)} images of {file} are not in the other jsons, the first is {missing[0]}"
        )
    return listed


def _check_pixels(pictures: int, side: int) -> None:
    """Raise ValueError for more than one picture can hold."""
    pixels = pictures * side**2
    if pixels > MOST:
        raise ValueError(
            f"--side {side}: the picture had {pixels / 1e6:,.0f} million pixels, the most are "
            f"{MOST / 1e6:,.0f}; give a smaller --side or --count"
        )


def _scoring(found: AnnotatedImage, score: float) -> list[Instance]:
    return [a for a in found.instances if a.score >= score]


def _drawn(
    image: Pixels, found: AnnotatedImage, instances: Sequence[Instance], classes: Sequence[str]
) -> Pixels:
    """The instances over their image: masks as veils, boxes as lines in the colours of their
    classes."""
    return overlay(image, instances) if found.outlined else boxes(image, instances, classes)


def _place(folder: Path, name: str, file: Path) -> Path:
    """Where an image of that name lies; `file` is a json that has it."""
    places = (folder / name, folder / "images" / name)
    found = next((p for p in places if p.is_file()), None)
    if found is None:
        raise CocoError(
            f"there is no {places[0]} and no {places[1]}; give --images the folder of {file}'s "
            "images"
        )
    return found


def _pixels(found: Path, listed: Sequence[tuple[AnnotatedImage, Path]]) -> Pixels:
    """An image, as large as the jsons say."""
    image = rgb_of(decode(found, image=listed[0][0].page))
    for entry, file in listed:
        if image.shape[:2] != (entry.height, entry.width):
            swapped = (
                " (height and width are swapped)"
                if image.shape[1::-1] == (entry.height, entry.width)
                else ""
            )
            raise CocoError(
                f"{found} has {image.shape[1]} x {image.shape[0]} pixels, in {file} {entry.width} "
                f"x {entry.height}{swapped}; give --images the folder that it was made from"
            )
    return image
