"""What genseg generate and genseg predict keep of each image as soon as it is there: a row of
json."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from genseg.core.files import write_text
from genseg.core.names import BROKEN_NAME, PARTS, ROWS_NAME
from genseg.core.reading import Reading, words_of
from genseg.core.threads import in_order
from genseg.core.words import amount
from genseg.data.images.files import ImageList
from genseg.data.images.source import ImageError
from genseg.data.regions.opened import looked_at
from genseg.data.regions.scene import Scene
from genseg.data.regions.scope import Scope
from genseg.workflows.generate.shrinking import Shrinking

INSTANCE = ((1, "instance"),)  # the only category of instances without a label
MOST = 100_000  # annotation ids of an image: its own id times this, plus 1, 2, ... best first
MORE = 10**12  # the same, from the MOST-th on
Pixels = UInt8[np.ndarray, "h w c"]


def number_of(image: int, place: int) -> int:
    """The id of an annotation of an image by its place, from 1 on: no other image has it."""
    return image * (MOST if place < MOST else MORE) + place


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a part; none when there is no such file. A line that a kill or a disk has
    damaged is left out: its image is looked at again."""
    rows = []
    for line in file.read_bytes().splitlines(keepends=True) if file.exists() else ():
        with contextlib.suppress(ValueError):
            if line.endswith(b"\n") and isinstance(row := json.loads(line), dict):
                rows.append(row)
    return rows


def rows_of(files: Iterable[Path]) -> list[dict[str, Any]]:
    """One row for each image, by id. Parts of different counts may hold the same image, and one
    part two looks at it: the last one that could read it counts."""
    rows: dict[int, dict[str, Any]] = {}
    for row in (row for file in files for row in read_rows(file)):
        if "broken" not in row or row["id"] not in rows:
            rows[row["id"]] = row
    return [rows[number] for number in sorted(rows)]


def part_files(out: Path) -> list[Path]:
    """The files of all parts, whatever their count, the latest last."""
    return sorted((out / PARTS).glob("*-of-*.jsonl"), key=lambda f: (f.stat().st_mtime, f.name))


def rows_so_far(out: Path) -> list[dict[str, Any]]:
    """What genseg generate or genseg predict, whichever has written last, has found so far."""
    files = sorted((*part_files(out), *out.glob(ROWS_NAME)), key=lambda f: f.stat().st_mtime)
    return rows_of(f for f in files if f.parent == files[-1].parent)


def unseen(rows: Iterable[Mapping[str, Any]], images: ImageList, mine: Iterable[int]) -> list[int]:
    """Which images of `mine` have to be looked at: those without a row, or of another size in it,
    or broken then."""
    done = {row["id"]: row.get("bytes") for row in rows if "broken" not in row}
    return [
        i for i in mine if images.number(i) not in done or done[images.number(i)] != images.bytes(i)
    ]


def decoded(
    images: ImageList, todo: Sequence[int], pool: ThreadPoolExecutor, scope: Scope, folder: Path
) -> Iterator[tuple[int, Pixels | Scene | ImageError]]:
    """The images in order, the next one decoded while the last one is worked on.

    folder: what the tiles of large images have shown is kept there, below it for each image
    """

    def load(i: int) -> tuple[int, Pixels | Scene | ImageError]:
        try:
            kept = folder / f"{images.number(i)}-{images.bytes(i)}"
            return i, looked_at(images, i, scope, kept)
        except ImageError as error:
            return i, error

    return in_order(pool, load, todo, ahead=2)


def as_coco(
    rows: Sequence[Mapping[str, Any]],
    categories: Sequence[tuple[int, str]] = INSTANCE,
    *,
    shrinking: Shrinking | None = None,
    more: str = "",
    reading: Reading | None = None,
) -> dict[str, Any]:
    """The COCO json of what was found, image by image; those that cannot be read are left out.

    more: a note on the files; reading: how they were read
    """
    whole = [row for row in rows if "broken" not in row]
    names = ("id", "file_name", "page", "width", "height", "mask")
    info = shrinking.said((row["height"], row["width"]) for row in whole) if shrinking else {}
    notes = [note for note in (more, *info.get("notes", ())) if note]
    info = {**info, "notes": notes} if notes else {}
    info |= words_of(reading) if reading else {}
    return {
        **({"info": info} if info else {}),
        "images": [{k: row[k] for k in names if k in row} for row in whole],
        "annotations": [a for row in whole for a in row.get("annotations", ())],
        "categories": [{"id": number, "name": name} for number, name in categories],
    }


def notes_of(content: Mapping[str, Any]) -> list[str]:
    """What a json of genseg says, in its `info`, of how its images were looked at."""
    info = content.get("info")
    notes = info.get("notes") if isinstance(info, dict) else None
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []


def keep_rows(
    file: Path,
    rows: Iterable[Mapping[str, Any]],
    *,
    done: int,
    total: int,
    name: str,
    after: Callable[[], object],
) -> None:
    """Write each row as soon as it is there. `done` of `total` images have one already; after:
    called after each.

    Raises KeyboardInterrupt, which says where the work stands, when it is interrupted.
    """
    calm = 0.5 if os.isatty(2) else 30
    with (
        file.open("a") as kept,
        tqdm(total=total, initial=done, unit=" images", mininterval=calm, desc=name) as progress,
    ):
        try:
            for row in rows:
                kept.write(json.dumps(row) + "\n")
                kept.flush()
                done += 1
                progress.update()
                after()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                progress_text(done, total, "the same command goes on from there")
            ) from None


def progress_text(done: int, total: int, then: str) -> str:
    """Where a command stands that was interrupted."""
    return f"interrupted: {done:,} of {amount(total, 'image')} are done; {then}"


def list_broken(rows: Sequence[Mapping[str, Any]], out: Path) -> tuple[str, ...]:
    """Names of the images that could not be read; broken.txt in `out` lists them with the reasons.
    Without any there is no such file. Raises ValueError where it lists all images."""
    broken = [row for row in rows if "broken" in row]
    file = out / BROKEN_NAME
    if broken:
        lines = [f"{_told(row)}\t{row['broken']}\n" for row in broken]
        write_text(file, "".join(lines))
    else:
        file.unlink(missing_ok=True)
    if broken and len(broken) == len(rows):
        raise ValueError(
            f"no image can be read, the first: {broken[0]['broken']}; {file} lists all. Mended, "
            "the same command looks at them again"
        )
    return tuple(_told(row) for row in broken)


def _told(row: Mapping[str, Any]) -> str:
    """An image by its file, and which of its images it is."""
    return f"{row['file_name']} (image {row['page']})" if "page" in row else str(row["file_name"])


def broken_text(names: Sequence[str], out: Path) -> str:
    """What to do about images that could not be read; nothing without any."""
    if not names:
        return ""
    return (
        f"; {amount(len(names), 'image')} cannot be read, see {out / BROKEN_NAME}; mended, the "
        "same command looks at them again"
    )


def read_settings(file: Path) -> dict[str, Any]:
    """What a result was made with; nothing where there is no such file, and where it is damaged."""
    try:
        return dict(json.loads(file.read_bytes()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return {}


def refuse_inside(out: Path, folder: str) -> None:
    """Raise ValueError when pictures in `out` would be found among the images of `folder` the next
    time."""
    if Path(folder).is_dir() and out.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(
            f"--out {out} lies in {folder}, where the pictures that are written would count as "
            "images; choose a folder outside"
        )
