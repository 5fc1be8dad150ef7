"""The images of a COCO json, each checked before its labels are used."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from genseg.core.paths import exists
from genseg.data.images.coco_files import CocoError, coco_folders, find_file
from genseg.data.images.decode import read_file, reason_of
from genseg.data.images.files import page_of
from genseg.data.images.kind import kind_of
from genseg.data.images.source import decoded_size
from genseg.data.instances.coco import file_key
from genseg.data.labels.findings import Tally
from genseg.data.regions.opened import by_windows, open_regions


@dataclass(frozen=True)
class Entry:
    """An image of a json that can be used. record: as the json has it."""

    path: Path
    name: str
    number: int
    height: int
    width: int
    kind: str
    record: Mapping[str, Any]
    page: int = 0  # which image of its file, from 1; 0: the only one

    @property
    def title(self) -> str:
        """The name, and which image of its file it is where the json says so."""
        return f"{self.name} (image {self.page})" if self.page else self.name


def by_decoding(entry: Entry) -> tuple[int, int]:
    """Height and width of an image that can be read to its end: training would end at a truncated
    one. Of one that is read by windows its header alone is read."""
    if by_windows(entry.path):
        return open_regions(entry.path, image=entry.page).levels[0]
    return decoded_size(entry.path, entry.page)


def by_header(entry: Entry) -> tuple[int, int]:
    """Height and width by the header of its file; the json's where that cannot be read."""
    try:
        if by_windows(entry.path):
            return open_regions(entry.path, image=entry.page).levels[0]
        kind = kind_of(read_file(entry.path))
    except Exception as error:  # damaged files make PIL's plugins raise nearly anything
        if entry.height and entry.width:
            return entry.height, entry.width
        raise ValueError(
            f"the json gives no height and width, and of its file: {reason_of(error)}"
        ) from None
    return kind.height, kind.width


def by_json(entry: Entry) -> tuple[int, int]:
    """Height and width as the json has them; by the header of its file where it has none."""
    return (entry.height, entry.width) if entry.height and entry.width else by_header(entry)


def usable_images(
    images: Sequence[Any],
    source: Path,
    tally: Tally,
    *,
    folders: Sequence[Path] | None = None,
    size: Callable[[Entry], tuple[int, int]] = by_decoding,
) -> dict[int, Entry]:
    """The images of a json by id. Raises CocoError when one has no id or file name, one id is two
    files, or none can be used.

    folders: where their files lie (None: `coco_folders`)
    size: says how large an image is; raises ValueError where it cannot be used
    """
    folders = coco_folders(source) if folders is None else folders
    entries: dict[int, Entry] = {}
    files: dict[tuple[Any, int], int] = {}
    for n, image in enumerate(images):
        entry = _entry(image, n, source, folders)
        number, name, key = entry.number, entry.name, (file_key(entry.name), entry.page)
        if number in entries:
            if (file_key(entries[number].name), entries[number].page) != key:
                raise CocoError(
                    f"{source}: image {number} is both {entries[number].name} and {name}; give "
                    "each image an id of its own"
                )
            tally.add("twice", f"{name}, image {number}")
        elif key in files:
            tally.add("same file", f"{name}, images {files[key]} and {number}")
        else:
            files[key] = number
            entries[number] = entry
    with ThreadPoolExecutor(8) as pool:  # decoding leaves the interpreter to the others
        found = dict(
            zip(
                entries,
                pool.map(lambda entry: _checked(entry, size), entries.values()),
                strict=True,
            )
        )
    for number, (kind, where, _) in found.items():
        if kind:
            tally.add(kind, f"{entries[number].name}: {where}")
    usable = {number: entry for number, (kind, _, entry) in found.items() if not kind}
    if not usable:
        first = next(
            (f"; the first is {entries[n].name}: {where}" for n, (_, where, _) in found.items()), ""
        )
        why = "" if images else " lists no image"
        remedy = _remedy([(kind, entry) for kind, _, entry in found.values()], folders)
        raise CocoError(
            f"{source}{why}: none of its {len(images)} images can be used{first}{remedy}"
        )
    return usable


def _remedy(unusable: Sequence[tuple[str, Entry]], folders: Sequence[Path]) -> str:
    """What to do where no image of a json can be used: each has what is wrong with it."""
    if unusable and all(kind == "size" for kind, _ in unusable):
        return ". Give the json the height and width of its files, or its own images"
    if any(exists(entry.path) for _, entry in unusable):
        return ""  # what is there was refused: why says it
    return f". Looked in {', '.join(map(str, folders))}: move or link the images to one of these"


def _entry(image: Any, n: int, source: Path, folders: Sequence[Path]) -> Entry:
    """The image at place n of a json."""
    try:
        number, name = as_number(image["id"]), str(image["file_name"])
        if not isinstance(number, int):
            raise TypeError(f"the id {number!r} is no whole number")
        height, width = int(image.get("height") or 0), int(image.get("width") or 0)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CocoError(
            f"{source}: images[{n}] needs an id, a file_name, height and width: {error!r}"
        ) from None
    path, name = find_file(name, folders)
    kind = str(image.get("kind", ""))
    return Entry(path, name, number, height, width, kind, image, page_of(image))


def _checked(entry: Entry, size: Callable[[Entry], tuple[int, int]]) -> tuple[str, str, Entry]:
    """What is wrong with an image (a kind of KINDS, or nothing), where, and the image with its
    size."""
    try:
        height, width = size(entry)
    except ValueError as error:
        return "missing", str(error), entry
    said = entry.height, entry.width
    if said not in ((0, 0), (height, width)):
        where = f"json {said[1]} x {said[0]}, file {width} x {height}"
        return (
            "size",
            where + (_why_swapped(entry.path, said) if said == (width, height) else ""),
            entry,
        )
    return "", "", replace(entry, height=height, width=width)


def _why_swapped(path: Path, said: tuple[int, int]) -> str:
    """Why a json has the height of an image for its width."""
    with Image.open(path) as image:
        turned = image.size == said[::-1]
    return " (as its EXIF turns it)" if turned else " (height and width are swapped)"


def as_number(said: Any) -> Any:
    """A json's id, as a whole number where it is one in quotes, or with a point, as pandas writes
    them."""
    if isinstance(said, float) and said.is_integer():
        return int(said)
    return int(said) if isinstance(said, str) and said.isdecimal() else said
