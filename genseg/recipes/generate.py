"""Generate the instance alpha maps of a folder of images: resumable, in shards, on several processes."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from jaxtyping import UInt8
from tqdm import tqdm

from genseg.alpha.model import ALPHA_NAME, AlphaModel, load_alpha
from genseg.core import dist
from genseg.core.check import at_least, between
from genseg.core.threads import in_order, several_at_once
from genseg.core.words import amount
from genseg.data.annotations import annotation, picture_name
from genseg.data.images import ImageError, ImageList, decode, list_images, listing
from genseg.data.instances import Instance
from genseg.data.proposals import PROPOSERS, propose
from genseg.data.run_length import polygons
from genseg.train.run import RunError, lock, write_environment, write_text

RESULT, ROWS = "instances.json", "rows.jsonl"  # the latter is where genseg predict keeps each image's
ALPHAS, CUTOUTS = "alphas", "cutouts"  # folders below that of the result
INSTANCE = ((1, "instance"),)  # the only category
MOST = 100_000  # annotation ids of an image: its own id times this, plus 1, 2, ... best first
Pixels = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class GenerateOptions:
    """What is written, and by whom."""

    polygons: bool = False  # outlines in place of RLE; they lose holes
    alphas: bool = False  # alphas/<image>-<id>.png, 8 bits
    cutouts: bool = False  # cutouts/<image>-<id>.png, RGBA, cut to the box
    score: float | None = None  # in place of the run's own least score
    min_area: int | None = None  # pixels of the smallest instance, in place of the run's own
    side: int | None = None  # larger images are shrunk to this short side, 0: none; in place of the run's own
    shard: int = 0
    shards: int = 1
    fresh: bool = False

    def __post_init__(self) -> None:
        between(0, 1, **self._given("score"))
        at_least(1, **self._given("min_area"))
        if self.side is not None and self.side != 0 and self.side < 32:
            raise ValueError(f"side={self.side}: use 0, which shrinks no image, or 32 or more")
        if not 0 <= self.shard < self.shards:
            raise ValueError(f"--shard-index {self.shard} of --num-shards {self.shards}: it counts from 0")
        if self.fresh and self.shards > 1:
            raise ValueError("--fresh would remove what the other shards have found: remove the folder of --out before "
                             "the first of them starts, or choose another --out")  # fmt: skip

    def _given(self, *names: str) -> dict[str, Any]:
        """Those of these options that are not left to the run."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def apply(self, model: AlphaModel) -> None:
        """Let a model find what is asked for in place of what its run has set."""
        model.config = replace(model.config, **self._given("score", "min_area"))
        model.look = replace(model.look, **self._given("side"))


@runtime_checkable
class Finder(Protocol):
    """What gives the instances of an image, best first."""

    def instances(self, image: Pixels) -> list[Instance]: ...


@dataclass(frozen=True)
class Classical:
    """A proposer without learning, for comparison."""

    name: str

    def instances(self, image: Pixels) -> list[Instance]:
        return propose(self.name, image)


def generate_folder(
    run: Path, folder: str, out: Path, options: GenerateOptions, *, after: Callable[[], object] = lambda: None
) -> str:
    """Write `out/instances.json`, COCO with RLE, scores and one category, and say what was found.

    run: a run directory or its alpha.safetensors; or the name of a classical proposer
    after: called after each image, by the first process of the first shard

    Each image's result is kept as soon as it is there: the same command goes on where it was, also on another number of
    processes, and looks anew at images that could not be read, or have changed. Several shards, and processes of a
    launcher, share `out`; whoever comes last puts the json together. Images that cannot be read are listed in
    `out/broken.txt`. Raises ValueError for what a user can mend.
    """
    patient = InitProcessGroupKwargs(timeout=timedelta(hours=6))  # a rank that is done waits for the others
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[patient])
    if options.alphas or options.cutouts:
        refuse_inside(out, folder)
    finder, origin = _finder(run, options, accelerator.device)
    images = list_images(folder)
    with contextlib.ExitStack() as stack:
        with dist.together():
            if accelerator.is_main_process:
                stack.enter_context(lock(out, ".lock" if options.shards == 1 else f".lock-{options.shard}"))
                _open(out, origin, images, options)
                if options.shard == 0:
                    facts = {"run": str(run), "folder": str(Path(folder).absolute()), "images": len(images)}
                    write_environment(out, device=accelerator.device, facts=facts)
        part = part_of(out, options, rank=accelerator.process_index, world=accelerator.num_processes)
        after = after if part.number == 0 else lambda: None
        part.write(finder, images, options, device=accelerator.device, after=after)
        accelerator.wait_for_everyone()
        return merge(out, images) if accelerator.is_main_process else ""


def _finder(run: Path, options: GenerateOptions, device: torch.device) -> tuple[Finder, str]:
    """What finds the instances, and a word that changes when it does."""
    if is_proposer(run):
        for name in ("score", "min_area", "side"):
            if getattr(options, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise ValueError(f"{option} is for runs; {run} is a proposer with settings of its own")
        return Classical(str(run)), str(run)
    file = alpha_file(run)
    model, _ = load_alpha(file)
    options.apply(model)
    model.precision = fast_precision(device)
    return model.to(device), hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()


def is_proposer(name: Path) -> bool:
    """Whether a classical proposer is meant, and no run."""
    return str(name) in PROPOSERS and not name.exists()


def generated(found: Path, data: Path, scratch: Path, *, alphas: bool, score: float | None = None) -> Path:
    """The json of the instances of a COCO json's images: `found` itself, or made with the run or proposer of that name.

    What a run has found, from `score` on in place of its own least score, is kept below it, in evaluated/, in a folder
    for each model, json and score: if it is killed it goes on there. What a proposer has found, which has no such
    choice, is in `scratch`.
    """
    if found.suffix == ".json":
        return found
    if is_proposer(found):
        out, options = scratch / found.name, GenerateOptions(alphas=alphas)
    else:
        file = alpha_file(found)
        told = hashlib.blake2b(f"{data.resolve()}\n{score}\n{alphas}\n".encode() + file.read_bytes(), digest_size=4)
        out = file.parent / "evaluated" / f"{data.stem}-{told.hexdigest()}"
        options = GenerateOptions(alphas=alphas, score=score, fresh=(out / RESULT).exists())
    generate_folder(found, str(data), out, options)
    return out / RESULT


def alpha_file(run: Path) -> Path:
    """The alpha decoder of a run directory, or the file itself. Raises ValueError when there is none."""
    file = run / ALPHA_NAME if run.is_dir() else run
    if not file.is_file():
        raise ValueError(
            f"there is no {file}: give a run directory that has {ALPHA_NAME}; a run leaves it when it ends or is "
            f"interrupted, if its recipe has the alpha task. Classical proposers: {', '.join(PROPOSERS)}"
        )
    return file


def fast_precision(device: torch.device) -> torch.dtype:
    """bf16 where the hardware computes it."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def scoring_precision(setting: str, device: torch.device) -> torch.dtype:
    """That in which a fine-tuned model is scored and used, by the `precision` of its recipe: in float32 unless that is
    auto, so that a run's own scores are those of genseg evaluate detector."""
    return fast_precision(device) if setting == "auto" else torch.float32


def _open(out: Path, origin: str, images: ImageList, options: GenerateOptions) -> None:
    """Begin in `out`, or go on there. Raises RunError when it holds the result of something else."""
    settings = {
        "source": origin,
        "images": listing(images),
        "polygons": options.polygons, "alphas": options.alphas, "cutouts": options.cutouts, "score": options.score,
        "min_area": options.min_area, "side": options.side,
    }  # fmt: skip
    kept = out / "settings.json"
    before = read_settings(kept)
    if options.fresh:
        for file in (*out.glob("parts/*.jsonl"), out / RESULT, out / "broken.txt", kept):
            file.unlink(missing_ok=True)
        for folder in (ALPHAS, CUTOUTS):
            if before.get(folder):  # else they are not ours: `out` may hold the data, whose alphas are called so, too
                shutil.rmtree(out / folder, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "parts").mkdir(exist_ok=True)
    if kept.exists():
        changed = [name for name in settings if before.get(name) != settings[name]]
        if changed:
            raise RunError(f"{out} holds the result of other {', '.join(changed)}; choose another --out, or --fresh")
    else:
        write_text(kept, json.dumps(settings, indent=1) + "\n")


def refuse_inside(out: Path, folder: str) -> None:
    """Raise ValueError when pictures in `out` would be found among the images of `folder` the next time."""
    if Path(folder).is_dir() and out.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(f"--out {out} lies in {folder}, where the pictures that are written would count as images; "
                         "choose a folder outside")  # fmt: skip


def read_settings(file: Path) -> dict[str, Any]:
    """What a result was made with; nothing where there is no such file, and where it is damaged."""
    try:
        return dict(json.loads(file.read_bytes()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return {}


class Part:
    """Every `count`-th image from the `number`-th, one line of json each in a file of its own."""

    def __init__(self, out: Path, number: int, count: int) -> None:
        self.out, self.number, self.count = out, number, count
        self.file = out / "parts" / f"{number}-of-{count}.jsonl"

    def write(
        self,
        finder: Finder,
        images: ImageList,
        options: GenerateOptions,
        *,
        device: torch.device,
        after: Callable[[], object],
    ) -> None:
        """The lines that are missing, also in parts of another count: a run may go on with more or fewer processes.
        A line that a kill has cut is written again."""
        own = list(rows_of([self.file]))
        write_text(self.file, "".join(json.dumps(row) + "\n" for row in own))
        former = [f for f in part_files(self.out) if not f.name.endswith(f"-of-{self.count}.jsonl")]
        mine = range(self.number, len(images), self.count)
        todo = unseen(rows_of([self.file, *former]), images, mine)

        def look(read: tuple[int, Pixels | ImageError]) -> dict[str, Any]:
            i, image = read
            row: dict[str, Any] = {"id": images.number(i), "file_name": images.files[i], "bytes": images.bytes(i)}
            if isinstance(image, ImageError):
                return row | {"broken": str(image)}
            found = finder.instances(image)
            row |= {"height": image.shape[0], "width": image.shape[1]}
            return row | {"annotations": self._keep(found, image, row, options)}

        with self.file.open("a") as file, ThreadPoolExecutor(1) as reading, several_at_once(device) as looking:
            ready, calm = len(mine) - len(todo), 0.5 if os.isatty(2) else 30
            with tqdm(total=len(mine), initial=ready, unit=" images", mininterval=calm, desc="generate") as progress:
                for row in in_order(looking, look, decoded(images, todo, reading)):
                    file.write(json.dumps(row) + "\n")
                    file.flush()
                    progress.update()
                    after()

    def _keep(
        self, found: Sequence[Instance], image: Pixels, row: dict[str, Any], options: GenerateOptions
    ) -> list[dict[str, Any]]:
        """The annotations of an image; its alphas and cut-outs are written if wanted."""
        annotations = []
        for n, instance in enumerate(found, start=1):
            number = row["id"] * MOST + n
            a = annotation(instance, number=number, image=row["id"], height=row["height"], width=row["width"])
            if options.polygons:
                a["segmentation"] = polygons(instance)
            annotations.append(a)
            name = picture_name(row["file_name"], number)
            if options.alphas:
                write_png(self.out / ALPHAS / name, instance.paint(row["height"], row["width"]))
            if options.cutouts:
                colour = cv2.cvtColor(np.ascontiguousarray(image[instance.window]), cv2.COLOR_RGB2BGR)
                write_png(self.out / CUTOUTS / name, np.dstack([colour, instance.alpha]))
        return annotations


def part_of(out: Path, options: GenerateOptions, *, rank: int, world: int) -> Part:
    """What one of `world` processes of a shard looks at: images of the shard's remainder by the number of shards, so
    that shards may have different numbers of processes."""
    return Part(out, options.shard + options.shards * rank, options.shards * world)


def decoded(
    images: ImageList, todo: Sequence[int], pool: ThreadPoolExecutor
) -> Iterator[tuple[int, Pixels | ImageError]]:
    """The images in order, the next one decoded while the last one is worked on."""

    def load(i: int) -> tuple[int, Pixels | ImageError]:
        try:
            return i, decode(images.path(i))
        except ImageError as error:
            return i, error

    return in_order(pool, load, todo, ahead=2)


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a part; none when there is no such file. A line that a kill or a disk has damaged is left out:
    its image is looked at again."""
    rows = []
    for line in file.read_bytes().splitlines(keepends=True) if file.exists() else ():
        with contextlib.suppress(ValueError):
            if line.endswith(b"\n") and isinstance(row := json.loads(line), dict):
                rows.append(row)
    return rows


def part_files(out: Path) -> list[Path]:
    """The files of all parts, whatever their count, the latest last."""
    return sorted((out / "parts").glob("*-of-*.jsonl"), key=lambda f: (f.stat().st_mtime, f.name))


def rows_of(files: Iterable[Path]) -> list[dict[str, Any]]:
    """One row for each image, by id. Parts of different counts may hold the same image, and one part two looks at it:
    the last one that could read it counts."""
    rows: dict[int, dict[str, Any]] = {}
    for row in (row for file in files for row in read_rows(file)):
        if "broken" not in row or row["id"] not in rows:
            rows[row["id"]] = row
    return [rows[number] for number in sorted(rows)]


def unseen(rows: Iterable[Mapping[str, Any]], images: ImageList, mine: Iterable[int]) -> list[int]:
    """Which images of `mine` have to be looked at: those without a row, or of another size in it, or broken then."""
    done = {row["id"]: row.get("bytes") for row in rows if "broken" not in row}
    return [i for i in mine if images.number(i) not in done or done[images.number(i)] != images.bytes(i)]


def merge(out: Path, images: ImageList) -> str:
    """Put the parts together if they hold all images, and say what there is."""
    rows = rows_of(part_files(out))
    if len(rows) < len(images):
        return f"{out}: {len(rows)} of {len(images)} images are done; the json follows when all shards are"
    broken = [row for row in rows if "broken" in row]
    coco = as_coco(rows)
    write_text(out / RESULT, json.dumps(coco))
    text = f"{out / RESULT}: {amount(len(coco['annotations']), 'instance')} in {amount(len(coco['images']), 'image')}"
    return text + list_broken(broken, out / "broken.txt")


def list_broken(rows: Sequence[Mapping[str, Any]], file: Path) -> str:
    """Write which images could not be read, and why; the words that say so. Without any there is no such file."""
    if not rows:
        file.unlink(missing_ok=True)
        return ""
    write_text(file, "".join(f"{row['file_name']}\t{row['broken']}\n" for row in rows))
    return f"; {amount(len(rows), 'image')} cannot be read, see {file}; mended, the same command looks at them again"


def as_coco(rows: Sequence[Mapping[str, Any]], categories: Sequence[tuple[int, str]] = INSTANCE) -> dict[str, Any]:
    """The COCO json of what was found, image by image; those that cannot be read are left out."""
    whole = [row for row in rows if "broken" not in row]
    names = ("id", "file_name", "width", "height", "mask")
    return {
        "images": [{k: row[k] for k in names if k in row} for row in whole],
        "annotations": [a for row in whole for a in row.get("annotations", ())],
        "categories": [{"id": number, "name": name} for number, name in categories],
    }


def rows_so_far(out: Path) -> list[dict[str, Any]]:
    """What genseg generate or genseg predict, whichever has written last, has found so far."""
    files = sorted((*part_files(out), *out.glob(ROWS)), key=lambda f: f.stat().st_mtime)
    return rows_of(f for f in files if f.parent == files[-1].parent)


def write_png(file: Path, pixels: np.ndarray) -> None:
    """Write an image. Raises OSError, which says why, when that fails."""
    runs = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]  # a map of mostly one value: a quarter of the time
    done, content = cv2.imencode(".png", pixels, runs if pixels.ndim == 2 else [cv2.IMWRITE_PNG_COMPRESSION, 3])
    assert done
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.tobytes())  # cv2.imwrite would not say what went wrong
