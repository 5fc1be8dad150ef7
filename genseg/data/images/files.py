"""Lists of image files, and the right RGB pixels of each."""

import hashlib
import os
import posixpath
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genseg.core.paths import exists, expand, file_bytes
from genseg.core.reading import Reading, current, kept_reading
from genseg.data.images.coco_files import YAML, coco_folders, find_file, load_json
from genseg.data.images.counted import images_in
from genseg.data.images.decode import TIFFS, ZARR, regular

MIRAX = ".mrxs"  # its pixels lie in a folder beside it
# of scanners' whole slides, which OpenSlide reads
SLIDES = (".bif", MIRAX, ".ndpi", ".scn", ".svs", ".svslide", ".vms")
SUFFIXES = (
    *SLIDES,
    ".bmp",
    ".gif",
    ".jfif",
    ".jpeg",
    ".jpg",
    ".npy",
    ".npz",
    ".pgm",
    ".png",
    ".ppm",
    *TIFFS,
    ".webp",
)
PIECE = 16 * 1024  # bytes; a file of up to four pieces is hashed whole, a longer one by four pieces


Window = tuple[int, int, int, int]
_Image = tuple[str, int]  # a file, and which of its images; 0: the only one


@dataclass(frozen=True)
class ImageList:
    """Image files below a root.

    files: POSIX paths relative to root (an absolute path stays one), sorted
    labels: one index into `classes` per file, or None
    classes: sorted names; empty without labels
    numbers: the ids of the images in a COCO json, where each has one that is a whole number; else
        None
    windows: the part of its file that each image is, (top, left, height, width) in pixels; None:
        all of it, of one image or of each
    pages: which image of its file each is, from 1; 0: the only one; None: all are
    reading: how the files are read
    """

    root: Path
    files: tuple[str, ...]
    labels: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    numbers: tuple[int, ...] | None = None
    windows: tuple[Window | None, ...] | None = None
    pages: tuple[int, ...] | None = None
    reading: Reading = Reading()

    def __len__(self) -> int:
        return len(self.files)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where all files lie."""
        return tuple(self.root / file for file in self.files)

    def path(self, i: int) -> Path:
        """Where the i-th file lies."""
        return self.root / self.files[i]

    def number(self, i: int) -> int:
        """The id of the i-th image: that of the json, or else its place, from 1 on."""
        return i + 1 if self.numbers is None else self.numbers[i]

    def page(self, i: int) -> int:
        """Which image of its file the i-th is, from 1; 0: the only one."""
        return 0 if self.pages is None else self.pages[i]

    def name(self, i: int) -> str:
        """The i-th image as it is told: its file, and which of its images."""
        return f"{self.files[i]} (image {self.page(i)})" if self.page(i) else self.files[i]

    def bytes(self, i: int) -> int:
        """The size of the i-th file, of a folder that of all its files; -1 where it is missing."""
        try:
            parts = _parts(self.path(i))
            return sum(size for _, size, _ in parts) if parts else self.path(i).stat().st_size
        except OSError:
            return -1


def list_images(path: str | Path, folder: Path | None = None) -> ImageList:
    """The images of a folder tree, a .txt list or a COCO .json, as `list_files` finds them, of the
    pages and channels that are said (`reading.current`); broken files are listed too.

    folder: where else the images of a json may lie

    Raises ValueError where a file holds more than is said what to use of, and as that does.
    """
    listed = list_files(path) if folder is None else _from_coco(expand(path), folder)
    reading = current().over(listed.reading)
    if listed.pages is not None:
        return replace(listed, reading=reading)
    counts = images_in(listed.paths, reading)
    if max(counts, default=1) == 1:
        return replace(listed, reading=reading)
    which = [i for i, count in enumerate(counts) for _ in range(count)]
    return ImageList(
        listed.root,
        tuple(listed.files[i] for i in which),
        None if listed.labels is None else tuple(listed.labels[i] for i in which),
        listed.classes,
        pages=tuple(page for n in counts for page in (range(1, n + 1) if n > 1 else (0,))),
        reading=reading,
    )


def list_files(path: str | Path) -> ImageList:
    """The images of a folder tree, a .txt list or a COCO .json, each file as one. None is opened:
    broken files are listed too.

    Folder: every file with an image's suffix; hidden files and folders are left out, links
    followed. When all lie in sub-folders directly under the root, two or more, the folder's name is
    the class. List: one path per line, absolute or relative to the list's folder; optionally a tab
    and a class on each. A line that begins with # and is no file's name is a comment. COCO: each
    `file_name` relative to `images/` beside the json, else to the json's folder; where none of them
    is there, all relative to the split's folder (`coco_folders`); no labels. A file with an image's
    suffix: that image alone.

    Raises ValueError when there is no such path, no image, or a list that cannot be understood.
    """
    path = expand(path)
    if path.suffix.lower() == ZARR and path.is_dir():
        return ImageList(path.parent, (path.name,))
    if path.is_dir():
        return _from_folder(path)
    if not path.exists():
        raise ValueError(
            f"{path} does not exist; give a folder of images, a .txt list or a COCO .json"
        )
    if path.suffix.lower() in SUFFIXES:
        return ImageList(path.parent, (path.name,))
    if path.suffix.lower() in YAML:
        raise ValueError(
            f"{path} is YOLO's: give the folder of its images, or make a COCO json of it with its "
            f"labels: genseg convert {path} --to coco --out FILE.json"
        )
    readers = {".txt": _from_text, ".json": _from_coco}
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"{path} is neither a folder, nor a .txt list, nor a COCO .json; give one of these"
        )
    return readers[path.suffix.lower()](path)


def walk(root: Path) -> tuple[list[str], Counter[str]]:
    """Sorted relative paths of all images below root, and how many other files there are of each
    suffix.

    Links are followed, except one to a folder that holds it, which would never end. Hidden files
    and folders, and run directories of genseg, which hold pictures, are left out. Raises ValueError
    for a folder that cannot be read.
    """
    images: list[str] = []
    others: Counter[str] = Counter()
    pending = [("", frozenset([_identity(os.stat(root))]))]
    while pending:
        prefix, above = pending.pop()
        try:
            entries = list(os.scandir(root / prefix))
        except OSError as error:
            raise ValueError(f"cannot read the folder {root / prefix}: {error.strerror}") from error
        if prefix and {"config.yaml", "checkpoints"} <= {entry.name for entry in entries}:
            others["run of genseg"] += 1
            continue
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith("."):
                continue
            if suffix == ZARR:  # a folder that is an image
                images.append(prefix + entry.name)
            elif _is_folder(entry):
                if (identity := _identity(entry.stat())) not in above:
                    pending.append((f"{prefix}{entry.name}/", above | {identity}))
            elif suffix in SUFFIXES:
                images.append(prefix + entry.name)
            else:
                others[suffix or "no suffix"] += 1
    return sorted(images), others


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: left to the reader, which says so
        return False


def _from_folder(root: Path) -> ImageList:
    files, others = walk(root)
    if not files:
        found = ", ".join(f"{n} {suffix}" for suffix, n in others.most_common(5)) or "no files"
        raise ValueError(
            f"no images in {root}: looked for {' '.join(SUFFIXES)} in it and its sub-folders "
            f"(hidden ones left out) and found {found}"
        )
    parts = [f.split("/") for f in files]
    if all(len(p) == 2 for p in parts) and len({p[0] for p in parts}) > 1:
        return _labelled(root, dict(zip(files, (p[0] for p in parts), strict=True)))
    return ImageList(root, tuple(files))


def _labelled(root: Path, names: Mapping[str, str]) -> ImageList:
    """names: file -> class."""
    files, classes = sorted(names), sorted(set(names.values()))
    number = {name: n for n, name in enumerate(classes)}
    return ImageList(root, tuple(files), tuple(number[names[f]] for f in files), tuple(classes))


def _from_text(path: Path) -> ImageList:
    names: dict[str, str] = {}
    first: dict[str, int] = {}  # file -> line
    for n, raw in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        where = f"{path}, line {n}"
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{where}: not UTF-8 ({error.reason}); save the list as UTF-8"
            ) from error
        if not line.strip() or (line.startswith("#") and not exists(path.parent / line.strip())):
            continue
        name, *label = (part.strip() for part in line.split("\t"))
        if not name or len(label) > 1 or label == [""]:
            raise ValueError(f"{where}: {line!r} is not a path, or a path, one tab and a class")
        if "\0" in name:
            raise ValueError(f"{where}: a path cannot hold a zero byte; save the list as UTF-8")
        name = posixpath.normpath(name)
        if name in names:
            raise ValueError(f"{where}: {name} is on line {first[name]} already; list a file once")
        names[name], first[name] = (label or [""])[0], n
        if bool(label) != bool(next(iter(names.values()))):
            other = next(iter(first.values()))
            raise ValueError(
                f"{where} and line {other}: one has a class, one has none; give one to all"
            )
    if not names:
        raise ValueError(
            f"{path} lists no images; write one path per line, relative to {path.parent}"
        )
    if not any((path.parent / name).exists() for name in names):
        raise ValueError(
            f"{path}: none of its {len(names)} images is there, the first is {next(iter(names))}; "
            f"write a path on each line, absolute or relative to {path.parent}, and a class after "
            "a tab"
        )
    if "" in names.values():
        return ImageList(path.parent, tuple(sorted(names)))
    return _labelled(path.parent, names)


def _from_coco(path: Path, where: Path | None = None) -> ImageList:
    """where: a folder of its images, beside `coco_folders`"""
    content = load_json(path)
    entries = content.get("images") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError(
            f'{path} is no COCO json: it needs a list "images" with at least one entry'
        )
    folders = (*coco_folders(path), *((where / "images", where) if where else ()))
    inside, beside, *others = folders
    names: dict[_Image, Any] = {}  # and their ids
    files: dict[_Image, Any] = {}
    for n, entry in enumerate(entries):
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            raise ValueError(f'{path}: images[{n}] has no "file_name"')
        page = page_of(entry)
        name = posixpath.normpath(find_file(name, folders)[1])
        file = (
            name
            if exists(beside / name) and not exists(inside / name)
            else posixpath.join("images", name)
        )
        if (file, page) in files:
            raise ValueError(f"{path}: images[{n}] repeats the file_name {name}; list a file once")
        names[name, page] = files[file, page] = entry.get("id")
    reading = kept_reading(content) or Reading()
    if any(exists(beside / file) for file, _ in files):
        return _numbered(beside, files, reading)
    for folder in others:
        if any(exists(folder / name) for name, _ in names):
            return _numbered(folder, names, reading)
    raise ValueError(
        f"{path}: none of its {len(names)} images is there, the first is {next(iter(names))[0]}; "
        f"looked in {', '.join(map(str, folders))}: move or link the images to one of these, or "
        "give their folder in its place"
    )


def page_of(entry: Mapping[str, Any]) -> int:
    """Which image of its file the entry of a json is, from 1; 0 where it says nothing."""
    page = entry.get("page")
    return page if type(page) is int and page > 0 else 0


def _numbered(root: Path, numbers: Mapping[_Image, Any], reading: Reading) -> ImageList:
    """numbers: file and which of its images -> id."""
    listed = sorted(numbers)
    ids = tuple(numbers[image] for image in listed)
    known = all(type(n) is int and n >= 0 for n in ids) and len(set(ids)) == len(ids)
    pages = tuple(page for _, page in listed)
    return ImageList(
        root,
        tuple(file for file, _ in listed),
        numbers=ids if known else None,
        pages=pages if any(pages) else None,
        reading=reading,
    )


def fingerprint(images: ImageList) -> str:
    """32 hexadecimal digits that change when a name, a size or the content of a file changes.

    Independent of where the root lies, and of dates, but where files in a folder are an image (a
    zarr, a .mrxs). Of a file over 64 KiB four pieces of 16 KiB are read: where compressed pixels
    change, so does the size or what follows; a few pixels of a large uncompressed file may escape.
    """
    total = hashlib.blake2b(digest_size=16)
    with ThreadPoolExecutor(8) as pool:  # they hide the latency of a disk or a network
        parts = [range(i, min(i + 256, len(images))) for i in range(0, len(images), 256)]
        for digest in pool.map(lambda part: b"".join(_digest(images, i) for i in part), parts):
            total.update(digest)
    if images.pages is not None or images.reading.said:
        total.update(repr((images.pages, images.reading)).encode())
    if images.windows is not None:  # of which the classes are known, and learnt from
        total.update(repr((images.windows, images.labels, images.classes)).encode())
    return total.hexdigest()


def listing(images: ImageList) -> str:
    """32 hexadecimal digits that change when a name or an id changes; the files may change, and
    need not be there."""
    total = hashlib.blake2b(digest_size=16)
    for i, file in enumerate(images.files):
        total.update(file_bytes(file) + b"\0%d\0" % images.number(i))
    if images.pages is not None or images.reading.said:
        total.update(repr((images.pages, images.reading)).encode())
    return total.hexdigest()


def _parts(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and date of the files that an image is made of, where they lie in a folder: of a
    zarr the folder itself, of a .mrxs the one beside it. Else none. Raises OSError."""
    suffix = path.suffix.lower()
    folder = path if suffix == ZARR else path.with_suffix("")
    if suffix not in (ZARR, MIRAX) or not folder.is_dir():
        return []
    files = [file for file in folder.rglob("*") if file.is_file()]
    files += [path] if suffix == MIRAX else []
    named = sorted((os.path.relpath(file, path.parent), file.stat()) for file in files)
    return [(name, state.st_size, state.st_mtime_ns) for name, state in named]


def _digest(images: ImageList, i: int) -> bytes:
    found = hashlib.blake2b(file_bytes(images.files[i]), digest_size=16)
    try:
        if parts := _parts(images.path(i)):
            found.update(b"\0parts")
            for name, size, changed in parts:
                found.update(file_bytes(name) + b"\0%d %d\0" % (size, changed))
            return found.digest()
        with open(images.path(i), "rb", buffering=0, opener=regular) as file:
            size = os.fstat(file.fileno()).st_size
            found.update(b"\0%d\0" % size)
            if size <= 4 * PIECE:
                found.update(file.read())
            else:
                for quarter in range(4):
                    file.seek(quarter * (size - PIECE) // 3)
                    found.update(file.read(PIECE))
    # missing or forbidden: it is one of the broken ones until that changes
    except OSError as error:
        found.update(b"\0error %d" % (error.errno or 0))
    except ValueError:  # a null in its name, or no regular file
        found.update(b"\0error")
    return found.digest()
