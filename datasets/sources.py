"""What the prepare scripts share: reading a zip or a folder, and making a data folder whole or not
at all."""

import contextlib
import hashlib
import json
import shutil
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from PIL import Image

MOST_OF_A_FILE, MOST_OF_ALL = 2**26, 2**35  # bytes unpacked: 64 MiB of a file, 32 GiB of an archive
RECORD = "prepared.json"  # lies in every prepared folder and says what it was made from
IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

# What Pillow raises for a broken image.
BROKEN_IMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
# RuntimeError: an encrypted zip.
BROKEN_ARCHIVE = (EOFError, RuntimeError, zipfile.BadZipFile, tarfile.TarError, zlib.error)


class SourceError(ValueError):
    """The source or the output folder is not what the script can work with; the message says what
    to do."""


@dataclass(frozen=True)
class Source:
    """The files of a zip archive or a folder."""

    path: Path
    marks: dict[str, str]  # POSIX name -> size and, in an archive, checksum
    read: Callable[[str], bytes]

    def fingerprint(self) -> str:
        """Hex digest of the names, sizes and, in an archive, checksums."""
        listing = "\n".join(f"{name}\t{mark}" for name, mark in sorted(self.marks.items()))
        return hashlib.sha256(listing.encode()).hexdigest()


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """The files in `path`, hidden ones left out.

    Raises SourceError when `path` is neither a folder nor a zip archive, or holds an unsafe name.
    """
    if path.is_dir():
        files = {f.relative_to(path).as_posix(): f for f in sorted(path.rglob("*")) if f.is_file()}
        sizes = {name: str(f.stat().st_size) for name, f in files.items() if _wanted(name)}
        yield Source(path, sizes, lambda name: (path / name).read_bytes())
    elif not path.exists():
        raise SourceError(f"{path} does not exist: give the archive or the folder that you have")
    elif not zipfile.is_zipfile(path):
        raise SourceError(
            f"{path} is neither a folder nor a zip archive: unpack it and give the folder"
        )
    else:
        with zipfile.ZipFile(path) as archive:
            entries = [e for e in archive.infolist() if not e.is_dir() and _wanted(e.filename)]
            marks = {e.filename: f"{e.file_size} {e.CRC}" for e in entries}
            yield Source(path, marks, _Unpacking(archive, path).read)


class _Unpacking:
    """Reads the files of an archive, up to a limit on what comes out; its headers may claim
    less."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self.archive, self.path, self.total = archive, path, 0

    def read(self, name: str) -> bytes:
        with self.archive.open(name) as file:
            data = read_bounded(file, f"{name} in {self.path}")
        self.total += len(data)
        if self.total > MOST_OF_ALL:
            raise SourceError(
                f"{self.path} unpacks to more than {MOST_OF_ALL / 2**30:g} GiB: this is not the "
                "archive it should be; if it is, unpack it yourself and give the folder"
            )
        return data


def read_bounded(file: IO[bytes], name: str) -> bytes:
    """All of a file of an archive. Raises SourceError once it is larger than any file of these
    sets."""
    data = file.read(MOST_OF_A_FILE + 1)
    if len(data) > MOST_OF_A_FILE:
        raise SourceError(
            f"{name} unpacks to more than {MOST_OF_A_FILE / 2**20:g} MiB: this is not the archive "
            "it should be; if it is, unpack it yourself and give the folder"
        )
    return data


def _wanted(name: str) -> bool:
    """False for hidden files and those that macOS adds; SourceError for a name that leads
    outside."""
    parts = PurePosixPath(name).parts
    if ".." in parts or "\\" in name or name.startswith("/"):
        raise SourceError(
            f"{name!r} in the source leads outside it: this is not the archive it should be"
        )
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts)


def images(source: Source) -> list[str]:
    """Names of the image files, sorted."""
    return sorted(
        name for name in source.marks if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
    )


class ClassImage(NamedTuple):
    """One image of a set in class folders."""

    split: str
    label: str
    name: str  # in its source

    def target(self, folder: Path) -> Path:
        """Where it goes in a prepared folder; the folders above are made."""
        path = folder / self.split / self.label / PurePosixPath(self.name).name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def class_folders(
    source: Source, *, required: Sequence[str], optional: Sequence[str] = ()
) -> list[ClassImage]:
    """The images of `.../SPLIT/CLASS/IMAGE`, all splits at one depth.

    Raises SourceError when a required split is missing or a set lies at two places.
    """
    names = images(source)
    found: list[ClassImage] = []
    places: set[str] = set()
    for name in names:
        *place, split, label, _ = ("", "", *PurePosixPath(name).parts)
        if label and split in (*required, *optional):
            found.append(ClassImage(split, label, name))
            places.add("/".join(place))
    missing = [
        f"{split}/CLASS/" for split in required if split not in {image.split for image in found}
    ]
    if missing:
        raise SourceError(
            f"{source.path} has no images in {', '.join(missing)}: give what holds these folders"
        )
    if len(places) > 1:
        one = sorted(place.strip("/") or "." for place in places)
        raise SourceError(
            f"{source.path} holds several sets: give one of the folders {', '.join(one)}"
        )
    if len(names) > len(found):
        unused = len(names) - len(found)
        print(f"note: {unused:,} images lie outside SPLIT/CLASS/ and are left out")
    return found


def already_prepared(out: Path, record: dict[str, Any]) -> bool:
    """Whether `out` was made with this record: then there is nothing to do.

    Raises SourceError when it holds something else, which is never overwritten.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    remedy = "choose another --out, or remove it"
    try:
        have = json.loads((out / RECORD).read_text())
    except (OSError, ValueError):
        raise SourceError(f"{out} exists and was not made by this script: {remedy}") from None
    different = sorted(key for key in {*have, *record} if have.get(key) != record.get(key))
    if different:
        raise SourceError(
            f"{out} was made from something else ({', '.join(different)} differ): {remedy}"
        )
    print(f"{out} is already prepared: nothing to do")
    return True


@contextlib.contextmanager
def publish(out: Path, record: dict[str, Any]) -> Iterator[Path]:
    """A new folder to write into: it becomes `out` when the block ends well, and is removed when
    not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    try:
        folder = temporary / out.name  # not `temporary` itself, which nobody else may read
        folder.mkdir()
        yield folder
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        folder.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def fetch(url: str, target: Path, md5: str) -> None:
    """Download `url` to `target`, unless the right file is there already.

    Raises SourceError when what came has another checksum, OSError when nothing came.
    """
    if target.is_file() and file_md5(target) == md5:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    print(f"downloading {url}", flush=True)
    try:
        with urllib.request.urlopen(url, timeout=60) as response, part.open("wb") as file:
            shutil.copyfileobj(response, file, 1 << 20)
        got = file_md5(part)
        if got != md5:
            raise SourceError(
                f"{url} came with MD5 {got} instead of {md5}: broken on the way, try again"
            )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def file_md5(path: Path) -> str:
    """Hex MD5 of a file: the checksum that the sources publish, against damage and not against
    malice."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def exit_code(script: str, work: Callable[[], None]) -> int:
    """Run `work`: 0 when it went well, 2 and one line on stderr when the user has to change
    something."""
    try:
        work()
    except (SourceError, OSError, *BROKEN_ARCHIVE) as error:
        print(f"{script}: error: {error or type(error).__name__}", file=sys.stderr)
        return 2
    return 0
