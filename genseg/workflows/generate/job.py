"""What genseg generate and genseg predict share: look at images one by one, keep each result at
once, put them together at the end."""

import json
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from genseg.core.files import write_text
from genseg.core.names import PARTS, TILES
from genseg.core.threads import in_order, several_at_once
from genseg.data.images.files import ImageList
from genseg.data.images.source import ImageError
from genseg.data.images.uneven import notes_on
from genseg.data.regions.scene import Scene
from genseg.data.regions.scope import Scope
from genseg.workflows.generate.records import (
    INSTANCE,
    Pixels,
    as_coco,
    decoded,
    keep_rows,
    list_broken,
    notes_of,
    rows_of,
    unseen,
)
from genseg.workflows.generate.shrinking import Shrinking

Look = Callable[[int, Pixels | Scene, dict[str, Any]], dict[str, Any]]


class Merged(NamedTuple):
    """The counts of a json that was put together; images that could not be read, and notes."""

    images: int
    annotations: int
    broken: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """Images that a command looks at, as far as a scope says. name: of the command, on its line of
    progress."""

    name: str
    images: ImageList
    out: Path
    scope: Scope

    @property
    def tiles(self) -> Path:
        """Where what the tiles of large images have shown is kept until the json is there."""
        return self.out / PARTS / TILES

    def run(
        self,
        look: Look,
        file: Path,
        mine: Sequence[int],
        *,
        device: torch.device,
        after: Callable[[], object],
        former: Sequence[Path] = (),
    ) -> None:
        """Write a row of `file` for each of the images `mine` that has none there or in `former`.
        A line that a kill has cut is written again.

        look: adds what is found to a row, given the image's index, its pixels and the row so far
        after: called after each image
        """
        own = rows_of([file])
        write_text(file, "".join(json.dumps(row) + "\n" for row in own))
        todo = unseen(rows_of([file, *former]), self.images, mine)

        stopping = threading.Event()

        def row_of(read: tuple[int, Pixels | Scene | ImageError]) -> dict[str, Any]:
            i, image = read
            row: dict[str, Any] = {
                "id": self.images.number(i),
                "file_name": self.images.files[i],
                "bytes": self.images.bytes(i),
            }
            if page := self.images.page(i):
                row["page"] = page
            if isinstance(image, ImageError):
                return row | {"broken": str(image)}
            image = replace(image, stopping=stopping) if isinstance(image, Scene) else image
            row |= {"height": image.shape[0], "width": image.shape[1]}
            try:
                return row | look(i, image, row)
            except ImageError as error:  # a scene is read while it is looked at
                kept = ("id", "file_name", "bytes", "page")
                return {k: row[k] for k in kept if k in row} | {"broken": str(error)}

        with ThreadPoolExecutor(1) as reading, several_at_once(device) as looking:
            pixels = decoded(self.images, todo, reading, self.scope, self.tiles)
            made = in_order(looking, row_of, pixels)
            done, total = len(mine) - len(todo), len(mine)
            try:
                keep_rows(file, made, done=done, total=total, name=self.name, after=after)
            except BaseException:
                stopping.set()  # a thread may be at work on a large image
                raise

    def merge(
        self,
        rows: Sequence[dict[str, Any]],
        file: Path,
        shrinking: Shrinking,
        categories: Sequence[tuple[int, str]] = INSTANCE,
    ) -> Merged:
        """Write the COCO json of all rows, and broken.txt beside it. Raises ValueError where no
        image could be read: there is no json then."""
        broken = list_broken(rows, self.out)
        more = notes_on(self.images.paths)
        asked = self.scope.level is not None or self.scope.um_per_pixel is not None
        said = None if asked else shrinking  # who names a resolution knows it
        coco = as_coco(rows, categories, shrinking=said, more=more, reading=self.images.reading)
        write_text(file, json.dumps(coco))
        shutil.rmtree(self.tiles, ignore_errors=True)
        return Merged(
            len(coco["images"]),
            len(coco["annotations"]),
            broken,
            tuple(note for note in notes_of(coco) if note != more),
        )
