"""What a run directory holds, as the sections of its report read it."""

import contextlib
import functools
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from genseg import config as configs
from genseg.alpha.model import load_alpha
from genseg.core.names import (
    ALPHA_NAME,
    COMPARED_NAME,
    CONFIG_NAME,
    ENVIRONMENT_NAME,
    INSTANCES_NAME,
    METRICS_NAME,
    PARTS,
    PREDICTIONS_NAME,
    ROWS_NAME,
    SCORES_NAME,
    STUDY_NAME,
)
from genseg.core.precision import fast_precision
from genseg.data.images.files import ImageList, list_images
from genseg.data.images.source import ImageError
from genseg.data.instances.coco import AnnotatedImage, read_json
from genseg.data.instances.instance import Instance
from genseg.data.labels.annotated import read_scored
from genseg.data.regions.opened import in_windows, read_image
from genseg.data.scenes.scenes import default_scenes
from genseg.reports.judge import COUNTS, LEAST, Judge, Judged
from genseg.runs.folder import RunError, lock
from genseg.runs.metrics import Row, read_metrics
from genseg.schema import Choices
from genseg.show.paths import short_paths
from genseg.show.shown import shown_from
from genseg.show.viewer import Picture, Pixels
from genseg.workflows.energy.config import CHOICES as ENERGY_CHOICES
from genseg.workflows.energy.config import EnergyConfig
from genseg.workflows.evaluate.detector import Scores, read_scores
from genseg.workflows.export.model import is_finetuned
from genseg.workflows.finetune.config import CHOICES as FINETUNE_CHOICES
from genseg.workflows.finetune.config import FinetuneConfig
from genseg.workflows.generate.class_regions import regions
from genseg.workflows.generate.records import as_coco, notes_of, rows_so_far
from genseg.workflows.pretrain.config import CHOICES, PretrainConfig
from genseg.workflows.pretrain.snapshots import middle, read_snapshots

VAL = "val "  # begins the scores in metrics.jsonl
# A folder with one of these can be reported on.
FOUND = (INSTANCES_NAME, PREDICTIONS_NAME)  # of genseg generate, and of genseg predict
GRIDS = (COMPARED_NAME, STUDY_NAME)  # of genseg compare, and of genseg study
LEFT_BEHIND = (CONFIG_NAME, METRICS_NAME, ALPHA_NAME, *FOUND, *GRIDS, PARTS, ROWS_NAME)
SHOWN = 12  # images in the viewer
MOST = 1000  # images of an instances.json that are looked through
# pixels of the window of an image that is looked at for a report; a whole one may be of any size
SIDE = 512
C = TypeVar("C")


@dataclass(frozen=True)
class Ranked:
    """An image by name, and the instances in it that count. judged: how well they agree with its
    labels, if any"""

    name: str
    height: int
    width: int
    instances: tuple[Instance, ...]
    judged: float | None = None

    @property
    def score(self) -> float:
        if self.judged is not None:
            return self.judged
        return float(np.mean([a.score for a in self.instances])) if self.instances else 0.0


@dataclass(frozen=True)
class Run:
    """A directory that a command has left behind. Everything is read when a section asks for it.

    folder: images given by hand, in place of those that the run was made from
    look: a finished model may be run on some images
    live: the process that asks is at work in it
    kept: what a section has worked out and another needs, too
    """

    path: Path
    folder: str | None = None
    look: bool = True
    live: bool = False
    kept: dict[str, Any] = field(default_factory=dict, compare=False)

    @functools.cached_property
    def rows(self) -> list[Row]:
        file = self.path / METRICS_NAME
        return read_metrics(file) if file.exists() else []

    @functools.cached_property
    def environment(self) -> dict[str, Any]:
        return self._json(ENVIRONMENT_NAME) or {}

    @functools.cached_property
    def compared(self) -> dict[str, Any] | None:
        return self._json(COMPARED_NAME)

    @functools.cached_property
    def studied(self) -> dict[str, Any] | None:
        return self._json(STUDY_NAME)

    @functools.cached_property
    def scores(self) -> Scores | None:
        """Of a fine-tuned model on its validation images: the best one's, or so far the last
        ones."""
        if (content := self._json(SCORES_NAME)) is not None:
            return read_scores(content)
        taken = [row for row in self.rows if any(k.startswith(VAL) for k in row)]
        return (
            Scores({k.removeprefix(VAL): v for k, v in taken[-1].items() if k.startswith(VAL)})
            if taken
            else None
        )

    def _json(self, name: str) -> dict[str, Any] | None:
        file = self.path / name
        try:
            content = json.loads(file.read_text("utf-8")) if file.is_file() else None
        except ValueError as error:
            raise RunError(f"{file} is no json ({error}); make it anew") from None
        if content is not None and not isinstance(content, dict):
            raise RunError(f"{file} holds no json object; make it anew")
        return content

    @property
    def config_text(self) -> str:
        file = self.path / CONFIG_NAME
        return file.read_text("utf-8") if file.is_file() else ""

    @functools.cached_property
    def config(self) -> PretrainConfig | None:
        """The config of a pretraining run; None for what another command has made."""
        return self._config_as(PretrainConfig, CHOICES)

    @functools.cached_property
    def shaped(self) -> EnergyConfig | None:
        """The config of a run of genseg energy; None for what another command has made."""
        return None if self.config is not None else self._config_as(EnergyConfig, ENERGY_CHOICES)

    def _config_as(self, kind: type[C], choices: Choices) -> C | None:
        """The config with the keys of one command; None where these are not its keys."""
        try:
            file = self.path / CONFIG_NAME if self.config_text else None
            return configs.load(kind, file=file, overrides=[], choices=choices) if file else None
        except configs.ConfigError:
            return None

    @property
    def command(self) -> str:
        """What was typed, without absolute paths. A file of genseg that was called stands as
        `genseg`."""
        words = [str(w) for w in self.environment.get("command", [])]
        if words and Path(words[0]).name in ("cli.py", "genseg", "__main__.py"):
            words[0] = "genseg"
        return shlex.join(map(short_paths, words))

    @functools.cached_property
    def part_over(self) -> float:
        """The part of a run that is over, by the last line of its metrics; 1 without any."""
        if (self.path / SCORES_NAME).exists():  # it may have stopped early
            return 1.0
        if (grid := self.compared or self.studied) is not None:
            return len(grid.get("cells", ())) / max(1, int(grid.get("planned", 0)))
        if self._parts:
            return len(self._parts) / max(1, int(self.environment.get("images", 0)))
        logged = [row for row in self.rows if "eta_seconds" in row]
        if not logged:
            return 0.0 if self.config_text else 1.0
        last = logged[-1]
        left = last["eta_seconds"] * last["images_per_second"]
        return last["images"] / ((last["images"] + left) or 1)

    @functools.cached_property
    def running(self) -> bool:
        """Whether a process is at work in it."""
        if self.live:
            return True
        if self.part_over >= 1 or not (self.path / ".lock").exists():
            return False
        try:
            lock(self.path).close()
        except RunError:
            return True
        return False

    @property
    def state(self) -> str:
        if self.part_over >= 1:
            return "finished"
        return f"{'running' if self.running else 'stopped'}: {100 * self.part_over:.0f} %"

    @functools.cached_property
    def images(self) -> ImageList | None:
        """The images it was made from, or those given by hand; None where they are not there.
        Raises ValueError for a folder that was given and cannot be used."""
        if self.folder is not None:
            return list_images(self.folder)
        c = self.config
        path = self.environment.get("folder") if c is None else c.data.path
        try:
            if c is not None and path == "embedded":
                path = default_scenes("objects" if c.alpha.name == "none" else "images")
            listed = list_images(str(path)) if path else None
            return listed if listed is None or c is None else in_windows(listed)
        except ValueError:
            return None

    # what was found

    @functools.cached_property
    def listed(self) -> list[AnnotatedImage]:
        """The images of instances.json, which generation leaves behind, or of predictions.json;
        while it is at work, those that are done."""
        content, file = self.content, self._found or self.path
        images = [content["images"][i] for i in chosen(len(content["images"]), MOST)]
        ids = {i.get("id") for i in images}
        found = [a for a in content["annotations"] if a.get("image_id") in ids]
        return read_scored(images, found, file)

    @functools.cached_property
    def content(self) -> dict[str, Any]:
        """The COCO json of what was found, all of it; without images where there is none."""
        content = dict(read_json(self._found)) if self._found is not None else as_coco(self._parts)
        maps = [content["images"][i] for i in chosen(len(content["images"]), MOST)]
        found = regions(maps, content.get("categories", ()), self.path)
        return content | {"annotations": [*content["annotations"], *found]}

    @property
    def total(self) -> int:
        """The images of instances.json, also those that are not `listed`."""
        return len(self.content["images"])

    @property
    def notes(self) -> list[str]:
        """What the json of what was found says of how its images were looked at."""
        return notes_of(self.content)

    @functools.cached_property
    def _parts(self) -> list[dict[str, Any]]:
        """What generation has found so far, image by image; none when it is done."""
        return rows_so_far(self.path) if self._found is None else []

    @property
    def _found(self) -> Path | None:
        return next((f for f in (self.path / name for name in FOUND) if f.is_file()), None)

    @functools.cached_property
    def classes(self) -> dict[int, str]:
        """Annotation id -> its class, where instances.json has several."""
        content = self.content
        names = {int(c["id"]): str(c["name"]) for c in content.get("categories", [])}
        if len(names) < 2:
            return {}
        return {int(a["id"]): names.get(int(a["category_id"]), "?") for a in content["annotations"]}

    @property
    def class_names(self) -> list[str]:
        """The classes of instances.json, in its order."""
        return [str(c["name"]) for c in self.content.get("categories", [])]

    @functools.cached_property
    def looked(self) -> tuple[list[Picture], float, float]:
        """Some images, seen by the run's model; the score from which an instance is shown, and the
        least kept."""
        file, images = self.path / ALPHA_NAME, self.images
        if self.judged:
            return [j.picture for j in self.judged], COUNTS, LEAST
        if not self.look or images is None or self.listed:
            return [], 0.0, 0.0
        if self.folder is not None and self._judge is not None:
            return (
                [self._judge.picture(name, pixels) for name, pixels in _decoded(images, 0)],
                COUNTS,
                LEAST,
            )
        if not file.is_file():
            return [], 0.0, 0.0
        model, _ = load_alpha(file)
        model.precision = fast_precision(torch.device("cpu"))
        score = model.config.score
        model.config = replace(model.config, score=score / 2)
        pictures = []
        for name, whole in _decoded(images, model.look.side):
            pixels = middle(whole, SIDE)
            pictures.append(Picture(name, pixels, tuple(model.instances(pixels))))
        return pictures, shown_from([p.instances for p in pictures], score)[0], score / 2

    @functools.cached_property
    def shown(self) -> tuple[float, float]:
        """Of what is `listed`: the score from which an instance is shown, and the least kept."""
        return shown_from(i.instances for i in self.listed)

    @functools.cached_property
    def _judge(self) -> Judge | None:
        """The model of a fine-tuning run that is looked at; None for what another command has
        made."""
        return Judge(self.path) if self.look and is_finetuned(self.path) else None

    @functools.cached_property
    def semantic(self) -> bool:
        """Whether what was found are classes of pixels."""
        return any("mask" in image for image in self.content["images"]) or (
            self._judge is not None and self._judge.semantic
        )

    @property
    def model(self) -> str:
        """The name of a fine-tuning run's model, or nothing."""
        if self.config is not None:
            return ""
        config = self._config_as(FinetuneConfig, FINETUNE_CHOICES)
        return config.model.name if config is not None else ""

    @functools.cached_property
    def judged(self) -> list[Judged]:
        """Some validation images of a fine-tuning run with what its model finds in them, the best
        first."""
        return self._judge.judged() if self._judge is not None and self.folder is None else []

    @functools.cached_property
    def ranked(self) -> list[Ranked]:
        """All images whose instances are known, the surest first; of a run, those that it looked
        at."""
        if self.listed:
            every = [
                Ranked(
                    i.key,
                    i.height,
                    i.width,
                    tuple(a for a in i.instances if a.score >= self.shown[0]),
                )
                for i in self.listed
            ]
        else:
            pictures, score, _ = self.looked
            judged: list[float | None] = [j.score for j in self.judged]
            every = [
                Ranked(
                    p.name,
                    len(p.pixels),
                    p.pixels.shape[1],
                    tuple(a for a in p.instances if a.score >= score),
                    j,
                )
                for p, j in zip(pictures, judged or [None] * len(pictures), strict=True)
            ]
        return sorted(every, key=lambda r: -r.score)

    @functools.cached_property
    def snapshots(self) -> Any:
        return read_snapshots(self.path)

    @property
    def begun(self) -> bool:
        """Whether a training run has made a step."""
        return any(row.get("step", 0) > 0 for row in self.rows)

    @functools.cached_property
    def looked_at(self) -> bool:
        """Whether something is known of what a trained model finds. At step 0 it is that of random
        weights."""
        taken = self.snapshots[1]
        return bool(taken and taken[-1].step > 0) or (
            self.look and (self.path / ALPHA_NAME).is_file()
        )


def _decoded(images: ImageList, side: int) -> Iterator[tuple[str, Pixels]]:
    """Some images, by name, as they can be read. The data section lists the others."""
    for i in chosen(len(images), SHOWN):
        with contextlib.suppress(ImageError):
            yield images.name(i), read_image(images, i, short_side=side)


def chosen(total: int, count: int) -> list[int]:
    """Some numbers below `total`, always the same, in order."""
    return sorted(np.random.default_rng(0).permutation(total)[:count].tolist())
