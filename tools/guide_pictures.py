"""The pictures of docs/guides/channels.md and docs/guides/large_images.md: the commands of the
guides on files that are made of the nuclei that genseg ships, and what they leave.

    python tools/guide_pictures.py RUN --out docs/show

RUN: a run with the alpha task on nuclei, as `genseg pretrain --config alpha` makes it of three
channels.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import tifffile
from mosaic import SCALE, TIE, write_mosaic
from PIL import Image, ImageDraw, ImageFont
from screens import page_of, save, save_picture

from genseg.cli import main as genseg
from genseg.core.paths import expand
from genseg.data.images.files import list_images
from genseg.data.images.source import decode_image
from genseg.data.regions.opened import open_regions
from genseg.show.brightness import brightened, display_gain
from genseg.show.draw import PALETTE

SECTIONS, BITS = 3, 16  # of a stack; levels of the file for one of the picture: 12 bits
SIDE, SEED = 1600, 69  # of the mosaic; with this draw all of it is fluorescence
WHOLE, DETAIL = 460, 230  # pixels of the picture of the mosaic, and of its part that is enlarged
WIDE = (1120, 760)  # of the window for pages


def run(*words: str | Path) -> None:
    """A command of genseg, which has to end well."""
    if genseg([str(word) for word in words]):
        raise SystemExit(f"genseg {words[0]} failed")


def write_slides(folder: Path, count: int) -> list[Path]:
    """Stacks of two stains as OME-TIFF, of 12 bits: nuclei as DAPI, in focus in one section, and
    what lies around them as GFP."""
    folder.mkdir()
    listed, files = list_images(expand("embedded:nuclei/test.json")), list[Path]()
    rng = np.random.default_rng(0)
    pictures = (decode_image(listed, i) for i in range(len(listed)))
    dark = [x for x in pictures if x.mean() < 60 and np.ptp(x.astype(int), axis=2).max() < 9]
    for n, x in enumerate(sorted(dark, key=lambda x: -float(x.std()))[:count]):
        dapi = x[..., 0].astype(np.float32)
        around = cv2.GaussianBlur(dapi, (0, 0), 6) * 0.8
        stack = [
            np.stack([cv2.GaussianBlur(dapi, (0, 0), 0.3 + 1.5 * abs(z - 1)), around])
            for z in range(SECTIONS)
        ]
        noisy = np.stack(stack) * BITS + rng.normal(90, 6, (SECTIONS, 2, *dapi.shape))
        said = {
            "axes": "ZCYX",
            "Channel": {"Name": ["DAPI", "GFP"]},
            "PhysicalSizeX": 0.5,
            "PhysicalSizeY": 0.5,
        }
        files.append(folder / f"slide{n + 1}.ome.tif")
        tifffile.imwrite(files[-1], noisy.clip(0, 4095).astype(np.uint16), metadata=said)
    return files


def channels(model: Path, work: Path, out: Path) -> None:
    """The live page with a channel chosen, what was found, and what measuring shows."""
    slides = write_slides(work / "SLIDES", 6)
    with served(model) as address, page_of(address, *WIDE) as page:
        page.fill("#channels textarea, #channels input", "DAPI")
        page.fill("#pages textarea, #pages input", "max")
        page.set_input_files("#image input[type=file]", str(slides[0]))
        page.wait_for_selector("#result img")
        page.wait_for_timeout(3000)
        save(page, out / "channels_app.png")
    found = work / "found"
    run("generate", model, work / "SLIDES", "--channels", "DAPI", "--pages", "max", "--out", found)
    run("measure", found, "--out", found / "table.csv")
    with page_of((found / "report.html").as_uri(), *WIDE) as page:
        save(page, out / "channels_found.png", ".viewer")
    with page_of((found / "table.html").as_uri(), *WIDE) as page:
        save(page, out / "channels_table.png")


@contextmanager
def served(model: Path) -> Iterator[str]:
    """The live page of a run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "genseg", "app", str(model), "--port", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[0]
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()


def mosaic(model: Path, work: Path, out: Path) -> None:
    """The mosaic with its polygons, in coordinates of the map."""
    file, _ = write_mosaic(work / "mosaic", SIDE, every=1, seed=SEED)
    run("generate", model, file, "--side", "0", "--out", work / "map")
    run("convert", work / "map/instances.json", "--to", "geojson", "--out", work / "polygons")
    (written,) = (work / "polygons").glob("*.geojson")
    content = json.loads(written.read_text())
    print(content["crs"]["properties"]["name"], len(content["features"]), "polygons")
    outlines = [
        pixels_of(np.array(ring, float))
        for feature in content["features"]
        for ring in rings_of(feature["geometry"])
    ]
    pixels = open_regions(file).read(0, 0, SIDE, SIDE)
    save_picture(
        sheet(brightened(pixels, display_gain(pixels)), outlines), out / "large_polygons.png"
    )


def rings_of(geometry: dict) -> list[list[list[float]]]:
    """The outlines of a polygon, or of several."""
    if geometry["type"] == "Polygon":
        return list(geometry["coordinates"])
    return [ring for polygon in geometry["coordinates"] for ring in polygon]


def pixels_of(points: np.ndarray) -> np.ndarray:
    """Points of the map in pixels of the mosaic."""
    east, north = points[:, 0], points[:, 1]
    return np.stack([(east - TIE[3]) / SCALE[0], (TIE[4] - north) / SCALE[1]], axis=1)


def sheet(pixels: np.ndarray, outlines: list[np.ndarray]) -> Image.Image:
    """The whole mosaic, and beside it the part of it with the most polygons, enlarged."""
    left, top = fullest(outlines)
    whole = drawn(pixels, outlines, (0, 0, SIDE), 1)
    detail = drawn(pixels, outlines, (left, top, DETAIL), 2)
    scale, gap, below = WHOLE / SIDE, 12, 22
    picture = Image.new("RGB", (2 * WHOLE + gap, WHOLE + below), "white")
    picture.paste(whole, (0, 0))
    picture.paste(detail, (WHOLE + gap, 0))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    frame = [left * scale, top * scale, (left + DETAIL) * scale, (top + DETAIL) * scale]
    pen.rectangle(frame, outline="white", width=2)
    for at, x, y, side in ((0, 0, 0, SIDE), (WHOLE + gap, left, top, DETAIL)):
        east, north = TIE[3] + x * SCALE[0], TIE[4] - y * SCALE[1]
        words = f"{east:,.0f} to {east + side * SCALE[0]:,.0f} m E, {north:,.0f} m N"
        pen.text((at + 2, WHOLE + 4), words, fill="black", font=font)
    return picture


def fullest(outlines: list[np.ndarray]) -> tuple[int, int]:
    """Left and top of the square of DETAIL pixels that holds the most outlines."""
    middles = np.array([o.mean(0) for o in outlines])
    corners = np.clip(middles - DETAIL / 2, 0, SIDE - DETAIL).astype(int)
    inside = [((middles >= c) & (middles < c + DETAIL)).all(1).sum() for c in corners]
    left, top = corners[int(np.argmax(inside))].tolist()
    return left, top


def drawn(
    pixels: np.ndarray, outlines: list[np.ndarray], square: tuple[int, int, int], width: int
) -> Image.Image:
    """A square (left, top, side) of the mosaic with the outlines in it, at WHOLE pixels."""
    left, top, side = square
    part, scale = pixels[top : top + side, left : left + side], WHOLE / side
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = Image.fromarray(cv2.resize(part, (WHOLE, WHOLE), interpolation=how))
    pen = ImageDraw.Draw(picture)
    for n, outline in enumerate(outlines):
        points = [tuple(p) for p in ((outline - (left, top)) * scale).tolist()]
        pen.line([*points, points[0]], fill=PALETTE[n % len(PALETTE)], width=width)
    return picture


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="docs/show")
    parser.add_argument("--only", default="", choices=("", "channels", "mosaic"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        for guide in (mosaic, channels):
            if options.only in ("", guide.__name__):
                guide(options.run, Path(work), options.out)


if __name__ == "__main__":
    main()
