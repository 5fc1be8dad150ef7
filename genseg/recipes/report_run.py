"""What a run directory holds, as the sections of its report read it."""

import functools
import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genseg import config as configs
from genseg.alpha.model import ALPHA_NAME, load_alpha
from genseg.data.images import ImageError, ImageList, decode, list_images
from genseg.data.instances import AnnotatedImage, Instance, annotated_images, read_json
from genseg.data.scenes import default_scenes
from genseg.recipes.assemble import CHOICES, PretrainConfig
from genseg.recipes.generate import RESULT, fast_precision
from genseg.recipes.snapshots import middle, read_snapshots
from genseg.show.viewer import Picture
from genseg.train.log import METRICS_NAME, Row, read_metrics
from genseg.train.run import RunError, lock

COMPARED = "compare.json"
# A folder with one of these can be reported on.
FOUND = (RESULT, "predictions.json")  # of genseg generate, and of genseg predict
LEFT_BEHIND = ("config.yaml", METRICS_NAME, ALPHA_NAME, *FOUND, COMPARED)
SHOWN = 12  # images in the viewer
MOST = 1000  # images of an instances.json that are looked through
SIDE = 512  # pixels of the window of an image that a run looks at for its report; a whole one may be of any size


@dataclass(frozen=True)
class Ranked:
    """An image by name, and the instances in it that count."""

    name: str
    height: int
    width: int
    instances: tuple[Instance, ...]

    @property
    def score(self) -> float:
        return float(np.mean([a.score for a in self.instances])) if self.instances else 0.0


@dataclass(frozen=True)
class Run:
    """A directory that a command has left behind. Everything is read when a section asks for it.

    folder: images given by hand, in place of those that the run was made from
    look: a finished alpha decoder may be run on some images
    """

    path: Path
    folder: str | None = None
    look: bool = True

    @functools.cached_property
    def rows(self) -> list[Row]:
        file = self.path / METRICS_NAME
        return read_metrics(file) if file.exists() else []

    @functools.cached_property
    def environment(self) -> dict[str, Any]:
        return self._json("env.json") or {}

    @functools.cached_property
    def compared(self) -> dict[str, Any] | None:
        return self._json(COMPARED)

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
        file = self.path / "config.yaml"
        return file.read_text("utf-8") if file.is_file() else ""

    @functools.cached_property
    def config(self) -> PretrainConfig | None:
        """The config of a pretraining run; None for what another command has made."""
        if not self.config_text:
            return None
        try:
            return configs.load(PretrainConfig, file=self.path / "config.yaml", overrides=[], choices=CHOICES)
        except configs.ConfigError:
            return None

    @property
    def command(self) -> str:
        """What was typed. A file of genseg that was called stands as `genseg`."""
        words = [str(w) for w in self.environment.get("command", [])]
        if words and Path(words[0]).name in ("cli.py", "genseg", "__main__.py"):
            words[0] = "genseg"
        return shlex.join(words)

    @functools.cached_property
    def part_over(self) -> float:
        """The part of a run that is over, by the last line of its metrics; 1 without any."""
        logged = [row for row in self.rows if "eta_seconds" in row]
        if not logged:
            return 0.0 if self.config is not None else 1.0
        last = logged[-1]
        left = last["eta_seconds"] * last["images_per_second"]
        return last["images"] / ((last["images"] + left) or 1)

    @functools.cached_property
    def running(self) -> bool:
        """Whether a process is at work in it."""
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
        """The images it was made from, or those given by hand; None where they are not there. Raises ValueError for a
        folder that was given and cannot be used."""
        if self.folder is not None:
            return list_images(self.folder)
        c = self.config
        path = self.environment.get("folder") if c is None else c.data.path
        try:
            if c is not None and path == "embedded":
                return list_images(default_scenes("objects" if c.alpha.name == "none" else "images"))
            return list_images(str(path)) if path else None
        except ValueError:
            return None

    # what was found

    @functools.cached_property
    def listed(self) -> list[AnnotatedImage]:
        """The images of instances.json, which generation leaves behind, or of predictions.json."""
        file = self._found
        if file is None:
            return []
        content = read_json(file)
        if any("mask" in i for i in content["images"]):
            return []  # classes of pixels, no instances
        images = [content["images"][i] for i in chosen(len(content["images"]), MOST)]
        ids = {i.get("id") for i in images}
        found = [a for a in content["annotations"] if a.get("image_id") in ids]
        return annotated_images(images, found, file)

    @property
    def _found(self) -> Path | None:
        return next((f for f in (self.path / name for name in FOUND) if f.is_file()), None)

    @functools.cached_property
    def classes(self) -> dict[int, str]:
        """Annotation id -> its class, where instances.json has several."""
        content = {"annotations": []} if self._found is None else read_json(self._found)
        names = {int(c["id"]): str(c["name"]) for c in content.get("categories", [])}
        if len(names) < 2:
            return {}
        return {int(a["id"]): names.get(int(a["category_id"]), "?") for a in content["annotations"]}

    @functools.cached_property
    def looked(self) -> tuple[list[Picture], float, float]:
        """Some images, seen by the run's alpha decoder; the score from which an instance counts, and the least kept."""
        file, images = self.path / ALPHA_NAME, self.images
        if not self.look or not file.is_file() or images is None or self.listed:
            return [], 0.0, 0.0
        model, _ = load_alpha(file)
        model.precision = fast_precision(torch.device("cpu"))
        score = model.config.score
        model.config = replace(model.config, score=score / 2)
        pictures = []
        for i in chosen(len(images), SHOWN):
            try:
                pixels = middle(decode(images.path(i), short_side=model.look.side), SIDE)
            except ImageError:
                continue  # the data section lists those that cannot be read
            pictures.append(Picture(images.files[i], pixels, tuple(model.instances(pixels))))
        return pictures, score, score / 2

    @functools.cached_property
    def ranked(self) -> list[Ranked]:
        """All images whose instances are known, the surest first; of a run, those that it looked at."""
        if self.listed:
            every = [Ranked(i.name, i.height, i.width, i.instances) for i in self.listed]
        else:
            pictures, score, _ = self.looked
            every = [
                Ranked(p.name, len(p.pixels), p.pixels.shape[1], tuple(a for a in p.instances if a.score >= score))
                for p in pictures
            ]
        return sorted(every, key=lambda r: -r.score)

    @functools.cached_property
    def snapshots(self) -> Any:
        return read_snapshots(self.path)


def chosen(total: int, count: int) -> list[int]:
    """Some numbers below `total`, always the same, in order."""
    return sorted(np.random.default_rng(0).permutation(total)[:count].tolist())
