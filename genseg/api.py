"""A function for each command.

They return the results of `genseg.workflows`, numbers and paths that `print` puts into words, and
write what the commands write. A key of a recipe is given as `**{"optimizer.lr": 3e-4}`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from genseg import config as configs
from genseg.core import dist
from genseg.core.paths import expand
from genseg.core.reading import Reading
from genseg.core.reading import reading as read_as
from genseg.data.regions.scope import Scope
from genseg.recipes import one_length, recipe
from genseg.reports.index import write_index
from genseg.reports.report import LiveReport, try_report, write_report
from genseg.reports.run import LEFT_BEHIND
from genseg.tryout import Trial
from genseg.tryout import trial as run_trial
from genseg.workflows.energy.config import CHOICES as ENERGY_CHOICES
from genseg.workflows.energy.config import EnergyConfig
from genseg.workflows.energy.energy import shape_energy
from genseg.workflows.energy.session import Shaped
from genseg.workflows.evaluate.alpha import AlphaScores, evaluate_runs
from genseg.workflows.evaluate.detector import Evaluated, evaluate_files
from genseg.workflows.export.encoder import Exported
from genseg.workflows.export.export import export as export_run
from genseg.workflows.export.model import is_finetuned
from genseg.workflows.finetune.cells import arm_of, parse_arms
from genseg.workflows.finetune.compare import Compared
from genseg.workflows.finetune.compare import compare as compare_arms
from genseg.workflows.finetune.config import CHOICES as FINETUNE_CHOICES
from genseg.workflows.finetune.config import FinetuneConfig
from genseg.workflows.finetune.finetune import finetune as run_finetune
from genseg.workflows.finetune.session import Finetuned
from genseg.workflows.generate import predict as predicting
from genseg.workflows.generate.finder import Wanted, is_proposer
from genseg.workflows.generate.generate import Generated, GenerateOptions, generate_folder
from genseg.workflows.generate.predict import Predicted
from genseg.workflows.labels import convert as converting
from genseg.workflows.labels import scan as scanning
from genseg.workflows.labels.result import Converted
from genseg.workflows.labels.scan import Scan
from genseg.workflows.labels.split import Split, split_labels
from genseg.workflows.pretrain.config import CHOICES as PRETRAIN_CHOICES
from genseg.workflows.pretrain.config import PretrainConfig
from genseg.workflows.pretrain.pretrain import pretrain as run_pretrain
from genseg.workflows.pretrain.session import Pretrained
from genseg.workflows.study.config import load_study
from genseg.workflows.study.study import Studied, StudyOptions, run_study

PathLike = str | Path


@contextmanager
def reading(
    *, channels: int | str | Sequence[int | str] = (), pages: int | str = ""
) -> Iterator[None]:
    """Inside, files are read so, by all functions: --channels and --pages of the commands.

    channels: numbers from 1 or names; pages: "each", "max", "mean", N or "N:M"

    It holds for all threads of the process, as runs keep how they read: threads that read
    differently at the same time need a process each.
    """
    listed = [channels] if isinstance(channels, int | str) else channels
    with read_as(Reading(",".join(map(str, listed)), str(pages))):
        yield


def pretrain(
    data: PathLike,
    *,
    run: PathLike,
    recipe: PathLike | None = "simclr_alpha",
    fresh: bool = False,
    **keys: Any,
) -> Pretrained:
    """`genseg pretrain`: learn from unlabelled images, or go on where the run directory stands.

    data: a folder, a text list or a COCO json
    recipe: a name or a YAML file; None: the defaults

    Raises ValueError for what a user can mend, RuntimeError for what stopped the run.
    """
    config = configs.load(
        PretrainConfig,
        file=_recipe(recipe, "pretrain"),
        overrides=_overrides(keys, {"data.path": data, "run": run}),
        choices=PRETRAIN_CHOICES,
    )
    return run_pretrain(config, fresh=fresh, watch=LiveReport)


def energy(
    alpha: PathLike,
    *,
    run: PathLike,
    shape: PathLike = "critic",
    fresh: bool = False,
    **keys: Any,
) -> Shaped:
    """`genseg energy`: shape an energy for the alpha decoder of a run, or go on.

    alpha: a run with the alpha task, or of genseg.finetune with places; shape: a recipe of
    configs/energy, or a YAML file

    Raises ValueError for what a user can mend, RuntimeError for what stopped the run.
    """
    config = configs.load(
        EnergyConfig,
        file=_recipe(shape, "energy"),
        overrides=_keys(keys, {"alpha": alpha, "run": run}),
        choices=ENERGY_CHOICES,
    )
    return shape_energy(config, fresh=fresh, watch=LiveReport)


def finetune(
    train: PathLike,
    *,
    run: PathLike,
    val: PathLike | None = None,
    encoder: PathLike = "random",
    recipe: PathLike | None = "mask_rcnn",
    fresh: bool = False,
    **keys: Any,
) -> Finetuned:
    """`genseg finetune`: train a detector or segmenter from labelled images, or go on.

    train, val: COCO jsons; encoder: random, a run, a .safetensors file, or a tag of smp or timm

    Raises ValueError for what a user can mend, RuntimeError for what stopped the run.
    """
    given = {"data.train": train, "data.val": val, "encoder": encoder, "run": run}
    config = configs.load(
        FinetuneConfig,
        file=_recipe(recipe, "finetune"),
        overrides=_overrides(keys, given),
        choices=FINETUNE_CHOICES,
    )
    return run_finetune(config, fresh=fresh, watch=LiveReport)


def generate(
    run: PathLike,
    images: PathLike,
    *,
    out: PathLike,
    score: float | None = None,
    min_area: int | None = None,
    side: int | None = None,
    energy: PathLike | None = None,
    teacher: PathLike | None = None,
    alphas: bool = False,
    cutouts: bool = False,
    region: PathLike | None = None,
    level: int | None = None,
    um_per_pixel: float | None = None,
    every_tile: bool = False,
    fresh: bool = False,
) -> Generated:
    """`genseg generate`: the instance alpha maps of a folder of images, by a run or a proposer.

    energy: a run of genseg energy that ranks the instances
    teacher: what the proposer cut asks: a .safetensors file, a run with an encoder, or a tag
    region, level, um_per_pixel, every_tile: how much of images is looked at, and how closely
    """
    ranked, taught = (None if given is None else str(given) for given in (energy, teacher))
    wanted = Wanted(score=score, min_area=min_area, side=side, energy=ranked, teacher=taught)
    seen = _scope(region, level, um_per_pixel, every_tile)
    options = GenerateOptions(
        alphas=alphas, cutouts=cutouts, wanted=wanted, scope=seen, fresh=fresh
    )
    folder = str(expand(images))
    result = generate_folder(_path(run), folder, expand(out), options)
    if dist.rank() == 0:
        try_report(expand(out), folder)
    return result


def _scope(
    region: PathLike | None, level: int | None, um_per_pixel: float | None, every_tile: bool
) -> Scope:
    return Scope(None if region is None else expand(region), level, um_per_pixel, every_tile)


def predict(
    run: PathLike,
    images: PathLike,
    *,
    out: PathLike,
    score: float = 0.5,
    energy: PathLike | None = None,
    region: PathLike | None = None,
    level: int | None = None,
    um_per_pixel: float | None = None,
    every_tile: bool = False,
    fresh: bool = False,
) -> Predicted:
    """`genseg predict`: what a fine-tuned model finds in a folder of images.

    energy: a run of genseg energy that ranks what a model of places finds
    region, level, um_per_pixel, every_tile: how much of images is looked at, and how closely
    """
    folder = str(expand(images))
    seen = _scope(region, level, um_per_pixel, every_tile)
    ranked = None if energy is None else str(energy)
    result = predicting.predict(
        expand(run), folder, expand(out), score=score, energy=ranked, scope=seen, fresh=fresh
    )
    try_report(expand(out), folder)
    return result


def evaluate(
    run: PathLike,
    data: PathLike,
    *,
    score: float | None = None,
    threshold: float | None = None,
    energy: PathLike | None = None,
    teacher: PathLike | None = None,
    level: int | None = None,
    um_per_pixel: float | None = None,
    out: PathLike | None = None,
) -> Evaluated | AlphaScores:
    """`genseg evaluate`: a fine-tuned model (detector), or instances of a run, a proposer or a json
    (alpha), against the labels of a COCO json. The result is a mapping of numbers by name.

    energy: a run of genseg energy that ranks what is found; score, threshold, teacher, level,
    um_per_pixel: of instances alone, as for genseg evaluate alpha
    """
    path, target = _path(run), None if out is None else expand(out)
    ranked, taught = (None if given is None else str(given) for given in (energy, teacher))
    if is_finetuned(path) or (path.is_file() and is_finetuned(path.parent)):
        return evaluate_files(path, expand(data), energy=ranked, out=target)
    wanted = Wanted(score=score, energy=ranked, teacher=taught)
    seen = _scope(None, level, um_per_pixel, False)
    return evaluate_runs(
        [path], expand(data), wanted=wanted, scope=seen, threshold=threshold, out=target
    )


def compare(
    arms: Mapping[str, PathLike] | Sequence[PathLike],
    *,
    train: PathLike,
    val: PathLike,
    labels: Sequence[int | str],
    out: PathLike,
    seeds: int = 3,
    recipe: PathLike | None = "mask_rcnn",
    jobs: int = 1,
    **keys: Any,
) -> Compared:
    """`genseg compare`: what pretraining is worth, in labels.

    arms: name -> encoder, or encoders, as the command takes them (RUN@LIST.txt: the images of that
        list are labelled); the first is the baseline
    labels: numbers of labelled images, or shares such as "10%"
    """
    if isinstance(arms, Mapping):
        chosen = [arm_of(name, str(encoder)) for name, encoder in arms.items()]
    else:
        chosen = parse_arms(",".join(map(str, arms)))
    result = compare_arms(
        chosen,
        labels=",".join(map(str, labels)),
        seeds=seeds,
        out=expand(out),
        file=_recipe(recipe, "finetune"),
        overrides=_overrides(keys, {"data.train": train, "data.val": val}),
        jobs=jobs,
        watch=LiveReport,
    )
    try_report(expand(out))
    return result


def study(
    file: PathLike,
    data: PathLike,
    *,
    out: PathLike = "studies",
    short: bool = False,
    only: Sequence[str] = (),
    jobs: int = 1,
    **keys: Any,
) -> Studied:
    """`genseg study`: train the arms and seeds that decide a claim.

    file: a YAML file, or the name of a study of configs/study; data: class folders
    only: arms; none: all
    """
    path = _recipe(file, "study")
    assert path is not None
    config = load_study(path, _keys(keys, {"data": data}), short=short)
    options = StudyOptions(only=tuple(only), jobs=jobs)
    result = run_study(path.stem, config, expand(out), options, watch=LiveReport)
    try_report(result.out)
    return result


def scan(images: PathLike, *, scale: bool = False) -> Scan:
    """`genseg scan`: what is in a folder of images, a list or a COCO json. scale: whether things in
    them are small and repeat, or large and few."""
    return scanning.scan(expand(images), scale=scale)


def split(labels: PathLike, *, val: float = 0.3, by: str = "group", seed: int = 0) -> Split:
    """`genseg split`: a labelled json in two, for training and validation."""
    return split_labels(expand(labels), part=val, by=by, seed=seed)


def convert(
    file: PathLike,
    to: Literal[
        "cvat",
        "fiftyone",
        "labelstudio",
        "labels",
        "geojson",
        "imagej",
        "napari",
        "yolo",
        "coco",
    ],
    out: PathLike,
    *,
    score: float = 0.0,
    images: str | None = None,
    offset: str | None = None,
) -> Converted:
    """`genseg convert`: instances for a labelling tool; what tools export as COCO json.

    offset: of geojson, where the images lie in a slide: "X,Y", or "names"
    """
    return converting.convert(
        expand(file), to, expand(out), score=score, images=images, offset=offset
    )


def export(run: PathLike, out: PathLike, *, prefix: str = "") -> Exported:
    """`genseg export`: an encoder or a fine-tuned model for another library; out=FILE.onnx: an
    alpha model."""
    return export_run(expand(run), expand(out), prefix=prefix)


def visualize(path: PathLike, images: PathLike | None = None) -> Path:
    """`genseg visualize`: write the report of a run, or the index of a folder of runs; its path."""
    folder = expand(path)
    if images is not None or any((folder / name).exists() for name in LEFT_BEHIND):
        return write_report(folder, None if images is None else str(expand(images)))
    return write_index(folder)


def trial(
    folder: PathLike,
    *,
    run: PathLike | None = None,
    minutes: float = 5.0,
    labels: PathLike | None = None,
    **keys: Any,
) -> Trial:
    """`genseg try`: train the alpha task for some minutes, generate instances, show them; the
    result says what to change before a full run."""
    return run_trial(
        str(folder),
        run=None if run is None else str(run),
        minutes=minutes,
        labels=None if labels is None else str(labels),
        overrides=_overrides(keys, {}),
    )


def _path(run: PathLike) -> Path:
    """A run's path; the name of a proposer stays one."""
    return Path(run) if is_proposer(Path(run)) else expand(run)


def _recipe(given: PathLike | None, kind: str) -> Path | None:
    return recipe(None if given is None else expand(given), kind)


def _overrides(keys: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Keys as the command line takes them."""
    return one_length(_keys(keys, given))


def _keys(keys: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """The same, of a recipe that has one length."""
    values = {**given, **keys}
    known = {key: str(v) if isinstance(v, Path) else v for key, v in values.items()}
    return [f"{k}={json.dumps(v)}" for k, v in known.items() if v is not None]
