"""A COCO set of colour images as sets of other numbers of channels, to measure what channels are
worth: `grey` (one channel) and `texture` (red, green, blue and the local spread of grey), as
OME-TIFFs with a copy of the labels.

    python tools/channel_sets.py train.json val.json --out sets
    genseg pretrain --config alpha data.path=sets/texture/train.json data.channels=1,2,3,4 run=four
    genseg evaluate alpha four --data sets/texture/val.json
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import tifffile
from jaxtyping import UInt8

from genseg.core.paths import expand
from genseg.data.images.source import decode
from genseg.data.labels.annotated import read_usable

WIDTH = 7  # pixels of the square that texture is the spread of
NAMES = {"grey": ["grey"], "texture": ["red", "green", "blue", "texture"]}


def channels(pixels: UInt8[np.ndarray, "h w 3"], kind: str) -> UInt8[np.ndarray, "c h w"]:
    """The channels of one image. The spread of grey is its standard deviation in a square; 64
    levels and more are white."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    if kind == "grey":
        return grey[None]
    level = grey.astype(np.float32)
    mean, square = (cv2.blur(x, (WIDTH, WIDTH)) for x in (level, level**2))
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    texture = np.minimum(4 * spread, 255).astype(np.uint8)
    return np.stack([*np.moveaxis(pixels, 2, 0), texture])


def write(labels: Path, out: Path, kind: str) -> Path:
    """Write out/kind/images and the labels; the path of these."""
    folder = out / kind
    content = json.loads(labels.read_text("utf-8"))
    entries = read_usable(labels).entries
    for record in content["images"]:
        name = f"{record['id']}-{Path(record['file_name']).stem}.ome.tif"  # folders may share names
        file = Path("images") / labels.stem / name
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        metadata = {"axes": "CYX", "Channel": {"Name": NAMES[kind]}}
        pixels = channels(decode(entries[record["id"]].path), kind)
        tifffile.imwrite(
            folder / file, pixels, photometric="minisblack", metadata=metadata, ome=True
        )
        record["file_name"] = file.relative_to("images").as_posix()
    (folder / labels.name).write_text(json.dumps(content))
    return folder / labels.name


def main() -> None:
    """Write both sets of each file of labels."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labels", type=Path, nargs="+", metavar="JSON", help="COCO jsons")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    for labels in options.labels:
        for kind in NAMES:
            print(write(expand(labels), options.out, kind))


if __name__ == "__main__":
    main()
