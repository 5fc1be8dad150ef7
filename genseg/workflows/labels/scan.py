"""What is in a set of images: counts, kinds, sizes, broken files, exact duplicates, and labels."""

import contextlib
import hashlib
import io
import os
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from genseg.core.paths import expand
from genseg.core.reading import Reading
from genseg.core.result import Result
from genseg.data.images.decode import TIFFS, read_file, reason_of
from genseg.data.images.files import ImageList, fingerprint, list_files, walk
from genseg.data.images.held import may_hold_more
from genseg.data.images.kind import Kind, kind_of
from genseg.data.images.original import read_original
from genseg.data.images.source import ImageError, decode
from genseg.data.images.uneven import notes_on
from genseg.data.labels.label_report import LabelReport, report_labels
from genseg.data.proposals.scale import SIDE, Scale, scale_of, spread_over
from genseg.data.regions.opened import by_windows, open_regions
from genseg.workflows.labels.held_report import KINDS, HeldReport, held_report

WIDTH = 100  # columns of a report
QUANTILES = {"min": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "max": 1.0}
NO_BREAK = "\N{NO-BREAK SPACE}"
Counts = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Scan(Result):
    """What `scan` found. Counts are (name, number), the most frequent first.

    images: listed files, broken ones included; size: of all of them, in bytes
    formats, modes, widths, heights: of the readable ones; sizes in pixels, upright, at QUANTILES
    broken: (file, reason); duplicates: groups of readable files with equal bytes
    classes: by name, when the list has labels; left_out: suffixes of other files in a folder
    labels: of a COCO json that has annotations
    notes: what of the files is not alike, in a sentence or two; empty where all is plain
    held: their axes, channels, bits and values, and which hold more than is said what to use of
    scale: whether things are small and repeat, or large and few, where that was asked
    """

    path: str
    images: int
    size: int
    formats: Counts
    modes: Counts
    widths: tuple[int, ...]
    heights: tuple[int, ...]
    broken: tuple[tuple[str, str], ...]
    duplicates: tuple[tuple[str, ...], ...]
    classes: Counts
    left_out: Counts
    labels: LabelReport | None = None
    notes: str = ""
    held: HeldReport | None = None
    scale: Scale | None = None

    def text(self) -> str:
        return format_report(self)


@dataclass(frozen=True)
class _Finding:
    """One file: its kind, or why it is broken."""

    size: int  # bytes
    digest: bytes  # of the content
    kind: Kind | None
    reason: str


def scan(path: str | Path, *, scale: bool = False) -> Scan:
    """Read every image of a folder, a list or a json as training would (JPEGs at 1/8 of their size,
    for speed); of what is read by windows the header.

    scale: also look at some of them, to tell which recipe suits them

    Raises ValueError as `list_files` does, and where a scale is asked of images of one colour.
    """
    images = list_files(path)
    parts = [range(i, min(i + 32, len(images))) for i in range(0, len(images), 32)]
    found: list[_Finding] = []
    with (
        ThreadPoolExecutor((os.cpu_count() or 1) + 2) as pool,  # two wait for the disk
        tqdm(
            total=len(images), desc="reading", unit=" images", disable=None, leave=False
        ) as progress,
    ):
        for part in pool.map(lambda part: [_inspect(images, i) for i in part], parts):
            found += part
            progress.update(len(part))
    summary = _summary(images, found, path)
    return replace(summary, scale=_scale(images, path)) if scale else summary


def _scale(images: ImageList, path: str | Path) -> Scale:
    """Of some images, evenly spread; broken ones are left out."""

    def readable() -> Iterator[np.ndarray]:
        for i in spread_over(len(images)):
            with contextlib.suppress(ImageError):
                yield decode(images.path(i), short_side=SIDE)

    if (found := scale_of([*readable()])) is None:
        raise ValueError(
            f"{path}: no image that was looked at has two colours, so none has a scale"
        )
    return found


def _inspect(images: ImageList, i: int) -> _Finding:
    path, size, digest = images.path(i), 0, b""
    try:
        if by_windows(path):
            return _large(images, i)
        data = read_file(path)
        size, digest = len(data), hashlib.blake2b(data, digest_size=16).digest()
        _decode(path, data)
        return _Finding(size, digest, kind_of(data), "")
    except ImageError as error:
        return _Finding(size, digest, None, str(error).removeprefix(f"{path}: "))
    except MemoryError:
        raise
    except Exception as error:  # damaged files make PIL's plugins raise nearly anything
        return _Finding(size, digest, None, reason_of(error))


def _large(images: ImageList, i: int) -> _Finding:
    """An image that is read by windows, by its header. Raises ImageError."""
    path = images.path(i)
    try:
        found = open_regions(path, image=1)
    except ImageError:  # it may hold more than is said what to use of
        found = open_regions(path, Reading("1", "1"))
    held, (height, width) = found.held, found.levels[0]
    colours = {1: "grey", 3: "RGB"}.get(held.channels, f"{held.channels} channels")
    name = "TIFF" if path.suffix.lower() in TIFFS else path.suffix[1:].lower()
    digest = fingerprint(replace(images, files=(images.files[i],), windows=None, pages=None))
    kind = Kind(name, f"{colours} {held.bits} bit", width, height, held.pages)
    return _Finding(images.bytes(i), digest.encode(), kind, "")


def _decode(path: Path, data: bytes) -> None:
    """To the end, as training would; of what holds more than is said what to use of, the first
    page. Raises ImageError."""
    try:
        decode(path, short_side=1, image=1)
    except ImageError:
        if not may_hold_more(io.BytesIO(data)):
            raise
        try:
            read_original(path, image=1, reading=Reading(pages="1"))
        except ImageError as error:
            raise error from None


def _summary(images: ImageList, found: list[_Finding], path: str | Path) -> Scan:
    kinds = [f.kind for f in found if f.kind]
    groups: dict[bytes, list[str]] = {}
    for file, f in zip(images.files, found, strict=True):
        if f.kind:
            groups.setdefault(f.digest, []).append(file)
    labels = Counter(images.labels or ())
    whole = [n for n, f in enumerate(found) if f.kind]
    paths, files = [images.path(n) for n in whole], [images.files[n] for n in whole]
    others = walk(expand(path))[1] if expand(path).is_dir() else Counter()
    return Scan(
        path=str(path),
        images=len(images),
        size=sum(f.size for f in found),
        formats=_counts(k.format for k in kinds),
        modes=_counts(k.mode for k in kinds),
        widths=_quantiles([k.width for k in kinds]),
        heights=_quantiles([k.height for k in kinds]),
        broken=tuple(
            (file, f.reason) for file, f in zip(images.files, found, strict=True) if not f.kind
        ),
        duplicates=tuple(tuple(g) for g in groups.values() if len(g) > 1),
        classes=tuple((name, labels[n]) for n, name in enumerate(images.classes)),
        left_out=tuple(others.most_common()),
        labels=report_labels(expand(path)),
        notes=notes_on(tuple(paths)),
        held=held_report(paths, files),
    )


def _counts(names: Iterable[str]) -> Counts:
    return tuple(Counter(names).most_common())


def _quantiles(values: Sequence[int]) -> tuple[int, ...]:
    """Values that occur, at QUANTILES; empty for none."""
    if not values:
        return ()
    return tuple(np.quantile(values, [*QUANTILES.values()], method="nearest").tolist())


def format_report(report: Scan, *, groups: int = 20) -> str:
    """The report as plain text of 100 columns; file names are never cut, and every broken file is
    listed.

    groups: how many groups of duplicates are listed
    """
    text = [_printable(report.path), ""]
    for name, value in _rows(report):
        lines = textwrap.wrap(value, WIDTH, initial_indent=f"{name:12}", subsequent_indent=" " * 12)
        text += [line.replace(NO_BREAK, " ") for line in lines]
    text += _sizes(report)
    if report.held:
        text += report.held.lines()
        if report.held.refused:
            text += ["", "Hold more than one picture: say what to use before anything is learnt"]
        for file, reason in report.held.refused[:groups]:
            text += _entry(_printable(file), _printable(reason))
        if len(report.held.refused) > groups:
            text.append(f"  and {len(report.held.refused) - groups:,} more files")
    if report.broken:
        text += ["", "Broken files"]
        for file, reason in report.broken:
            text += _entry(_printable(file), _printable(reason))
    if report.labels and report.labels.findings:
        text += ["", "Labels: what was found, and what genseg finetune does with it"]
        for f in report.labels.findings:
            text += _entry(
                f"{f.count:,} {f.what}: {f.outcome};", f"the first: {_printable(f.first)}"
            )
    if report.duplicates:
        text += ["", "Exact duplicates: files with the same bytes, a group after the other"]
        for n, group in enumerate(report.duplicates[:groups], start=1):
            text += [f"{n if not k else '':>5}  {_printable(file)}" for k, file in enumerate(group)]
        if len(report.duplicates) > groups:
            text.append(f"       and {len(report.duplicates) - groups:,} more groups")
    return "\n".join(text)


def _rows(report: Scan) -> list[tuple[str, str]]:
    """A name and a line for each thing that was counted."""
    readable = report.images - len(report.broken)
    copies = sum(len(g) - 1 for g in report.duplicates)
    rows = [
        (
            "images",
            f"{report.images:,} files, {report.size / 1e6:,.1f} MB: {readable:,} can be read, "
            f"{len(report.broken):,} are broken",
        ),
        ("formats", _list(report.formats)),
        ("colours", _list(report.modes)),
        (
            "duplicates",
            f"{copies:,} copies of {len(report.duplicates):,} other files" if copies else "none",
        ),
        ("classes", _classes(report.classes)),
    ]
    if report.notes:
        rows.insert(1, ("note", report.notes))
    if report.scale:
        rows.insert(-1, ("scale", str(report.scale)))
    if report.held:
        rows[3:3] = _held_rows(report.held)
    if report.labels:
        rows[-1:] = _label_rows(report.labels)
    if report.left_out:
        rows.append(("left out", f"{_list(report.left_out)}: not known as images"))
    return rows


def _sizes(report: Scan) -> list[str]:
    """Quantiles of the images' sides, and of the labelled objects'."""
    if len(report.broken) == report.images:
        return []
    text = ["", f"{'pixels':12}" + "".join(f"{name:>9}" for name in QUANTILES)]
    # of squares as large as the labelled objects
    sides = _quantiles(report.labels.sides) if report.labels else ()
    for name, values in (("width", report.widths), ("height", report.heights), ("object", sides)):
        text += [f"{name:12}" + "".join(f"{value:9,}" for value in values)] if values else []
    return text


def _held_rows(held: HeldReport) -> list[tuple[str, str]]:
    """What files hold, where they hold more than plain pictures, and the size of their pixels."""
    sizes = tuple((f"{size} um" if size else "not known", n) for size, n in held.pixel_sizes)
    known = any(size for size, _ in held.pixel_sizes)
    rows = [("holds", _list(held.kinds[:KINDS]))] if held.kinds else []
    return rows + ([("pixel size", _list(sizes))] if known else [])


def _label_rows(labels: LabelReport) -> list[tuple[str, str]]:
    if labels.why:
        return [("labels", f"none can be used: {labels.why}")]
    counts = labels.counts
    what = "masks" if labels.masks else "boxes"
    text = (
        f"{labels.labels:,} {what} in {len(counts):,} images, {min(counts):,} to {max(counts):,} "
        f"in each, {int(np.median(counts)):,} in the median"
    )
    text += f"; {labels.crowds:,} crowds" if labels.crowds else ""
    return [
        ("labels", text),
        ("categories", f"{len(labels.categories):,}: {_list(labels.categories)}"),
    ]


def _list(counts: Counts) -> str:
    """`name 1,234, other 5`; a line will break between two entries only."""
    return (
        ", ".join(f"{_printable(name)} {n:,}".replace(" ", NO_BREAK) for name, n in counts)
        or "none"
    )


def _classes(counts: Counts) -> str:
    numbers = [n for _, n in counts]
    if not counts:
        return "none"
    each = (
        _list(counts)
        if len(counts) <= 40
        else f"{min(numbers):,} to {max(numbers):,} images in each"
    )
    return f"{len(counts):,}: {each}"


def _entry(file: str, reason: str) -> list[str]:
    """On one line, or on more where that is too long."""
    if len(file) + len(reason) + 6 <= WIDTH:
        return [f"  {file}  {reason}"]
    return [
        f"  {file}",
        *textwrap.wrap(reason, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6),
    ]


def _printable(name: str) -> str:
    """Names may hold line ends, control codes or bytes that are no UTF-8."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name
    )
