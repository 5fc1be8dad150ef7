"""2018 Data Science Bowl, nuclei in microscope images, as COCO: OUT/images/ID.png and
OUT/train.json."""

import argparse
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from pycocotools import mask as coco_mask
from sources import (
    BROKEN_IMAGE,
    Source,
    SourceError,
    already_prepared,
    exit_code,
    images,
    open_source,
    publish,
)

EPILOG = """\
examples
  python datasets/prepare_dsb2018.py stage1_train.zip
  python datasets/prepare_dsb2018.py FOLDER --out datasets/nuclei

SOURCE is the original layout: .../ID/images/ID.png, and one mask file a nucleus in .../ID/masks/.
The set is BBBC038v1 (CC0), stage1_train.zip: https://bbbc.broadinstitute.org/BBBC038
Images are copied unchanged. Masks become compressed RLE with area and box; ids count from 1, in the
order of the file names.

then
  genseg pretrain --config simclr data.path=datasets/dsb2018/train.json run=runs/dsb2018

Running the script again does nothing when OUT is already made from the same source.
"""


@dataclass(frozen=True)
class Field:
    """One image of the original layout, by the names of its files in the source."""

    id: str
    image: str
    masks: tuple[str, ...]


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The parsed command line; exits with code 2 on a wrong one."""
    parser = argparse.ArgumentParser(
        prog="prepare_dsb2018.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, help="a zip archive or a folder")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "dsb2018",
        help="folder to make (default: dsb2018 beside this script)",
    )
    return parser.parse_args(argv)


def fields(source: Source) -> list[Field]:
    """All images of the source with their masks, sorted by id.

    Raises SourceError when the layout is another one, an id comes twice, or no image has a mask.
    """
    found: dict[str, str] = {}
    masks: dict[str, list[str]] = {}
    for name in images(source):
        *_, id_, kind, _ = ("", "", *PurePosixPath(name).parts)
        if kind == "images" and id_ in found:
            raise SourceError(
                f"{source.path} has two images with id {id_}: {found[id_]} and {name}"
            )
        if kind == "images" and id_:
            found[id_] = name
        elif kind == "masks" and id_:
            masks.setdefault(id_, []).append(name)
    if not found:
        raise SourceError(
            f"{source.path} has no ID/images/ID.png: give the original layout of stage1_train"
        )
    if not masks:
        raise SourceError(
            f"{source.path} has no ID/masks/: pretrain on a test stage as a plain folder of images"
        )
    orphans = sorted(set(masks) - set(found))
    if orphans:
        raise SourceError(
            f"{source.path} has masks but no image for {len(orphans)} ids, such as {orphans[0]}"
        )
    return [Field(id_, found[id_], tuple(masks.get(id_, ()))) for id_ in sorted(found)]


def prepare(path: Path, out: Path) -> None:
    """Make `out` from the original layout in `path`."""
    with open_source(path) as source:
        record = {"script": "prepare_dsb2018", "source": source.fingerprint()}
        if already_prepared(out, record):
            return
        with publish(out, record) as folder:
            coco, empty = convert(source, folder)
            (folder / "train.json").write_text(json.dumps(coco) + "\n")
    print(f"{out}: {len(coco['images']):,} images, {len(coco['annotations']):,} nuclei")
    bare = len(coco["images"]) - len({a["image_id"] for a in coco["annotations"]})
    if bare:
        print(f"note: {bare:,} images have no nucleus")
    if empty:
        print(f"note: {len(empty):,} masks are empty and left out, such as {empty[0]}")


def convert(source: Source, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Copy the images into `folder`/images. Gives the COCO dict and the names of empty masks."""
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    empty: list[str] = []
    (folder / "images").mkdir()
    for image_id, field in enumerate(fields(source), start=1):
        data = source.read(field.image)
        width, height = _open(data, field.image).size
        file_name = field.id + PurePosixPath(field.image).suffix
        (folder / "images" / file_name).write_bytes(data)
        records.append(
            {"id": image_id, "file_name": file_name, "width": width, "height": height, "license": 1}
        )
        for name, mask in read_masks(source, field, height=height, width=width):
            if mask.any():
                annotations.append(annotation(len(annotations) + 1, image_id, mask))
            else:
                empty.append(name)
    coco = {
        "info": {"description": "2018 Data Science Bowl, stage 1, as prepared by genseg"},
        "licenses": [
            {"id": 1, "name": "CC0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}
        ],
        "images": records,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "nucleus"}],
    }
    return coco, empty


def read_masks(
    source: Source, field: Field, *, height: int, width: int
) -> Iterator[tuple[str, UInt8[np.ndarray, "h w"]]]:
    """Name and 0/1 pixels of each mask of an image; SourceError for one of another size than the
    image."""
    for name in field.masks:
        pixels = np.asarray(_open(source.read(name), name).convert("L"))
        if pixels.shape != (height, width):
            got = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise SourceError(
                f"{name} is {got}, its image {width}x{height}: the archive is mixed up"
            )
        yield name, (pixels > 0).astype(np.uint8)


def annotation(annotation_id: int, image_id: int, mask: UInt8[np.ndarray, "h w"]) -> dict[str, Any]:
    """One COCO annotation of a mask that has pixels. Box: x, y, width, height in pixels."""
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "area": int(coco_mask.area(rle)),
        "bbox": [float(v) for v in coco_mask.toBbox(rle)],
        "segmentation": {
            "size": [int(v) for v in rle["size"]],
            "counts": rle["counts"].decode("ascii"),
        },
    }


def _open(data: bytes, name: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        return image
    except BROKEN_IMAGE as error:
        raise SourceError(f"{name} cannot be decoded ({error}): fetch the archive again") from error


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 with a message."""
    args = arguments(argv)
    return exit_code("prepare_dsb2018.py", partial(prepare, args.source, args.out))


if __name__ == "__main__":
    sys.exit(main())
