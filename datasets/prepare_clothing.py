"""Photographs of clothes as class folders: OUT/{train,validation,test}/CLASS/IMAGE."""

import argparse
import io
import sys
from collections import Counter
from functools import partial
from pathlib import Path

from PIL import Image, ImageOps
from sources import (
    BROKEN_IMAGE,
    SourceError,
    already_prepared,
    class_folders,
    exit_code,
    open_source,
    publish,
)

SPLITS = ("train", "validation", "test")

EPILOG = """\
examples
  python datasets/prepare_clothing.py clothing-dataset-small-master.zip    copy
  python datasets/prepare_clothing.py FOLDER --short-side 144              shrink: less to read
  python datasets/prepare_clothing.py FOLDER --link                         link: FOLDER has to stay

The set is "clothing-dataset-small" (CC0): https://github.com/alexeygrigorev/clothing-dataset-small
Any other set of that layout works too: .../SPLIT/CLASS/IMAGE, with a split `train` and, where it
has them, `validation` and `test`.

then
  genseg pretrain --config simclr data.path=datasets/clothing/train run=runs/clothing

Running the script again does nothing when OUT is already made from the same source in the same way.
"""


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The parsed command line; exits with code 2 on a wrong one."""
    parser = argparse.ArgumentParser(
        prog="prepare_clothing.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, help="a zip archive or a folder")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--link", action="store_true", help="symbolic links instead of copies; SOURCE is a folder"
    )
    how.add_argument(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="shrink larger images to this; none is enlarged",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "clothing",
        help="folder to make (default: clothing beside this script)",
    )
    args = parser.parse_args(argv)
    if args.short_side is not None and args.short_side < 1:
        parser.error(f"--short-side {args.short_side}: give a number of pixels, such as 144")
    return args


def prepare(path: Path, out: Path, *, link: bool, short_side: int | None) -> None:
    """Make `out` from the class folders in `path`."""
    if link and not path.is_dir():
        raise SourceError(f"--link needs a folder, and {path} is none: leave --link out")
    how = "link" if link else "copy" if short_side is None else f"short side {short_side}"
    broken: list[str] = []
    with open_source(path) as source:
        record = {"script": "prepare_clothing", "source": source.fingerprint(), "how": how}
        if already_prepared(out, record):
            return
        found = class_folders(source, required=SPLITS[:1], optional=SPLITS[1:])
        with publish(out, record) as folder:
            for image in found:
                target = image.target(folder)
                if link:
                    target.symlink_to((path / image.name).absolute())
                elif short_side is None:
                    target.write_bytes(source.read(image.name))
                elif not shrink(source.read(image.name), target, short_side):
                    broken.append(image.name)
    counts = Counter(image.split for image in found)
    parts = [f"{split} {counts[split]:,} images" for split in SPLITS if counts[split]]
    print(f"{out}: {', '.join(parts)} in {len({image.label for image in found})} classes")
    if broken:
        print(
            f"note: {len(broken):,} could not be decoded and are copied as they are, such as "
            f"{broken[0]}"
        )


def shrink(data: bytes, target: Path, short_side: int) -> bool:
    """Write the image upright with at most this short side; the bytes as they are when it is small
    or broken.

    False when it is broken.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            scale = short_side / min(image.size)
            if scale < 1:
                upright = ImageOps.exif_transpose(image)
                plain = upright if upright.mode in ("RGB", "L") else upright.convert("RGB")
                size = (max(1, round(plain.width * scale)), max(1, round(plain.height * scale)))
                plain.resize(size, Image.Resampling.LANCZOS).save(target, quality=95)
                return True
    except BROKEN_IMAGE:
        target.write_bytes(data)
        return False
    target.write_bytes(data)
    return True


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 with a message."""
    args = arguments(argv)
    work = partial(prepare, args.source, args.out, link=args.link, short_side=args.short_side)
    return exit_code("prepare_clothing.py", work)


if __name__ == "__main__":
    sys.exit(main())
