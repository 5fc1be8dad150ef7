"""The cells of a study: an arm and a seed each, known by a digest of all that decides the weights.

Cells lie in one folder for all studies of an `--out`, by digest: two arms, or two studies, that say
the same share a cell.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genseg import config as configs
from genseg.core.names import CELL_NAME, ENCODER_NAME
from genseg.core.paths import expand
from genseg.recipes import LENGTHS, one_length, recipe
from genseg.runs.folder import RunError
from genseg.schema import ConfigError, defaults_of
from genseg.workflows.pretrain.config import CHOICES, FREE_KEYS, PretrainConfig
from genseg.workflows.study.config import ArmConfig, StudyConfig
from genseg.workflows.study.data import StudyData

CELLS, RUN = "cells", "run"  # folders
VERSION = 1  # of what a cell does with its config; raise it and all cells are made anew
OWN = ("data.path", "run", "seed", "encoder.weights", *LENGTHS)  # keys that the study sets
# a cell is short, and several are made at a time
CALM = ("probe.every=0 steps", "checkpoint.every=20 percent", "data.workers=0")
FILES = ("method.target.words", "method.teacher", "alpha.teacher")
FREE = (*FREE_KEYS, "encoder.weights:", "threads:")


@dataclass(frozen=True)
class Cell:
    """One training, or random weights. start: the cell whose weights it begins with"""

    arm: str
    seed: int
    kind: str
    config: PretrainConfig
    folder: Path
    described: dict[str, Any]
    start: "Cell | None" = None

    @property
    def title(self) -> str:
        return f"{self.arm}, seed {self.seed}"

    @property
    def run(self) -> Path:
        """The run directory, which holds the encoder."""
        return self.folder / RUN

    @property
    def reads_names(self) -> bool:
        """Whether its method can tell classes by their names."""
        target = getattr(self.config.method, "target", None)
        return self.kind == "pretrain" and getattr(target, "name", "") == "semantic"

    @property
    def depth(self) -> int:
        """How many cells have to be there before it."""
        return 0 if self.start is None else self.start.depth + 1

    @property
    def root(self) -> Path:
        """The folder of the cell that it and others begin with, in the end; one shard makes
        all."""
        return self.folder if self.start is None else self.start.root


def plan_cells(study: StudyConfig, data: StudyData, out: Path) -> list[Cell]:
    """All cells of a study, seed by seed. Raises ConfigError for a recipe that does not fit."""
    made = dict[tuple[str, int], Cell]()
    for seed in range(study.seeds):
        for last in study.arms:
            for arm in study.chain(last):
                if (arm, seed) not in made:
                    start = study.arms[arm].start
                    above = None if start is None else made[start, seed]
                    made[arm, seed] = _cell(study, arm, seed, data, out, above)
    return [made[arm, seed] for seed in range(study.seeds) for arm in study.arms]


def _cell(
    study: StudyConfig, arm: str, seed: int, data: StudyData, out: Path, start: Cell | None
) -> Cell:
    settings = study.arms[arm]
    path, part = data.part(round(settings.subset * study.subset), seed)
    config = arm_config(study, arm, path)
    config = replace(config, seed=seed)
    described = _described(config, settings)
    if settings.kind != "random":
        described |= {"images of": data.content, "part": part}
    if start is not None:
        described["start"] = start.folder.name
        config = replace(config, encoder=replace(config.encoder, weights=str(start.run)))
    digest = _digest(described, config)
    if settings.kind == "pretrain":
        described |= _contents(described)
    word = config.method.name if settings.kind == "pretrain" else settings.kind
    folder = out / CELLS / f"{word}-{digest}"
    config = replace(config, run=str(folder / RUN))
    return Cell(arm, seed, settings.kind, config, folder, described, start)


def arm_config(study: StudyConfig, arm: str, path: str) -> PretrainConfig:
    """The recipe of an arm with its keys over those of the study. Raises ConfigError, which names
    the arm."""
    settings = study.arms[arm]
    try:
        keys = merged(study.keys, settings.keys)
        if clash := [k.partition("=")[0] for k in keys if k.partition("=")[0].strip() in OWN]:
            raise ConfigError(
                f"{', '.join(clash)}: a study sets this itself; images, subset, seeds, data and "
                "start are its own keys"
            )
        length = f"images={settings.images * study.images:.0f}"
        given = merged(CALM, keys)
        return configs.load(
            PretrainConfig,
            file=recipe(Path(settings.recipe or study.recipe), "pretrain"),
            overrides=one_length([*given, f"data.path={path}", "run=unused", length]),
            choices=CHOICES,
        )
    except ConfigError as error:
        raise ConfigError(f"arms.{arm}: {error}") from None


def merged(*given: Iterable[str]) -> list[str]:
    """Texts of key=value in which the last of a key counts."""
    last = {text.partition("=")[0].strip(): text for texts in given for text in texts}
    return list(last.values())


def _described(config: PretrainConfig, settings: ArmConfig) -> dict[str, Any]:
    """What decides the weights, besides images and start; of random weights their architecture
    and how they see."""
    flat = {k: v for k, v in configs.flatten(config).items() if not f"{k}:".startswith(FREE)}
    sizes = [v.size for v in config.views.values() if v.count]
    size = config.probe.size or max(sizes, default=0)
    if settings.kind != "pretrain":
        kept = ("encoder.", "data.mean", "data.std", "seed")
        flat = {k: v for k, v in flat.items() if k.startswith(kept)}
    return {"kind": settings.kind, "version": VERSION, "size": size, **flat}


def _digest(described: Mapping[str, Any], config: PretrainConfig) -> str:
    """Of all that is described and no default, so that a key which comes with a later version of
    genseg makes no cell anew."""
    usual = defaults_of(config)
    told = {k: v for k, v in described.items() if k not in usual or v != usual[k]}
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()


def _contents(described: Mapping[str, Any]) -> dict[str, str]:
    """A digest of each file that decides weights and is known by its place alone, where it is."""
    found = {}
    for key in FILES:
        if isinstance(named := described.get(key), str):
            path = expand(named)
            if (file := path / ENCODER_NAME if path.is_dir() else path).is_file():
                status = file.stat()
                found[f"content of {key}"] = _content(file, status.st_size, status.st_mtime_ns)
    return found


@functools.lru_cache(maxsize=8)  # several arms and seeds learn from one
def _content(file: Path, size: int, time: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()[:16]


def refuse_other(cell: Cell) -> None:
    """Raise RunError when a cell was made with another value of a key that is a default now, or
    with another file at the same place."""
    try:
        made = json.loads((cell.folder / CELL_NAME).read_text("utf-8"))["described"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    now = json.loads(json.dumps(cell.described))
    shared = made.keys() & now.keys()
    before, after = ({k: d[k] for k in shared} for d in (made, now))
    if changed := configs.difference(before, after):
        lines = "\n  ".join(changed)
        raise RunError(
            f"{cell.folder} was made with other defaults or files (old -> new):\n  {lines}\nRemove "
            "that folder to have it made again, or choose another --out"
        )


def unique(cells: Sequence[Cell]) -> list[Cell]:
    """One cell of each folder."""
    return list({cell.folder: cell for cell in reversed(cells)}.values())[::-1]


def share(cells: Sequence[Cell], shard: int, shards: int) -> list[Cell]:
    """The cells of a shard; those that begin with one cell stay together."""
    roots = {cell.root: n for n, cell in reversed(list(enumerate(cells)))}
    order = sorted(roots, key=lambda root: roots[root])
    mine = set(order[shard::shards])
    return [cell for cell in cells if cell.root in mine]
