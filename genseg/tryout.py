"""The first minutes on a folder: learn instance alpha maps, generate them, show them, and say what
to change."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml

from genseg import config as configs
from genseg.alpha.mine import mine
from genseg.alpha.model import load_alpha
from genseg.core.check import above
from genseg.core.names import CONFIG_NAME, INSTANCES_NAME
from genseg.core.paths import SHIPPED, expand, name_of
from genseg.core.precision import fast_precision
from genseg.core.result import Result
from genseg.core.words import amount
from genseg.data.images.decode import shrunk, shrunk_size
from genseg.data.images.files import ImageList, list_images
from genseg.data.images.source import ImageError, decode_image
from genseg.data.instances.coco import read_json
from genseg.data.proposals.scale import FOR_LARGE, OTHER, SIDE, Scale, scale_of
from genseg.nn.kept_reading import reads_as
from genseg.recipes import LENGTHS, one_length, recipe
from genseg.reports.grid import visualize
from genseg.reports.report import LiveReport, try_report
from genseg.workflows.evaluate.alpha import AlphaScores, evaluate_runs, read_truth
from genseg.workflows.generate.finder import Wanted, alpha_file
from genseg.workflows.generate.generate import Generated, GenerateOptions, generate_folder
from genseg.workflows.pretrain.config import CHOICES, PretrainConfig
from genseg.workflows.pretrain.dry_run import dry_run
from genseg.workflows.pretrain.pretrain import pretrain
from genseg.workflows.pretrain.session import Pretrained

FOUND = "found"  # in the run directory: the instances of some images of the folder
LISTED = "images.txt"  # in the run directory: which images these are
SHEET = "sheet.png"
SHOWN = 48  # images whose instances are generated, spread evenly over the folder
LOOKED = 12  # of these, images that the model looks at twice
CLASSICAL = ("tree", "otsu")  # beside the model: the best on microscope images, the best known
MEASURES = ("TP/(TP+FP+FN) at IoU 0.5", "TP/(TP+FP+FN) at IoU 0.75", "mask AP")
NARROW, WIDE = 6, 100  # pixels after shrinking between which instances are found best
EMPTY = 0.3  # share of images without instances from which on a word is due
UNSTEADY = 0.5  # agreement of two looks below which a word is due
SHORTEST, LONGEST = 800, 16_000  # images seen
LEAST = 0.05  # score of an instance that counts for AP


@dataclass(frozen=True)
class Seen:
    """Instances that a short run finds in images of its folder.

    empty: images without an instance
    widths: median and 95th percentile, in pixels after shrinking; None without instances
    agreement: of two looks at an image; None where neither finds anything
    shrunk: whether images are shrunk
    scale: whether things are small and repeat, or large and few; None where nothing tells
    """

    images: int
    empty: int
    widths: tuple[float, float] | None
    agreement: float | None
    shrunk: bool
    scale: Scale | None = None


@dataclass(frozen=True)
class Trial(Result):
    """A short run on a folder, and what it says of a longer one.

    pretrained, generated: what was learnt, and what was found with it; None for an interrupted run
    sheet: a picture of images, instances and cut-outs
    seen: what the instances are like; advice: what to change, a sentence each
    scores: beside classical methods, on labels that nothing has learnt from; where there are some
    next: commands for the full run
    """

    pretrained: Pretrained
    generated: Generated | None = None
    sheet: Path | None = None
    seen: Seen | None = None
    advice: tuple[str, ...] = ()
    scores: AlphaScores | None = None
    next: tuple[str, ...] = ()

    def text(self) -> str:
        if self.generated is None:
            return self.pretrained.text()
        said = "\n                ".join(self.advice)
        return "\n".join(
            [
                self.generated.text(),
                f"pictures: {self.sheet}",
                f"pages: {self.pretrained.run / 'report.html'}, "
                f"{self.generated.out / 'report.html'}",
                "",
                *([] if self.scores is None else _table(self.scores)),
                f"what to change: {said}" if said else "nothing has to be changed",
                f"this run saw {self.pretrained.images_seen:,} images, a full one sees {LONGEST:,}",
                "",
                "next, the full run on your images, and the instances of all of them:",
                *(f"  {command}" for command in self.next),
            ]
        )


def trial(
    folder: str,
    *,
    run: str | None = None,
    minutes: float = 5.0,
    labels: str | None = None,
    overrides: Sequence[str] = (),
) -> Trial:
    """Train the alpha task for some minutes, generate the instances of some images, show them.

    run: the run directory; None: runs/try-NAME
    minutes: of training, about; a length in `overrides` counts instead
    labels: a COCO json; its images are looked at in place of the folder's, and the instances are
        compared with its masks
    overrides: keys of the recipe alpha, as key=value

    Leaves in the run directory, beside what `pretrain` leaves, found/ as `generate_folder` does,
    and sheet.png. Raises ValueError for what a user can mend.
    """
    above(0, minutes=minutes)
    source = None if labels is None else expand(labels)
    if source is not None:
        read_truth(source, None)
    config = _config(folder, run or f"runs/try-{name_of(folder)}", minutes, overrides)
    pretrained = pretrain(config, watch=LiveReport)
    if not pretrained.complete:
        return Trial(pretrained)
    images, listed = _images(pretrained.run, folder, source)
    out = pretrained.run / FOUND
    again = (out / INSTANCES_NAME).exists()
    generated = generate_folder(
        pretrained.run, listed, out, GenerateOptions(alphas=True, fresh=again)
    )
    assert generated.file is not None  # one shard
    try_report(out, listed)
    jsons = [generated.file] if source is None else [source, generated.file]
    sheet = pretrained.run / SHEET
    visualize(
        jsons,
        images.root,
        sheet,
        count=6,
        columns=1,
        side=224,
        seed=0,
        cutouts=True,
        titles=True,
        names=["labels", "instances"][-len(jsons) :],
    )
    seen = look(pretrained.run, images, generated.file)
    scores = None if source is None else _scores(pretrained.run, source)
    said = advice(seen, config) if scores is None else (*advice(seen, config), *behind(scores))
    return Trial(pretrained, generated, sheet, seen, said, scores, _next(config, folder))


def _config(folder: str, run: str, minutes: float, overrides: Sequence[str]) -> PretrainConfig:
    """The recipe alpha, as long as this machine needs for `minutes`; as long as it was begun where
    the run goes on."""

    def load(*more: str) -> PretrainConfig:
        words = one_length([f"data.path={folder}", f"run={run}", *overrides, *more])
        file = recipe(Path("alpha"), "pretrain")
        return configs.load(PretrainConfig, file=file, overrides=words, choices=CHOICES)

    config = load()
    if {text.split("=")[0] for text in overrides} & set(LENGTHS):
        return config
    kept = expand(run) / CONFIG_NAME
    if kept.is_file():
        begun = yaml.safe_load(kept.read_text("utf-8")).get("images")
        return load(f"images={begun}") if begun else config
    return load(f"images={length_of(config, seconds=60 * minutes)}")


def length_of(config: PretrainConfig, *, seconds: float) -> int:
    """The images that this machine sees in some seconds, in hundreds, as a few real steps say."""
    tried = dry_run(config)
    assert tried is not None  # the first process
    images = seconds / tried.seconds_per_step * config.batch_size
    return int(min(max(images, SHORTEST), LONGEST) // 100 * 100)


def _images(run: Path, folder: str, labels: Path | None) -> tuple[ImageList, str]:
    """The images that are looked at, and what lists them."""
    if labels is not None:
        return list_images(labels), str(labels)
    every = list_images(folder)
    count = min(len(every), SHOWN)
    chosen = sorted(set(np.linspace(0, len(every) - 1, count).round().astype(int).tolist()))
    listed = run / LISTED
    paths = dict.fromkeys(every.path(i).absolute() for i in chosen)  # of a stack one line
    listed.write_bytes(b"".join(bytes(path) + b"\n" for path in paths))
    return list_images(listed), str(listed)


@reads_as("run")
def look(run: Path, images: ImageList, found: Path) -> Seen:
    """What the instances of a run are like, as a json lists them and as a second look finds
    them."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, _ = load_alpha(alpha_file(run))
    model.to(device).precision = fast_precision(device)
    content = read_json(found)
    sizes = {i["id"]: (i["width"], i["height"]) for i in content["images"]}
    scale = {k: shrunk_size(w, h, model.look.side)[0] / w for k, (w, h) in sizes.items()}
    widths = [scale[a["image_id"]] * max(a["bbox"][2:]) for a in content["annotations"]]
    agreements, small = [], []
    for i in range(0, len(images), max(1, len(images) // LOOKED)):
        try:
            image = decode_image(images, i)
        except ImageError:
            continue
        small.append(shrunk(image, SIDE))
        least = model.config.score
        mined = mine(model, image, [], sure=least, doubtful=least, agreement=least)
        agreements += [] if mined.agreement is None else [mined.agreement]
    median, large = np.percentile(widths, (50, 95)).tolist() if widths else (0.0, 0.0)
    return Seen(
        images=len(sizes),
        empty=len(sizes) - len({a["image_id"] for a in content["annotations"]}),
        widths=(median, large) if widths else None,
        agreement=float(np.mean(agreements)) if agreements else None,
        shrunk=any(v < 1 for v in scale.values()),
        scale=scale_of(small),
    )


def advice(seen: Seen, config: PretrainConfig) -> tuple[str, ...]:
    """What to change before the full run."""
    side, proposals = config.alpha.side, config.alpha.proposals
    said = []
    if seen.scale is not None and seen.scale.large != (proposals in FOR_LARGE):
        said.append(f"{seen.scale}. {OTHER[proposals in FOR_LARGE]}")
    if seen.empty > EMPTY * seen.images:
        said.append(
            f"nothing is found in {seen.empty} of {amount(seen.images, 'image')}: look at the "
            "composites in report.html; if the cut-outs are no instances, try "
            f"alpha.proposals=blobs alpha.compose.sure=0 in place of {proposals}"
        )
    if seen.agreement is not None and seen.agreement < UNSTEADY:
        said.append(
            f"two looks at an image agree on {100 * seen.agreement:.0f} % of the instances: the "
            "model is not sure yet; train longer"
        )
    if seen.widths is not None and seen.widths[0] < NARROW and seen.shrunk:
        said.append(
            f"half of the instances are narrower than {seen.widths[0]:.0f} px once images are "
            f"shrunk to alpha.side={side}: use alpha.side={2 * side}"
        )
    if seen.widths is not None and seen.widths[1] > WIDE:
        better = max(32, round(side * WIDE / seen.widths[1] / 32) * 32)
        said.append(
            f"the largest instances are {seen.widths[1]:.0f} px wide, and those up to {WIDE} px "
            f"are found best: use alpha.side={better}"
        )
    return tuple(said)


def _scores(run: Path, labels: Path) -> AlphaScores:
    """The run beside classical methods. AP is of a ranking: all instances from LEAST on count for
    it, as for methods that keep all; for TP/(TP+FP+FN) those that the run itself would keep."""
    kept = load_alpha(alpha_file(run))[0].config.score
    own = evaluate_runs([run], labels, wanted=Wanted(score=LEAST), threshold=kept)
    others = evaluate_runs([Path(name) for name in CLASSICAL], labels)
    return AlphaScores({**own.files, **others.files}, (*own.lines, *others.lines))


def behind(scores: AlphaScores) -> tuple[str, ...]:
    """Whether a classical method still has a better mask AP on the labels."""
    own, *others = (groups["all"]["mask AP"] for groups in scores.files.values())
    best, name = max(zip(others, CLASSICAL, strict=True))
    if not own < best:  # nor where it is not known
        return ()
    return (f"{name} has the better mask AP on these labels ({best:.3f}, {own:.3f}): train longer",)


def _table(scores: AlphaScores) -> list[str]:
    """The model beside classical methods."""
    names = ("this run", *CLASSICAL)
    rows = [
        f"{name:10}" + "".join(f"{groups['all'][m]:>28.3f}" for m in MEASURES)
        for name, groups in zip(names, scores.files.values(), strict=True)
    ]
    head = " " * 10 + "".join(f"{m:>28}" for m in MEASURES)
    return ["against labels that nothing here has learnt from:", head, *rows, ""]


def _next(config: PretrainConfig, folder: str) -> tuple[str, ...]:
    """The commands that follow; for a folder of the user's own after a trial on shipped images."""
    own = "FOLDER" if folder.startswith(SHIPPED) else folder
    run = "runs/mine" if folder.startswith(SHIPPED) else f"{config.run}-full"
    return (
        f"genseg pretrain --config alpha data.path={own} run={run}",
        f"genseg generate {run} {own} --out {run}/found",
    )
