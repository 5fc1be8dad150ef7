"""Measure instance alpha maps against labels, all categories as one."""

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genseg.core.check import between
from genseg.core.files import write_text
from genseg.core.names import ALPHAS, BROKEN_NAME
from genseg.core.result import Result
from genseg.core.words import amount
from genseg.data.images.coco_files import CocoError, load_json
from genseg.data.instances.coco import (
    AnnotatedImage,
    annotate,
    by_file,
    file_key,
    picture_name,
    read_json,
)
from genseg.data.instances.soft import read_alpha
from genseg.data.labels.annotated import Usable, read_scored, read_usable
from genseg.data.labels.findings import counted, format_findings
from genseg.data.labels.preflight import CVAT
from genseg.data.proposals.propose import TAUGHT, check_teacher
from genseg.data.regions.scope import WHOLE, Scope
from genseg.measure.class_agnostic import MAX_DETS, SIZES, Images, Measures, by_kind, thirds_of
from genseg.nn.kept_reading import reads_as
from genseg.runs.folder import check_out
from genseg.workflows.generate.finder import Wanted, asks_teacher, is_proposer
from genseg.workflows.generate.generate import generated
from genseg.workflows.generate.records import notes_of

AS_THE_RUN = Wanted()


@dataclass(frozen=True)
class AlphaScores(Result, Mapping[str, float]):
    """Measures of instances against labels, such as `scores["AP"]`: those of all images of the
    first file; nan where a number is not known.

    files: name of each file -> group of images (all, and each kind) -> measures
    lines: what was measured, and how
    """

    files: Mapping[str, Mapping[str, Measures]]
    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Measures:
        """The measures of all images of the first file."""
        return next(iter(next(iter(self.files.values())).values()))

    def __getitem__(self, name: str) -> float:
        return self.first[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.first)

    def __len__(self) -> int:
        return len(self.first)

    def text(self) -> str:
        return "\n".join(self.lines) + "\n\n" + "\n\n".join(_blocks(self.files))


def evaluate_alpha(
    predictions: Sequence[Path],
    data: Path,
    *,
    names: Sequence[str] | None = None,
    alphas: Path | None = None,
    out: Path | None = None,
    threshold: float | None = None,
) -> AlphaScores:
    """How well each file of `predictions` fits the labels of `data`; all numbers as json in `out`.

    predictions: COCO jsons as `genseg generate` writes them, whose images are found by file name;
        or COCO's lists of results, whose image_id is that of `data`
    data: a COCO json; its categories are one, its crowds are ignored; a `kind` of its images is
        told apart. Unusable labels are left out and reported
    names: what each of `predictions` is called; None: as its file
    alphas: folder with the soft alpha maps of the labels, <image>-<n>.png, n from 0 in the order of
        the image's annotations, as `genseg scenes` writes them; those of predictions are read from
        the folder alphas/ beside the json, as <image>-<annotation id>.png, in folders as the
        images; without it they are not compared
    threshold: predictions of a lower score are left out of TP/(TP+FP+FN); the other measures are of
        all

    Images that `broken.txt` beside predictions lists could not be read: they count as nothing
    found.

    Raises CocoError when a file cannot be used, or lacks images of `data`.
    """
    if out:
        check_out(out)
    labels, truth = read_truth(data, alphas)
    names = [str(path) for path in predictions] if names is None else names
    head = _of_labels(data, labels, truth)
    boxed = [] if labels.outlined else [str(data)]  # files of boxes alone
    notes, table = list[str](), dict[str, dict[str, Measures]]()  # file -> group -> measures
    for number, (name, path) in enumerate(zip(names, predictions, strict=True), start=1):
        found, others, unread, looked = _read_found(path, labels, truth)
        boxed += [] if all(f.outlined for f in found) else [name]
        soft = path.parent / ALPHAS
        if alphas and soft.is_dir():
            found = [_with_alphas(f, soft, f.name, f.numbers) for f in found]
        table[name] = by_kind(found, truth, threshold=threshold)
        count = sum(len(f.instances) for f in found)
        head.append(f"{number}: {name}: {count} predictions{_beside(path, others, unread)}")
        notes += looked
    if boxed:
        said = f"boxes alone, no masks: {', '.join(boxed)}"
        notes.append(f"{said}. Measures of masks are left out, recall is that of boxes")
    if out:
        content: dict[str, Any] = {"data": str(data), "threshold": threshold, "notes": notes}
        content["predictions"] = _as_json(table)
        write_text(out, json.dumps(content, indent=1))
    head += [*_of_measures(truth), *notes]
    if threshold is not None:
        head.append(f"TP/(TP+FP+FN) of predictions with a score of {threshold:g} or more")
    return AlphaScores(table, tuple(head), tuple(notes))


def _beside(path: Path, others: int, unread: int) -> str:
    """What is said of images that only one side has."""
    said = f"; {others} more images, which the data lack, are left out" if others else ""
    if unread:
        said += (
            f"; {unread} images that could not be read count as nothing found, see "
            f"{path.parent / BROKEN_NAME}"
        )
    return said


@reads_as("found")
def evaluate_runs(
    found: Sequence[Path],
    data: Path,
    *,
    wanted: Wanted = AS_THE_RUN,
    scope: Scope = WHOLE,
    alphas: Path | None = None,
    threshold: float | None = None,
    out: Path | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> AlphaScores:
    """`evaluate_alpha` of runs, classical proposers and jsons; instances of the first two are
    generated first, those of runs into RUN/evaluated.

    wanted: what counts as an instance of a run or a proposer
    scope: how closely runs and proposers look
    say: told what the user should know before the work begins

    Raises ValueError for what a user can mend, before anything is generated.
    """
    if alphas is not None and not alphas.is_dir():
        raise ValueError(f"--alphas {alphas} is no folder; genseg scenes --alphas writes one")
    if twice := [one for one in found if found.count(one) > 1]:
        raise ValueError(f"{twice[0]} is given twice; give it once")
    if threshold is not None:
        between(0, 1, threshold=threshold)
    if out is not None:
        check_out(out)
    for note in _unused(found, wanted):
        say(f"note: {note}")
    taught = [one for one in found if asks_teacher(one)]
    for one in filter(is_proposer, taught):
        check_teacher(str(one), wanted.teacher, key="--teacher")
    if wanted.teacher is not None and not taught:
        raise ValueError(
            f"--teacher is for {', '.join(TAUGHT)}, and for runs whose decoder takes a teacher's "
            "features; none of these is asked for; leave it out"
        )
    untaught = replace(wanted, teacher=None, teacher_name=None, download=False)
    read_truth(data, alphas)
    with tempfile.TemporaryDirectory() as scratch:
        files = [
            generated(
                one,
                data,
                Path(scratch),
                alphas=alphas is not None,
                wanted=wanted if one in taught else untaught,
                scope=scope,
            )
            for one in found
        ]
        names = [str(one) for one in found]
        return evaluate_alpha(files, data, names=names, alphas=alphas, out=out, threshold=threshold)


def _unused(found: Sequence[Path], wanted: Wanted) -> Iterator[str]:
    """Which settings are not for all that is evaluated."""
    if wanted.score is not None and (fixed := [str(f) for f in found if is_proposer(f)]):
        yield (
            f"--score is for runs; {', '.join(fixed)} has a score of its own for each region, and "
            "keeps all"
        )
    if wanted.settings != AS_THE_RUN.settings and (
        jsons := [str(f) for f in found if f.suffix == ".json"]
    ):
        yield (
            f"--score, --min-area and --side are for runs and proposers; {', '.join(jsons)} is "
            "taken as it is"
        )


def _of_labels(data: Path, labels: Usable, truth: Images) -> list[str]:
    """What is measured against, a line or two."""
    said = f"{data}: {len(truth)} images, {sum(int((~t.crowd).sum()) for t in truth)} labels"
    if crowds := sum(int(t.crowd.sum()) for t in truth):
        said += f"; {amount(crowds, 'crowd')} ignored"
    return [said, *([format_findings(labels.lost)] if labels.lost else [])]


def _of_measures(truth: Images) -> list[str]:
    """What the numbers are of."""
    low, high = thirds_of(truth)
    return [
        f"AP of at most {MAX_DETS} predictions an image, the best by score",
        f"by size: small up to {SIZES['small']} pixels, medium up to {SIZES['medium']}; smallest "
        f"third up to {low:.0f}, middle third up to {high:.0f}; recall at IoU 0.5",
    ]


def read_truth(data: Path, alphas: Path | None) -> tuple[Usable, list[AnnotatedImage]]:
    """The labels of a COCO json, with their soft alphas where these are given. Raises CocoError
    when there are none, or they cannot be used."""
    labels = read_usable(data)
    truth = labels.images()
    if not any((~t.crowd).any() for t in truth):
        crowds = (
            f", crowds alone. {CVAT}"
            if any(labels.labels.values())
            else "; give a data set with labels"
        )
        raise CocoError(f"{data} has {len(truth)} images and no label in them{crowds}")
    if alphas and labels.lost:
        raise CocoError(
            f"{data}: {counted(labels.lost)}; --alphas are in the order of the labels: mend these "
            "first"
        )
    if alphas:
        truth = [_with_alphas(t, alphas, file_key(t.name), range(len(t.instances))) for t in truth]
    return labels, truth


def _as_json(table: Mapping[str, Mapping[str, Measures]]) -> dict[str, Any]:
    """The numbers of a table; json has no nan."""
    return {
        p: {g: {k: None if math.isnan(v) else v for k, v in m.items()} for g, m in groups.items()}
        for p, groups in table.items()
    }


def _read_found(path: Path, labels: Usable, truth: Images) -> tuple[Images, int, int, list[str]]:
    """What a file of predictions found, in the order of `truth`; how many further images it has;
    how many of `truth` it lacks because they could not be read; and what it says of how its images
    were looked at."""
    content = load_json(path)
    if isinstance(content, list):
        known = [
            {**e.record, "height": e.height, "width": e.width} for e in labels.entries.values()
        ]
        return read_scored(known, content, path, listed=labels.listed), 0, 0, []
    content = read_json(path)
    listed = by_file(read_scored(content["images"], content["annotations"], path))
    wanted = [t.key for t in truth]
    listed_broken = _unread(path.parent / BROKEN_NAME)
    unread = {
        name
        for name in wanted
        if name not in listed and file_key(_as_written(name)) in listed_broken
    }
    missing = [name for name in wanted if name not in listed and name not in unread]
    if missing:
        raise CocoError(
            f"{path} lacks {len(missing)} of the {len(wanted)} images of the data, the first is "
            f"{missing[0]} (its own first is {next(iter(listed), 'missing')}); generate for all "
            "of them, one without predictions too"
        )
    found = []
    for name, t in zip(wanted, truth, strict=True):
        f = (
            annotate([], height=t.height, width=t.width, name=t.name)
            if name in unread
            else listed[name]
        )
        if (f.height, f.width) != (t.height, t.width):
            raise CocoError(
                f"{path}: {f.name} has {f.width} x {f.height} pixels, in the data {t.width} x "
                f"{t.height}; predictions have to be of the images' own size"
            )
        found.append(f)
    return found, len(listed) + len(unread) - len(found), len(unread), notes_of(content)


def _unread(file: Path) -> set[str]:
    """The images that a list of broken ones names as `write_text` does, if there is one: a name and
    a reason a line."""
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    return {file_key(line.partition("\t")[0]) for line in lines}


def _as_written(name: str) -> str:
    """A name as `write_text` writes it: UTF-8, with \\udcNN for a byte that is none."""
    return name.encode("utf-8", "backslashreplace").decode()


def _with_alphas(
    image: AnnotatedImage, folder: Path, name: str, numbers: Sequence[int]
) -> AnnotatedImage:
    """Read <image>-<number>.png for each instance, where `name` is the image's own."""
    files = [folder / picture_name(name, n) for n in numbers]
    return replace(
        image,
        alphas=tuple(
            read_alpha(f, i, image.height, image.width)
            for f, i in zip(files, image.instances, strict=True)
        ),
    )


def _blocks(table: Mapping[str, Mapping[str, Measures]]) -> Iterator[str]:
    """Of one file: one block, a column for each group of images. Of several: a block for each
    group."""
    if len(table) == 1:
        yield _block("", *table.values())
        return
    for group in next(iter(table.values())):
        yield _block(
            f"{group} images",
            {str(n): groups[group] for n, groups in enumerate(table.values(), start=1)},
        )


def _block(title: str, columns: Mapping[str, Measures]) -> str:
    """A line for each measure that is known in some column."""
    names = [
        n
        for n in next(iter(columns.values()))
        if not all(math.isnan(c[n]) for c in columns.values())
    ]
    lines = [f"{title:28s}" + "".join(f"{column:>10s}" for column in columns)]
    return "\n".join(
        lines
        + [f"{n:28s}" + "".join(f"{_show(n, c[n]):>10s}" for c in columns.values()) for n in names]
    )


def _show(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if name in ("images", "labels", "predictions") else f"{value:.4f}"
