"""What labelling tools give back, put together as a COCO json of the images that it belongs to."""

import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from genseg.core.files import write_text
from genseg.core.reading import words_of
from genseg.core.words import amount
from genseg.data.images.coco_files import CocoError, load_json, slashed
from genseg.data.images.files import ImageList, list_images
from genseg.data.images.source import ImageError, decoded_size
from genseg.data.instances.coco import annotation, file_key
from genseg.data.instances.outline import Drawn
from genseg.workflows.labels.found import looked_at
from genseg.workflows.labels.result import Converted

UNNAMED = "instance"  # the category of what has no class


class Corrections:
    """Objects by image. Ids of images are those of a COCO json where `images` is one, and those of
    annotations as long as no two are equal.

    names: what each image is called: its file, and which of its images; several: whether it has
        more
    """

    def __init__(self, images: str) -> None:
        json_file = Path(images)
        folder = looked_at(json_file) if json_file.suffix.lower() == ".json" else None
        self.listed: ImageList = list_images(images, folder)
        self.known = _categories(Path(images))
        self.drawn: dict[int, list[Drawn]] = {}
        self.places: dict[str, list[int]] = {}
        self.names = [self.listed.name(i) for i in range(len(self.listed))]
        self.several = [self.listed.page(i) > 0 for i in range(len(self.listed))]
        for i, called in enumerate(self.names):
            whole = PurePosixPath(file_key(called))
            for name in {str(whole), whole.name, whole.stem}:
                self.places.setdefault(name, []).append(i)

    def place(self, name: str, source: Path) -> int | None:
        """The image that a tool calls so: by its path, the end of it, its name, or that without a
        suffix; None for none. Raises CocoError for one of several."""
        parts = PurePosixPath(file_key(slashed(name))).parts
        tails = ["/".join(parts[n:]) for n in range(len(parts))]
        for wanted in (*tails, PurePosixPath(name).stem):
            found = self.places.get(wanted, [])
            if len(found) == 1:
                return found[0]
            if found:
                raise CocoError(
                    f"{source}: {name} may be {self.names[found[0]]} or "
                    f"{self.names[found[1]]}; give --images the folder of one of them"
                )
        return None

    def size(self, i: int) -> tuple[int, int]:
        """Height and width of an image. Raises ImageError where it cannot be read."""
        try:
            return decoded_size(self.listed.path(i), self.listed.page(i), self.listed.reading)
        except ValueError as error:
            raise ImageError(f"{self.listed.path(i)}: {error}") from None

    def add(self, i: int, drawn: Sequence[Drawn]) -> None:
        """Objects of an image, which may be none: then it is labelled, and empty."""
        self.drawn.setdefault(i, []).extend(drawn)

    def write(self, out: Path, *, missing: str, notes: Sequence[str] = ()) -> Converted:
        """Write the COCO json. missing: what the images lack that are left out"""
        names = dict.fromkeys(d.category or UNNAMED for _, many in self._in_order() for d in many)
        categories = self._numbered(list(names) or [UNNAMED])
        annotations, lost = self._annotations(categories)
        images = []
        for i, _ in self._in_order():
            height, width = self.size(i)
            place = os.path.relpath(self.listed.path(i).absolute(), out.absolute().parent)
            number = self.listed.number(i)
            page = {"page": self.listed.page(i)} if self.several[i] else {}
            images.append(
                {"id": number, "file_name": place, **page, "height": height, "width": width}
            )
        info = words_of(self.listed.reading)
        content = {
            **({"info": info} if info else {}),
            "images": images,
            "annotations": annotations,
            "categories": [{"id": n, "name": name} for name, n in categories.items()],
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, json.dumps(content))
        without = len(self.listed) - len(images)
        note = f"; {amount(without, 'image')} without {missing} left out" if without else ""
        said = f"{amount(len(annotations), 'instance')} in {amount(len(images), 'image')}"
        more = [f"{amount(lost, 'object')} without a pixel in its image: left out"] if lost else []
        return Converted((out,), (f"{out}: {said}{note}", *notes, *more))

    def _in_order(self) -> list[tuple[int, list[Drawn]]]:
        return sorted(self.drawn.items())

    def _numbered(self, names: Sequence[str]) -> dict[str, int]:
        """The ids of categories: those of the json that the images are from, all of them, then new
        ones."""
        found = dict(self.known)
        for name in names:
            found.setdefault(name, 1 + max(found.values(), default=0))
        return found

    def _annotations(self, categories: dict[str, int]) -> tuple[list[dict[str, Any]], int]:
        """All annotations, and how many objects hold no pixel."""
        taken = {d.number for _, many in self._in_order() for d in many if d.number is not None}
        free, used, lost = 1 + max(taken, default=0), set[int](), 0
        made = []
        for i, many in self._in_order():
            height, width = self.size(i)
            for drawn in many:
                instance = drawn.instance(height, width)
                if instance is None:
                    lost += 1
                    continue
                number = drawn.number
                if number is None or number in used or number < 1:
                    number, free = free, free + 1
                used.add(number)
                one = annotation(
                    instance,
                    number=number,
                    image=self.listed.number(i),
                    height=height,
                    width=width,
                )
                del one["score"]  # these are labels
                made.append(one | {"category_id": categories[drawn.category or UNNAMED]})
        return made, lost


def _categories(images: Path) -> dict[str, int]:
    """Name -> id, of a COCO json that has categories."""
    if images.suffix.lower() != ".json":
        return {}
    content = load_json(images)
    listed = content.get("categories") if isinstance(content, dict) else None
    return {str(c["name"]): int(c["id"]) for c in listed or () if "name" in c and "id" in c}
