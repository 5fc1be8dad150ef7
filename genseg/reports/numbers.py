"""The sections of a report that are numbers: curves, transfer, the images, and how the run was
made."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from genseg.core.names import BROKEN_NAME, COMPARED_NAME, PREFLIGHT_NAME
from genseg.core.words import amount, rate
from genseg.data.images.kind import kind_of
from genseg.data.images.uneven import notes_on
from genseg.measure.paired import mean_and_spread
from genseg.methods.semantic import SUPERVISED
from genseg.reports.run import VAL, Run, chosen
from genseg.show.chart import Line, chart
from genseg.show.page import Section, as_text, facts, folded, table
from genseg.workflows.evaluate.detector import MAIN, SHOWN
from genseg.workflows.finetune.comparison import (
    Contrast,
    checked_values,
    contrasts,
    transfer_plot,
    verdict,
)

SAMPLED = 48  # images whose headers are read
LOSSES = (
    *("loss", "contrast", "objectness", "mask", "amodal", "quality", "reconstruction", "instances"),
    *("classifier", "box_reg", "rpn_box_reg", "category", "cross_entropy", "dice", "trivial"),
)
# keys with no chart
UNDRAWN = {"step", "epoch", "images", "eta_seconds", "data_wait", "round", "sure", "proposals"}
LAST = "_last"  # ends what is judged once more at the end
BROKEN = 20  # of them are named


def curves(run: Run) -> Section | None:
    """All that was logged, over steps; a chart for what belongs together. What was measured on
    images comes first, the numbers of the training itself are folded."""
    # the last judgement of an energy ends the line of those before
    keys = {k.removesuffix(LAST) for row in run.rows for k in row}
    terms = [
        k for k in LOSSES if k in keys and (k != "reconstruction" or "copy" not in keys)
    ] + sorted(k for k in keys if k.startswith("loss_"))
    measured: list[tuple[str, list[str], bool]] = [
        *_validation(keys),
        ("Nearest neighbours vote for the right class", ["knn_top1", "knn_balanced"], True),
        ("Two looks at an image agree, by round", ["agreement"], True),
        ("AUROC of true maps against corrupted ones", ["auroc"], False),
        ("AUROC by kind of corruption", sorted(k for k in keys if k.startswith("auroc_")), False),
        (
            "Overlap: reconstruction high, copy and ignore low",
            ["reconstruction", "copy", "ignore"] if "copy" in keys else [],
            False,
        ),
    ]
    inner: list[tuple[str, list[str], bool]] = [
        ("Loss and its terms", terms, False),
        ("Overlap of decoded and true alphas", ["overlap"], False),
        ("Effective rank of the embeddings", ["rank"], False),
        ("Spread of the embeddings (0: collapsed)", ["spread"], False),
        ("Images per second", ["images_per_second"], False),
        ("Learning rate", ["lr"], False),
        ("Gradient norm", ["grad_norm"], False),
    ]
    known = {k for _, names, _ in (*measured, *inner) for k in names} | UNDRAWN
    inner += [(k, [k], False) for k in sorted(keys - known)]
    shown, kept = _charts(run, measured), _charts(run, inner)
    if not shown and not kept:
        return None
    body = f'<div class="charts">{shown}</div>' if shown else ""
    if kept:
        body += (
            f"<details><summary>{as_text(_training(run))}</summary><div "
            f'class="charts">{kept}</div></details>'
        )
    return Section("curves", "Curves", "How training went", body)


def _charts(run: Run, groups: Sequence[tuple[str, list[str], bool]]) -> str:
    figures = ""
    for title, names, percent in groups:
        lines = [line for name in names if (line := series(run, name)).x]
        if drawn := chart(title, lines, x_label="step", percent=percent):
            figures += f"<figure><h3>{title}</h3>{drawn}</figure>"
    return figures


def _training(run: Run) -> str:
    """The last numbers of the training itself, in a line."""
    logged = [row for row in run.rows if "loss" in row]
    if not logged:
        return "Charts of the training itself"
    first, last = logged[0], logged[-1]
    said = [f"loss {last['loss']:.3f}, from {first['loss']:.3f}"]
    if "rank" in last:
        said.append(f"effective rank {last['rank']:.1f}, from {first['rank']:.1f}")
    if "images_per_second" in last:
        said.append(f"{rate(last['images_per_second'])} images a second")
    return "Charts of the training itself: " + "; ".join(said)


def _validation(keys: Collection[str]) -> Iterator[tuple[str, list[str], bool]]:
    """The charts of a fine-tuned model's scores: what it is judged by first, then the others of
    masks and of boxes."""
    yield "Score on the validation images", [VAL + n for n in SHOWN if VAL + n in keys], False
    for what in ("mask", "box"):
        for name, parts in (
            ("AP by overlap and size", ("AP75", "AP small", "AP medium", "AP large")),
            ("recall", ()),
        ):
            names = [f"{VAL}{what} {p}" for p in parts] or sorted(
                k for k in keys if k.startswith(f"{VAL}{what} AR")
            )
            yield f"Validation: {what} {name}", [n for n in names if n in keys], False


def classes(run: Run) -> Section | None:
    """What a fine-tuned model's main number is for each class."""
    found = run.scores.per_class if run.scores is not None else {}
    if len(found) < 2 or run.scores is None:
        return None
    name = next((n for n in MAIN if n in run.scores.values), "")
    name = "IoU" if name == "mIoU" else name
    ordered = sorted(found.items(), key=lambda item: math.inf if math.isnan(item[1]) else -item[1])
    rows = [[c, "–" if math.isnan(v) else f"{v:.3f}"] for c, v in ordered]
    return Section(
        "classes",
        "Classes",
        f"{name} of each class",
        table(["", name], rows),
        "On the validation images, the best first; – where none is labelled.",
    )


def series(run: Run, name: str) -> Line:
    """A key of metrics.jsonl over steps."""
    rows = [(r, key) for r in run.rows for key in (name, name + LAST) if key in r and "step" in r]
    return Line(
        name.removeprefix(VAL).removeprefix("auroc_").replace("_", " "),
        [float(r["step"]) for r, _ in rows],
        [float(r[key]) for r, key in rows],
    )


def transfer(run: Run) -> Section | None:
    """What fine-tuning gained: compare.json as a table and a plot. Raises RunError when it has
    another form."""
    content = run.compared
    if content is None:
        return None
    values = checked_values(content, run.path / COMPARED_NAME)
    counts = [int(n) for n in content["labels"]]
    arms = [str(arm) for arm in content["arms"]]
    rows = [
        [arm, *(_cell(list(values.get((arm, n), {}).values())) for n in counts)] for arm in arms
    ]
    each = {len(v) for v in values.values()}
    runs = f"{min(each)} to {max(each)}" if len(each) > 1 else f"{max(each, default=0)}"
    plot = transfer_plot(content, run.path / COMPARED_NAME)
    head = ["", *(amount(n, "labelled image") for n in counts)]
    body = f'<div class="two">{table(head, rows)}<figure>{plot}</figure></div>'
    body += _differences(contrasts(arms, counts, values))
    return Section(
        "transfer",
        "Transfer",
        f"Did it help? {content['metric']} after fine-tuning on few labels",
        body,
        f"Mean ± standard deviation over {runs} trainings of each cell (subsets of the labels, "
        "seeds). More is better.",
    )


def _differences(made: Sequence[Contrast]) -> str:
    """A table of the arms against the first one; nothing where no pair is finished."""
    if not made:
        return ""
    rows = [
        [
            c.arm,
            f"{c.labels:,}",
            c.word,
            f"{d.mean:+.4f}",
            f"{d.error:.4f}" if d.pairs > 1 else "–",
            str(d.pairs),
        ]
        for c, d in ((c, c.difference) for c in made)
    ]
    head = [f"against {made[0].base}", "labels", "", "difference", "standard error", "pairs"]
    said = (
        "A pair has the same labelled images and seed. Chance alone calls one difference in "
        "twenty better or worse."
    )
    return f"<h3>Differences</h3>{table(head, rows)}<p>{said}</p>"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "–"
    mean, spread = mean_and_spread(values)
    return f"{mean:.3f} ± {spread:.3f}" if len(values) > 1 else f"{mean:.3f}"


def gain(run: Run) -> str:
    """Whether the arms of a comparison differ, and the means at the fewest labels; nothing for
    another run. Raises RunError when compare.json has another form."""
    content = run.compared
    if content is None:
        return ""
    values = checked_values(content, run.path / COMPARED_NAME)
    arms, labels, metric = (
        [str(a) for a in content["arms"]],
        [int(n) for n in content["labels"]],
        content["metric"],
    )
    fewest = min((n for _, n in values), default=0)
    means = {
        arm: mean_and_spread(list(found.values()))[0]
        for (arm, n), found in values.items()
        if n == fewest
    }
    if not means:
        return ""
    told = ", ".join(
        f"{arm} {mean:.3f}" for arm, mean in sorted(means.items(), key=lambda m: -m[1])
    )
    said = verdict(str(metric), arms, labels, values) or (
        "No arm can be told from another yet: no pair is finished."
        if len(arms) > 1
        else "There is one arm alone."
    )
    return f"{said} {metric} with {amount(fewest, 'labelled image')}: {told}."


def data(run: Run) -> Section | None:
    """What the images are, from their list and the headers of some."""
    images = run.images
    told = _told(run)
    if images is None:
        path = run.config.data.path if run.config is not None else run.environment.get("folder")
        if not path:
            return Section("data", "Images", "The labels", told) if told else None
        body = facts(
            [
                ("made from", str(path)),
                ("now", "not there; genseg visualize RUN FOLDER shows other images"),
            ]
        )
        return Section("data", "Images", "The images", body + told)
    kinds = []
    for i in chosen(len(images), SAMPLED):
        try:
            kinds.append(kind_of(images.path(i).read_bytes()))
        except Exception:  # noqa: BLE001, a broken image raises nearly anything; the list below says what training saw
            continue
    rows = [("where", str(images.root)), ("images", f"{len(images):,}")]
    if more := notes_on(images.paths):
        rows.append(("note", more))
    rows += [("note", note) for note in run.notes if note != more]
    if kinds:
        formats = Counter(f"{k.format} {k.mode}" for k in kinds).most_common(4)
        rows.append(
            (
                "formats",
                ", ".join(f"{name} ({round(100 * n / len(kinds))} %)" for name, n in formats),
            )
        )
        for word, sizes in (
            ("widths", [k.width for k in kinds]),
            ("heights", [k.height for k in kinds]),
        ):
            ordered = sorted(sizes)
            rows.append(
                (
                    word,
                    f"{ordered[0]:,} to {ordered[-1]:,} px, median {ordered[len(ordered) // 2]:,}",
                )
            )
        if len(kinds) < len(images):
            rows.append(("sizes and formats", f"of {len(kinds)} images, drawn at random"))
    if images.labels is not None:
        counts = Counter(images.labels)
        each = ", ".join(f"{name} {counts[n]:,}" for n, name in enumerate(images.classes[:40]))
        rows.append(
            (f"{len(images.classes)} folders", each + (", ..." if len(images.classes) > 40 else ""))
        )
    if run.config is not None and run.config.supervised:
        rows.append(("labels", f"training reads them: {SUPERVISED}"))
    body = facts(rows) + _broken(run) + told
    return Section("data", "Images", "The images", body)


def _told(run: Run) -> str:
    """What was found in the labels before training."""
    file = run.path / PREFLIGHT_NAME
    return (
        folded("What was found in the labels", file.read_text("utf-8").strip())
        if file.is_file()
        else ""
    )


def _broken(run: Run) -> str:
    file = run.path / BROKEN_NAME
    if not file.is_file():
        return ""
    lines = file.read_text("utf-8", errors="replace").splitlines()
    more = [f"and {len(lines) - BROKEN} more, see broken.txt"] if len(lines) > BROKEN else []
    return folded(f"{amount(len(lines), 'image')} cannot be read", "\n".join(lines[:BROKEN] + more))


def made(run: Run) -> Section | None:
    """The command, the config and the environment."""
    env = run.environment
    known = [
        ("Python", env.get("python")),
        ("system", env.get("platform")),
        ("device", env.get("device")),
        ("processors", env.get("cpus")),
        ("threads", env.get("threads")),
        ("processes", env.get("processes")),
        ("precision", env.get("mixed_precision")),
    ]
    rows = [(name, str(value)) for name, value in known if value is not None]
    rows += [(name, str(version)) for name, version in (env.get("packages") or {}).items()]
    body = (
        folded("Command", run.command).replace("<details>", "<details open>") if run.command else ""
    )
    body += folded("Config: every key", run.config_text) if run.config_text else ""
    body += f"<details><summary>Environment</summary>{facts(rows)}</details>" if rows else ""
    return Section("made", "Made by", "How it was made", body) if body else None
