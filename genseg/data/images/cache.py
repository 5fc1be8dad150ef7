"""Images decoded once, shrunk, and kept on disk as one memory-mapped file."""

import json
import os
import shutil
import sys
import uuid
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from genseg.core.paths import expand
from genseg.data.images.files import ImageList, fingerprint
from genseg.data.images.source import ImageError, ReadImage, decode_image

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

# of the files and of what `decode` makes of an image: raise it and older caches are made anew
VERSION = 2


class CacheError(ValueError):
    """The cache cannot be made; the message says why and what to do."""


class CachedImages:
    """The images of a finished cache folder, in the order of their list.

    images.bin: all pixels, uint8, one image after the other index.npy: int64 (n, 3), offset in
    bytes, height, width; height 0 marks a broken image meta.json: version, side, number of images,
    bytes, and the broken ones with their reasons; `passing` are those that a disk or a network has
    refused
    """

    def __init__(self, folder: Path) -> None:
        """Raises ValueError or OSError when the folder is not whole."""
        self.folder = folder
        meta = json.loads((folder / "meta.json").read_bytes())
        self.broken: dict[int, str] = {entry["index"]: entry["reason"] for entry in meta["broken"]}
        self.passing = [entry["index"] for entry in meta["broken"] if entry.get("passing")]
        self.index = np.load(folder / "index.npy", allow_pickle=False)
        size = (folder / "images.bin").stat().st_size
        if meta["version"] != VERSION or meta["images"] != len(self.index) or meta["bytes"] != size:
            raise ValueError(f"{folder} is stale or cut short")
        self.channels: int = meta.get("channels", 3)
        sizes = self.index[:, 1] * self.index[:, 2] * self.channels
        ends = np.cumsum(sizes)
        gaps = ends[-1] != size or (self.index[:, 0] != ends - sizes).any()
        if gaps or {*np.flatnonzero(sizes == 0)} != {*self.broken}:
            raise ValueError(f"{folder} is damaged")
        pixels = np.memmap(folder / "images.bin", np.uint8, "r") if size else np.empty(0, np.uint8)
        self._pixels = np.asarray(pixels)  # slices of a memmap are slow

    def __len__(self) -> int:
        return len(self.index)

    def image(self, i: int) -> UInt8[np.ndarray, "h w c"]:
        """The pixels of the i-th image, straight from the mapped file: read-only. It must not be a
        broken one."""
        offset, height, width = self.index[i].tolist()
        assert height, f"image {i} is broken: {self.broken[i]}"
        end = offset + height * width * self.channels
        return self._pixels[offset:end].reshape(height, width, self.channels)

    def __reduce__(self) -> tuple[type["CachedImages"], tuple[Path]]:
        return CachedImages, (self.folder,)  # a copy for another process maps the file again


def cache_folder() -> Path:
    """Where what can be made again is kept: $GENSEG_CACHE, or `genseg` in the user's cache
    folder."""
    if given := os.environ.get("GENSEG_CACHE"):
        return Path(given).absolute()
    if sys.platform == "darwin":
        base = expand("~/Library/Caches")
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or expand("~/AppData/Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or expand("~/.cache"))
    if str(base).startswith("~"):
        raise CacheError(
            "the home folder cannot be determined: set GENSEG_CACHE to a folder for what can be "
            "made again"
        )
    return base / "genseg"


def build_cache(
    images: ImageList,
    *,
    side: int,
    workers: int,
    content: str | None = None,
    read: ReadImage = decode_image,
) -> CachedImages:
    """The images from disk, with a short side of at most `side` pixels (`rgb_pixels` says how they
    are shrunk).

    The first call for a content and a side makes them, by `workers` threads (decoding releases
    Python's lock), in a folder that gets its name when it is whole. Of several processes one works
    while the others wait.

    content: `fingerprint(images)`, where it is known already: it reads every file
    read: reads an image

    Raises CacheError when they cannot be written, as on a full disk; then nothing is left behind.
    """
    if side < 1 or workers < 1:
        raise ValueError(f"side={side} and workers={workers} have to be 1 or more")
    folder = cache_folder() / "images" / f"{content or fingerprint(images)}-{side}"
    if (found := _open(folder, images)) is not None:
        return found
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(folder.with_name(f".{folder.name}.lock")) as alone:
            if (found := _open(folder, images)) is not None:
                return found
            if alone:  # else what lies there may be another's work
                for left in folder.parent.glob(f".{folder.name}.part-*"):
                    shutil.rmtree(left, ignore_errors=True)
            return _build(images, folder, side=side, workers=workers, read=read)
    except OSError as error:
        raise CacheError(
            f"cannot keep decoded images in {folder.parent}: {error.strerror or error}; make room "
            "there, name another folder by the environment variable GENSEG_CACHE, or do without "
            "the cache"
        ) from error


def _open(folder: Path, images: ImageList) -> CachedImages | None:
    """The cache in a folder, or None where there is none that is whole; nor is one whose images can
    be read again."""
    try:
        found = CachedImages(folder)
    # damaged json and npy files raise any
    except (OSError, EOFError, ValueError, LookupError, TypeError):
        return None
    return None if any(_readable(images, i) for i in found.passing) else found


def _readable(images: ImageList, i: int) -> bool:
    try:
        decode_image(images, i)
    except ImageError:
        return False
    return True


@contextmanager
def _only_one(lock: Path) -> Iterator[bool]:
    """Wait until no other process holds the lock; the system takes it from a process that dies.

    Yields False where there are no locks (Windows, some network drives): several may then do the
    same work.
    """
    with lock.open("ab") as file:
        alone = fcntl is not None
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:
                alone = False
        yield alone


def _build(
    images: ImageList, folder: Path, *, side: int, workers: int, read: ReadImage
) -> CachedImages:
    part = folder.with_name(f".{folder.name}.part-{uuid.uuid4().hex[:8]}")
    part.mkdir()
    try:
        _write(images, part, side=side, workers=workers, read=read)
        try:
            part.rename(folder)
        except OSError:  # the name is taken, by another process's work or by a damaged cache
            if (winner := _open(folder, images)) is not None:
                return winner
            shutil.rmtree(folder)
            part.rename(folder)
        return CachedImages(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(images: ImageList, part: Path, *, side: int, workers: int, read: ReadImage) -> None:
    index = np.zeros((len(images), 3), np.int64)
    broken: list[dict[str, int | str]] = []
    end, calm = 0, 0.5 if sys.stderr.isatty() else 30  # seconds between two lines of progress
    with (
        (part / "images.bin").open("wb", buffering=1 << 20) as file,
        closing(_decoded(images, side=side, workers=workers, read=read)) as decoded,
        tqdm(
            total=len(images), desc=f"decoding to {side} px", unit=" images", mininterval=calm
        ) as progress,
    ):
        for i, image in enumerate(decoded):
            if isinstance(image, ImageError):
                reason = str(image).removeprefix(f"{images.path(i)}: ")
                # a disk or a network, not the file
                passing = getattr(image.__cause__, "errno", None) is not None
                broken.append(
                    {"index": i, "file": images.files[i], "reason": reason, "passing": passing}
                )
                progress.set_postfix(broken=len(broken), refresh=False)
                index[i, 0] = end
            else:
                file.write(image.data)
                index[i] = end, *image.shape[:2]
                end += image.nbytes
            progress.update()
        file.flush()
        os.fsync(file.fileno())
    meta: dict[str, Any] = {
        "version": VERSION,
        "side": side,
        "images": len(images),
        "bytes": end,
        "broken": broken,
    }
    if images.reading.inputs != 3:
        meta["channels"] = images.reading.inputs
    with (part / "index.npy").open("wb") as file:
        np.save(file, index)
        os.fsync(file.fileno())
    (part / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", "utf-8")


def _decoded(
    images: ImageList, *, side: int, workers: int, read: ReadImage
) -> Generator[UInt8[np.ndarray, "_ _ c"] | ImageError, None, None]:
    """The images in order, a few of them decoded ahead."""

    def load(i: int) -> UInt8[np.ndarray, "_ _ c"] | ImageError:
        try:
            return read(images, i, short_side=side)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[UInt8[np.ndarray, "_ _ c"] | ImageError]] = deque()
        for i in range(len(images)):
            ahead.append(pool.submit(load, i))
            if len(ahead) > 8 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
