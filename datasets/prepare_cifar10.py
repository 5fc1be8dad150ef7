"""CIFAR-10 as class folders: OUT/{train,test}/CLASS/IMAGE."""

import argparse
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from sources import (
    SourceError,
    already_prepared,
    class_folders,
    exit_code,
    fetch,
    file_md5,
    open_source,
    publish,
    read_bounded,
)

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
# as the page https://www.cs.toronto.edu/~kriz/cifar.html says
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FULL = {"train": 50_000, "test": 10_000}
# bytes of one image in the binary version: label, then the red, green and blue planes
ROW = 1 + 3 * 32 * 32

EPILOG = """\
examples
  python datasets/prepare_cifar10.py cifar10.zip            {train,test}/CLASS/*.jpg, or that folder
  python datasets/prepare_cifar10.py cifar-10-binary.tar.gz the official binaries, written as PNG
  python datasets/prepare_cifar10.py --download             the same, fetched first (162 MB)

then
  genseg pretrain --config simclr data.path=datasets/cifar10/train run=runs/cifar10

The official Python version (data_batch_1 ... without .bin) is not read: it is made of pickles, and
unpickling runs whatever code a file holds. Running the script again does nothing when OUT is made
from the same source.
"""


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The parsed command line; exits with code 2 on a wrong one."""
    parser = argparse.ArgumentParser(
        prog="prepare_cifar10.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, nargs="?", help="a zip, a folder or the binary tar.gz")
    parser.add_argument(
        "--download", action="store_true", help=f"fetch {URL} and keep it beside OUT"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "cifar10",
        help="folder to make (default: cifar10 beside this script)",
    )
    args = parser.parse_args(argv)
    if (args.source is None) != args.download:
        parser.error("give either a SOURCE or --download")
    return args


def prepare(source: Path | None, out: Path) -> None:
    """Make `out` from `source`, or from the download when it is None."""
    if source is None:
        if already_prepared(out, _record(MD5)):
            return
        source = out.parent / PurePosixPath(URL).name
        fetch(URL, source, MD5)
    if source.is_file() and tarfile.is_tarfile(source):
        _from_binary(source, out)
    else:
        _from_class_folders(source, out)


def _record(fingerprint: str) -> dict[str, str]:
    return {"script": "prepare_cifar10", "source": fingerprint}


def _from_class_folders(path: Path, out: Path) -> None:
    with open_source(path) as source:
        record = _record(source.fingerprint())
        if already_prepared(out, record):
            return
        found = class_folders(source, required=tuple(FULL))
        for split in FULL:
            wrong = sorted({image.label for image in found if image.split == split} ^ set(CLASSES))
            if wrong:
                raise SourceError(
                    f"{path} is not CIFAR-10: {split}/ lacks, or should not have, "
                    f"{', '.join(wrong)}"
                )
        with publish(out, record) as folder:
            for image in found:
                image.target(folder).write_bytes(source.read(image.name))
    _say(out, Counter(image.split for image in found))


def _from_binary(path: Path, out: Path) -> None:
    record = _record(file_md5(path))
    if already_prepared(out, record):
        return
    counts: Counter[str] = Counter()
    with publish(out, record) as folder:
        for split in FULL:
            for label in CLASSES:
                (folder / split / label).mkdir(parents=True)
        for split, index, pixels in binary_images(path):
            target = folder / split / CLASSES[index] / f"{counts[split]:05d}.png"
            Image.fromarray(pixels).save(target)
            counts[split] += 1
    _say(out, counts)


def binary_images(path: Path) -> Iterator[tuple[str, int, UInt8[np.ndarray, "32 32 3"]]]:
    """Split, label and uint8 `32 32 3` pixels of every image of the binary version, in its order.

    Raises SourceError for another archive. Nothing is unpacked to disk and nothing is unpickled.
    """
    with tarfile.open(path) as archive:
        members = {PurePosixPath(m.name).name: m for m in archive if m.isfile()}
        if "data_batch_1" in members:
            raise SourceError(
                f"{path} is the Python version, made of pickles, which are not read: use {URL}"
            )
        batches = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
        missing = [name for name in batches if name not in members]
        if missing:
            raise SourceError(
                f"{path} is not the binary version of CIFAR-10: it has no {', '.join(missing)}"
            )
        for name in batches:
            file = archive.extractfile(members[name])
            assert file is not None  # it is a regular file
            split = "test" if name == "test_batch.bin" else "train"
            for label, pixels in _rows(
                read_bounded(file, f"{name} in {path}"), f"{name} in {path}"
            ):
                yield split, label, pixels


def _rows(data: bytes, name: str) -> Iterator[tuple[int, UInt8[np.ndarray, "32 32 3"]]]:
    if len(data) % ROW:
        raise SourceError(
            f"{name} has {len(data)} bytes, no multiple of {ROW}: it is cut off or another file"
        )
    rows = np.frombuffer(data, np.uint8).reshape(-1, ROW)
    if len(rows) and rows[:, 0].max() >= len(CLASSES):
        raise SourceError(
            f"{name} has label {rows[:, 0].max()}; CIFAR-10 has 0 to {len(CLASSES) - 1}"
        )
    for row in rows:
        yield int(row[0]), np.ascontiguousarray(row[1:].reshape(3, 32, 32).transpose(1, 2, 0))


def _say(out: Path, counts: Counter[str]) -> None:
    print(f"{out}: " + ", ".join(f"{split} {counts[split]:,} images" for split in FULL))
    if counts != Counter(FULL):
        print(f"note: the full set has {FULL['train']:,} and {FULL['test']:,}")


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 with a message."""
    args = arguments(argv)
    return exit_code("prepare_cifar10.py", partial(prepare, args.source, args.out))


if __name__ == "__main__":
    sys.exit(main())
