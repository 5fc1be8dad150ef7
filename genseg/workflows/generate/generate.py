"""Generate the instance alpha maps of a folder of images: resumable, in shards, on several
processes."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import is_initialized
from accelerate.utils import InitProcessGroupKwargs

from genseg.core import dist
from genseg.core.files import write_text
from genseg.core.names import (
    ALPHAS,
    BROKEN_NAME,
    CUTOUTS,
    INSTANCES_NAME,
    PARTS,
    SETTINGS_NAME,
    TILES,
)
from genseg.core.result import Result
from genseg.core.words import amount
from genseg.data.images.files import ImageList, list_images, listing
from genseg.data.images.inputs import rgb_of
from genseg.data.images.png import write_png
from genseg.data.images.source import absent_of
from genseg.data.images.uneven import notes_on
from genseg.data.instances.coco import annotation, named_after, picture_name
from genseg.data.instances.instance import Instance, where_known
from genseg.data.instances.run_length import polygons
from genseg.data.regions.opened import refuse_whole
from genseg.data.regions.scene import Scene
from genseg.data.regions.scope import WHOLE, Scope
from genseg.nn.kept_reading import reads_as
from genseg.runs.folder import RunError, lock, write_environment
from genseg.train.launched import refuse_sharding
from genseg.workflows.generate.finder import (
    Finder,
    Pixels,
    Wanted,
    alpha_file,
    finder_of,
    is_proposer,
    shrinking_of,
)
from genseg.workflows.generate.job import Job
from genseg.workflows.generate.records import (
    broken_text,
    number_of,
    part_files,
    read_settings,
    refuse_inside,
    rows_of,
)
from genseg.workflows.generate.shrinking import Shrinking


@dataclass(frozen=True)
class Generated(Result):
    """Instances of a folder of images.

    file: the COCO json; None while other shards are at work
    out: the folder of all results
    images, instances: how many are in it; of `total` images
    broken: images that could not be read, as broken.txt lists them
    """

    out: Path
    file: Path | None
    images: int
    instances: int
    total: int
    broken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        if self.file is None:
            return (
                f"{self.out}: {self.images} of {self.total} images are done; the json follows "
                "when all shards are"
            )
        found = f"{amount(self.instances, 'instance')} in {amount(self.images, 'image')}"
        lines = [f"{self.file}: {found}{broken_text(self.broken, self.out)}"]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True)
class GenerateOptions:
    """What is written, and by whom."""

    polygons: bool = False  # outlines in place of RLE; they lose holes
    alphas: bool = False  # alphas/<image>-<id>.png, 8 bits
    cutouts: bool = False  # cutouts/<image>-<id>.png, RGBA, cut to the box
    wanted: Wanted = Wanted()
    scope: Scope = WHOLE
    shard: int = 0
    shards: int = 1
    fresh: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.shard < self.shards:
            raise ValueError(
                f"--shard-index {self.shard} of --num-shards {self.shards}: use 0 to "
                f"{self.shards - 1}"
            )
        if self.fresh and self.shards > 1:
            raise ValueError(
                "--fresh would remove what the other shards have found: remove the folder of "
                "--out before the first of them starts, or choose another --out"
            )


@reads_as("run")
def generate_folder(
    run: Path,
    folder: str,
    out: Path,
    options: GenerateOptions,
    *,
    after: Callable[[], object] = lambda: None,
    say: Callable[[str], object] = print,
) -> Generated:
    """Write `out/instances.json`, COCO with RLE, scores and one category. All processes return the
    same.

    run: a run directory or its alpha.safetensors; or the name of a classical proposer
    after: called after each image, by the first process of the first shard
    say: told what the user should know before the work begins

    Each image's result is kept as soon as it is there: the same command goes on where it was, also
    on another number of processes, and looks anew at images that could not be read, or have
    changed. Several shards, and processes of a launcher, share `out`; whoever comes last puts the
    json together. Images that cannot be read are listed in `out/broken.txt`. Raises ValueError for
    what a user can mend.
    """
    accelerator = _accelerator()
    if options.alphas or options.cutouts:
        refuse_inside(out, folder)
    finder, origin = finder_of(run, options.wanted, accelerator.device)
    images = list_images(folder)
    if options.alphas:
        refuse_whole(images.paths, "--alphas writes a picture as large as the image for each")
    with contextlib.ExitStack() as stack:
        with dist.together():
            if accelerator.is_main_process:
                stack.enter_context(
                    lock(out, ".lock" if options.shards == 1 else f".lock-{options.shard}")
                )
                _open(out, origin, images, options)
                if options.shard == 0:
                    facts = {
                        "run": str(run),
                        "folder": str(Path(folder).absolute()),
                        "images": len(images),
                    }
                    write_environment(out, device=accelerator.device, facts=facts)
                if more := notes_on(images.paths):
                    say(f"note: {more}")
        shard = shard_of(
            out, options, rank=accelerator.process_index, world=accelerator.num_processes
        )
        after = after if shard.number == 0 else lambda: None
        shard.write(finder, images, options, device=accelerator.device, after=after)
        accelerator.wait_for_everyone()
        merged = None
        if accelerator.is_main_process:
            merged = merge(out, images, shrinking_of(finder), options.scope)
        result: Generated = dist.gather_objects(merged)[0]
        return result


def _accelerator() -> Accelerator:
    """Processes of which one that is done waits for the others."""
    patient = InitProcessGroupKwargs(timeout=timedelta(hours=6))
    refuse_sharding()
    # a finder has a precision of its own; Accelerate keeps one state for a process, which may have
    # trained before
    precision = None if is_initialized() else "no"
    return Accelerator(
        cpu=not torch.cuda.is_available(), mixed_precision=precision, kwargs_handlers=[patient]
    )


def generated(
    found: Path, data: Path, scratch: Path, *, alphas: bool, wanted: Wanted, scope: Scope = WHOLE
) -> Path:
    """The json of the instances of a COCO json's images: `found` itself, or made with the run or
    proposer of that name.

    What a run has found is kept below it, in evaluated/, in a folder for each model, json and
    `wanted`: if it is killed it goes on there. What a proposer has found, whose scores are its own,
    is in `scratch`.
    """
    if found.suffix == ".json":
        return found
    if is_proposer(found):
        out, options = (
            scratch / found.name,
            GenerateOptions(alphas=alphas, wanted=replace(wanted, score=None), scope=scope),
        )
    else:
        file = alpha_file(found)
        closely = f"{scope}\n" if scope.said else ""
        told = hashlib.blake2b(
            f"{data.resolve()}\n{wanted}\n{alphas}\n{closely}".encode() + file.read_bytes(),
            digest_size=4,
        )
        out = file.parent / "evaluated" / named_after(Path(data.stem), f"-{told.hexdigest()}")
        options = GenerateOptions(
            alphas=alphas, wanted=wanted, scope=scope, fresh=(out / INSTANCES_NAME).exists()
        )
    generate_folder(found, str(data), out, options, say=lambda note: None)  # the json has it
    return out / INSTANCES_NAME


def _open(out: Path, origin: str, images: ImageList, options: GenerateOptions) -> None:
    """Begin in `out`, or go on there. Raises RunError when it holds the result of something
    else."""
    settings = {
        "source": origin,
        "images": listing(images),
        "polygons": options.polygons,
        "alphas": options.alphas,
        "cutouts": options.cutouts,
        **options.wanted.settings,
        **options.scope.settings,
    }
    kept = out / SETTINGS_NAME
    before = read_settings(kept)
    if options.fresh:
        for file in (*out.glob("parts/*.jsonl"), out / INSTANCES_NAME, out / BROKEN_NAME, kept):
            file.unlink(missing_ok=True)
        shutil.rmtree(out / PARTS / TILES, ignore_errors=True)
        for folder in (ALPHAS, CUTOUTS):
            # else they are not ours: `out` may hold the data, whose alphas are called so, too
            if before.get(folder):
                shutil.rmtree(out / folder, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / PARTS).mkdir(exist_ok=True)
    if kept.exists():
        changed = [name for name in settings if before.get(name) != settings[name]]
        if changed:
            raise RunError(
                f"{out} holds the result of other {', '.join(changed)}; choose another --out, or "
                "--fresh"
            )
    else:
        write_text(kept, json.dumps(settings, indent=1) + "\n")


class Shard:
    """Every `count`-th image from the `number`-th, one line of json each in a file of its own."""

    def __init__(self, out: Path, number: int, count: int) -> None:
        self.out, self.number, self.count = out, number, count
        self.file = out / PARTS / f"{number}-of-{count}.jsonl"

    def write(
        self,
        finder: Finder,
        images: ImageList,
        options: GenerateOptions,
        *,
        device: torch.device,
        after: Callable[[], object],
    ) -> None:
        """The lines that are missing, also in shards of another count: a run may go on with more
        or fewer processes."""
        former = [f for f in part_files(self.out) if not f.name.endswith(f"-of-{self.count}.jsonl")]
        mine = range(self.number, len(images), self.count)

        def look(i: int, image: Pixels | Scene, row: dict[str, Any]) -> dict[str, Any]:
            found = finder.instances(image)
            if isinstance(image, Scene):
                found = image.within(found)
            else:
                found = where_known(found, absent_of(images, i))
            return {"annotations": self._keep(found, image, row, options)}

        job = Job("generate", images, self.out, options.scope)
        job.run(look, self.file, mine, device=device, after=after, former=former)

    def _keep(
        self,
        found: Sequence[Instance],
        image: Pixels | Scene,
        row: dict[str, Any],
        options: GenerateOptions,
    ) -> list[dict[str, Any]]:
        """The annotations of an image; its alphas and cut-outs are written if wanted."""
        annotations = []
        for n, instance in enumerate(found, start=1):
            number = number_of(row["id"], n)
            a = annotation(
                instance, number=number, image=row["id"], height=row["height"], width=row["width"]
            )
            if options.polygons:
                a["segmentation"] = polygons(instance)
            annotations.append(a)
            name = picture_name(row["file_name"], number)
            if options.alphas:
                write_png(self.out / ALPHAS / name, instance.paint(row["height"], row["width"]))
            if options.cutouts:
                write_png(
                    self.out / CUTOUTS / name,
                    np.dstack([rgb_of(image[instance.window]), instance.alpha]),
                )
        return annotations


def shard_of(out: Path, options: GenerateOptions, *, rank: int, world: int) -> Shard:
    """What one of `world` processes of a shard looks at: images of the shard's remainder by the
    number of shards, so that shards may have different numbers of processes."""
    return Shard(out, options.shard + options.shards * rank, options.shards * world)


def merge(out: Path, images: ImageList, shrinking: Shrinking, scope: Scope) -> Generated:
    """Put the shards together if they hold all images."""
    rows, file = rows_of(part_files(out)), out / INSTANCES_NAME
    if len(rows) < len(images):
        return Generated(out, None, len(rows), 0, len(images))
    merged = Job("generate", images, out, scope).merge(rows, file, shrinking)
    counts = merged.images, merged.annotations, len(images)
    return Generated(out, file, *counts, merged.broken, merged.notes)
