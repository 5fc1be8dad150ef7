"""`python -m genseg.onnx`: the instances of a folder of images by an exported model, without
torch."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genseg.core.check import between
from genseg.core.files import write_text
from genseg.core.names import BROKEN_NAME, INSTANCES_NAME
from genseg.core.paths import expand
from genseg.core.reading import reading_as, words_of
from genseg.core.result import Result
from genseg.core.words import amount
from genseg.data.images.files import ImageList, list_images
from genseg.data.images.source import ImageError, decode_image
from genseg.data.instances.coco import annotation
from genseg.onnx.model import OnnxModel, load

HELP = """\
Find the instances of a folder of images with a file of genseg export RUN --out FILE.onnx. Nothing
here needs torch.

  python -m genseg.onnx alpha.onnx photos --out found

DIR/instances.json is COCO json, as genseg generate writes it. genseg generate, with the run itself,
goes on where it was killed and works in shards.
"""


@dataclass(frozen=True)
class Found(Result):
    """What was found. file: the COCO json; broken: images that could not be read, as broken.txt
    lists them."""

    file: Path
    images: int
    instances: int
    broken: tuple[str, ...] = ()

    def text(self) -> str:
        found = f"{amount(self.instances, 'instance')} in {amount(self.images, 'image')}"
        unread = f"{amount(len(self.broken), 'image')} cannot be read, see {BROKEN_NAME} beside it"
        return f"{self.file}: {found}" + (f"; {unread}" if self.broken else "")


def find(
    file: Path, folder: str, out: Path, *, score: float | None = None, threads: int = 0
) -> Found:
    """Write `out/instances.json` with the instances of all images of `folder`.

    score: the least score of an instance; None: the model's own. threads: as `load` takes them

    Raises ValueError for what a user can mend.
    """
    out = expand(out)
    model = load(file, threads=threads)
    if score is not None:
        between(0, 1, score=score)
        model.config = replace(model.config, score=score)
    json_file = out / INSTANCES_NAME
    if json_file.exists():
        raise ValueError(f"{json_file} exists, and would be overwritten; choose another --out")
    with reading_as(model.facts.reading):
        return _find(model, list_images(folder), json_file)


def _find(model: OnnxModel, images: ImageList, json_file: Path) -> Found:
    entries, notes, broken = list[dict[str, Any]](), list[dict[str, Any]](), dict[str, str]()
    for i, name in enumerate(images.files):
        try:
            pixels = decode_image(images, i)
        except ImageError as error:
            broken[images.name(i)] = str(error)
            continue
        number, (height, width) = images.number(i), pixels.shape[:2]
        page = {"page": images.page(i)} if images.page(i) else {}
        entries.append({"id": number, "file_name": name, **page, "height": height, "width": width})
        for a in model.instances(pixels):
            note = annotation(a, number=len(notes) + 1, image=number, height=height, width=width)
            notes.append(note | {"category_id": model.facts.categories[a.category][0]})
    categories = [{"id": n, "name": name} for n, name in model.facts.categories]
    out = json_file.parent
    out.mkdir(parents=True, exist_ok=True)
    if broken:
        lines = (f"{name}\t{reason}\n" for name, reason in broken.items())
        write_text(out / BROKEN_NAME, "".join(lines))
        if not entries:
            first = next(iter(broken.values()))
            raise ValueError(f"no image can be read, the first: {first}; {BROKEN_NAME} lists all")
    words = words_of(model.facts.reading)
    content = {
        **({"info": words} if words else {}),
        "images": entries,
        "annotations": notes,
        "categories": categories,
    }
    write_text(json_file, json.dumps(content))
    return Found(json_file, len(entries), len(notes), tuple(broken))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 2 a user's mistake, or the disk's."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m genseg.onnx", description=HELP, formatter_class=raw)
    parser.add_argument("file", type=Path, metavar="FILE", help="a FILE.onnx of genseg export")
    parser.add_argument(
        "folder", metavar="FOLDER", help="images: a folder tree, a text list or a COCO json"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="instances.json goes here"
    )
    parser.add_argument(
        "--score", type=float, metavar="S", help="least score of an instance, in place of the run's"
    )
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="of an image; 0: all that there are"
    )
    given = parser.parse_args(arguments)
    try:
        print(find(given.file, given.folder, given.out, score=given.score, threads=given.threads))
    except (ValueError, OSError) as error:
        print(f"python -m genseg.onnx: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
