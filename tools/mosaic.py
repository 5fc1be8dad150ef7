"""A large image with known instances, to measure what large images cost: the nuclei that genseg
ships, scattered over a dark ground, as a tiled GeoTIFF and a COCO json. Neither is ever in memory
whole.

    python tools/mosaic.py --side 50000 --out mosaic
    /usr/bin/time -v genseg generate RUN mosaic/mosaic.tif --side 0 --out found
    genseg evaluate alpha found/instances.json --data mosaic/mosaic.json
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from jaxtyping import UInt8

from genseg.core.paths import expand
from genseg.data.images.source import decode
from genseg.data.instances.coco import annotation
from genseg.data.instances.instance import Instance
from genseg.data.labels.annotated import read_usable

CELL = 320  # pixels of the squares of which each may hold one picture
TILE = 256
EVERY = 8  # one square in so many holds one
GROUND = (3, 9)  # levels of the ground's noise
SCALE, TIE = (0.5, 0.5, 0.0), (0.0, 0.0, 0.0, 500_000.0, 5_500_000.0, 0.0)  # half a metre, UTM 32N
KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)


def write_mosaic(out: Path, side: int, *, every: int = EVERY, seed: int = 0) -> tuple[Path, Path]:
    """Write out/mosaic.tif of `side` x `side` pixels and out/mosaic.json; their paths."""
    pictures = _pictures()
    across = side // CELL
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(pictures), (across, across))
    chosen[rng.random(chosen.shape) >= 1 / every] = -1
    out.mkdir(parents=True, exist_ok=True)
    file, labels = out / "mosaic.tif", out / "mosaic.json"
    extra = [
        (33550, "d", 3, SCALE, True),
        (33922, "d", 6, TIE, True),
        (34735, "H", len(KEYS), KEYS, True),
    ]
    tifffile.imwrite(
        file,
        _tiles(pictures, chosen, side, seed),
        shape=(side, side, 3),
        dtype=np.uint8,
        photometric="rgb",
        tile=(TILE, TILE),
        compression="zlib",
        compressionargs={"level": 1},
        bigtiff=True,
        metadata=None,
        extratags=extra,
    )
    _write_labels(labels, pictures, chosen, side)
    return file, labels


def _pictures() -> list[tuple[UInt8[np.ndarray, "h w 3"], list[Instance]]]:
    """The labelled pictures and what is in them, each cut to a square's size."""
    usable = read_usable(expand("embedded:nuclei/test.json"))
    found = []
    for image, entry in zip(usable.images(), usable.entries.values(), strict=True):
        if max(image.height, image.width) <= CELL:
            found.append((decode(entry.path), list(image.instances)))
    return found


def _strip(pictures: list, chosen: np.ndarray, side: int, seed: int, row: int) -> np.ndarray:
    """TILE rows of the mosaic from `row` on."""
    rng = np.random.default_rng([seed, row])
    rows = min(TILE, side - row)
    strip = rng.integers(*GROUND, (rows, side, 1), dtype=np.uint8).repeat(3, 2)
    for y in range(row // CELL, -(-(row + rows) // CELL)):
        for x in np.flatnonzero(chosen[y] >= 0).tolist() if y < len(chosen) else ():
            pixels, _ = pictures[chosen[y, x]]
            top, left = y * CELL - row, x * CELL
            a, b = max(0, top), min(rows, top + len(pixels))
            if b > a:
                strip[a:b, left : left + pixels.shape[1]] = pixels[a - top : b - top]
    return strip


def _tiles(pictures: list, chosen: np.ndarray, side: int, seed: int) -> Iterator[np.ndarray]:
    """The tiles of the file, one after the other."""
    for row in range(0, side, TILE):
        strip = _strip(pictures, chosen, side, seed, row)
        for column in range(0, side, TILE):
            tile = np.zeros((TILE, TILE, 3), np.uint8)
            part = strip[:, column : column + TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def _write_labels(file: Path, pictures: list, chosen: np.ndarray, side: int) -> None:
    head = {"id": 1, "file_name": "mosaic.tif", "height": side, "width": side}
    category = {"id": 1, "name": "nucleus"}
    with file.open("w") as out:
        out.write(f'{{"images": [{json.dumps(head)}], "categories": [{json.dumps(category)}], ')
        out.write('"annotations": [')
        number = 0
        for y, x in np.argwhere(chosen >= 0).tolist():
            for a in pictures[chosen[y, x]][1]:
                number += 1
                moved = Instance(a.alpha, a.top + y * CELL, a.left + x * CELL)
                record = annotation(moved, number=number, image=1, height=side, width=side)
                out.write((", " if number > 1 else "") + json.dumps(record))
        out.write("]}\n")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--side", type=int, default=12_000, help="pixels of each side")
    parser.add_argument("--every", type=int, default=EVERY, help="a picture in so many squares")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    image, labels = write_mosaic(options.out, options.side, every=options.every, seed=options.seed)
    print(f"{image}: {options.side} x {options.side} pixels; {labels}")


if __name__ == "__main__":
    main()
