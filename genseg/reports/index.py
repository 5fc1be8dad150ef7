"""The page that compares the runs of a folder, task by task: a table, and a chart for each number
of the task."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from genseg.core.files import write_text
from genseg.core.names import COMPARED_NAME, INDEX_NAME, REPORT_NAME, STUDY_NAME
from genseg.core.words import amount
from genseg.reports import studies
from genseg.reports.numbers import gain, series
from genseg.reports.representation import compared
from genseg.reports.run import LEFT_BEHIND, VAL, Run
from genseg.runs.folder import RunError
from genseg.show.chart import Line, chart, number
from genseg.show.page import Page, Section, as_text, data_of, render
from genseg.workflows.finetune.comparison import transfer_plot
from genseg.workflows.study.words import study_plot

KINDS = {
    "pretrain": "Pretraining",
    "energy": "Energies",
    "finetune": "Fine-tuning",
    "compare": "Comparisons",
    "study": "Studies",
    "found": "Instances found",
}
MOST = 7  # runs in a chart: as many as there are colours
# key of metrics.jsonl, the head of its column, the title of its chart, whether it is a part of one
MEASURED = (
    ("loss", "loss", "Loss", False),
    *(
        (f"{VAL}{name}", name, f"{name} on the validation images", False)
        for name in ("mask AP", "box AP", "mIoU")
    ),
    ("knn_top1", "kNN", "Nearest neighbours vote for the right class", True),
    ("auroc", "AUROC", "AUROC of true maps against corrupted ones", False),
    ("agreement", "agreement", "Two looks at an image agree", True),
    ("rank", "rank", "Effective rank of the embeddings", False),
    ("images_per_second", "images/s", "Images per second", False),
)


def runs_in(folder: Path) -> list[Path]:
    """The run directories directly in a folder, the newest first."""
    found = [
        p
        for p in folder.iterdir()
        if p.is_dir() and any((p / name).exists() for name in LEFT_BEHIND)
    ]
    return sorted(
        found, key=lambda p: -max((p / n).stat().st_mtime for n in LEFT_BEHIND if (p / n).exists())
    )


def write_index(folder: Path) -> Path:
    """Write `folder/index.html`, which compares the runs in it, task by task, and links to the
    report of each. Raises RunError when there is none."""
    paths = runs_in(folder)
    if not paths:
        raise RunError(
            f"{folder} holds no run and is none: there is none of {', '.join(LEFT_BEHIND)} in it "
            "or in its folders"
        )
    runs = [Run(p, look=False) for p in paths]
    groups = {anchor: [r for r in runs if _kind(r) == anchor] for anchor in KINDS}
    count = amount(len(runs), "run")
    page = Page(
        title=folder.absolute().name,
        state=count,
        running=any(r.running for r in runs),
        sections=[_group(anchor, group) for anchor, group in groups.items() if group],
        verdict="Every run with its last numbers, the newest first. Its name opens its report.",
    )
    write_text(folder / INDEX_NAME, render(page))
    return folder / INDEX_NAME


def _kind(run: Run) -> str:
    """One of KINDS: what belongs to it can be compared."""
    if run.compared is not None:
        return "compare"
    if run.studied is not None:
        return "study"
    if run.config is not None:
        return "pretrain"
    if run.shaped is not None:
        return "energy"
    return "finetune" if run.model else "found"


def _group(anchor: str, runs: Sequence[Run]) -> Section:
    """The runs of one task: a table, what each comparison says, and charts."""
    word = KINDS[anchor]
    body = _table(runs) + "".join(map(_comparison, runs if anchor in ("compare", "study") else ()))
    lead = ""
    if charts := _charts(runs[:MOST]):
        body += f'<div class="charts">{charts}</div>'
        lead = f"Charts are of the newest {MOST}." if len(runs) > MOST else ""
    if anchor == "pretrain":
        body += compared(runs, most=MOST)
    return Section(anchor, word, f"{word}: {amount(len(runs), 'run')}", body, lead)


def _comparison(run: Run) -> str:
    """The verdict of a comparison, and its chart. One whose file is damaged says so."""
    name = f"<h3>{as_text(run.path.name)}</h3>"
    try:
        said = gain(run) or studies.said(run) or "No cell is finished yet."
        if run.studied is not None:
            plot = study_plot(run.studied, run.path / STUDY_NAME)
        else:
            plot = transfer_plot(run.compared or {}, run.path / COMPARED_NAME)
    except RunError as error:
        return f"{name}<p>{as_text(str(error))}</p>"
    return f'{name}<p>{as_text(said)}</p><div class="charts"><figure>{plot}</figure></div>'


def _table(runs: Sequence[Run]) -> str:
    """A row for each run; on a narrow screen each is a card, in which a number has the name of its
    column before it."""
    shown = [m for m in MEASURED if any(m[0] in row for r in runs for row in r.rows)]
    words = ["task", "state", *(word for _, word, _, _ in shown)]
    head = "".join(f'<th scope="col">{h}</th>' for h in ("run", "", *words))
    body = ""
    for r in runs:
        name = r.path.name
        known = (r.path / REPORT_NAME).exists()
        link = (
            f'<a href="{quote(name)}/{REPORT_NAME}">{as_text(name)}</a>' if known else as_text(name)
        )
        picture = f'<img src="{source}" alt="">' if (source := _picture(r)) else ""
        cells = [task(r), r.state, *(_last(r, key, percent) for key, _, _, percent in shown)]
        body += (
            f'<tr><th scope="row">{link}</th><td>{picture}</td>'
            + "".join(
                f'<td data-word="{w}">{as_text(c)}</td>' for w, c in zip(words, cells, strict=True)
            )
            + "</tr>"
        )
    return (
        '<div class="scroll '
        f'runs"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _picture(run: Run) -> str:
    """The first picture of a run's report, as it is there."""
    file = run.path / REPORT_NAME
    pictures = (
        data_of(file.read_text("utf-8")).get("found", {}).get("pictures", [])
        if file.exists()
        else []
    )
    return str(pictures[0]["thumb"]) if pictures else ""


def _last(run: Run, key: str, percent: bool) -> str:
    values = series(run, key).y
    if not values:
        return "–"
    return f"{100 * values[-1]:.1f} %" if percent else number(values[-1])


def task(run: Run) -> str:
    """What a run is for, in a few words."""
    c = run.config
    if c is not None:
        return " and ".join(
            n for n in (c.learnt_by, "alpha" if c.alpha.name != "none" else "none") if n != "none"
        )
    if run.compared is not None:
        return "compare"
    if run.studied is not None:
        return "study"
    if run.shaped is not None:
        return f"energy {run.shaped.shape.name}"
    if run.model:
        return f"finetune {run.model}"
    words = [str(w) for w in run.environment.get("command", [])]
    return words[1] if len(words) > 1 else "generate"


def _charts(runs: Sequence[Run]) -> str:
    """Over images seen where every run says how many: a step of one is not that of another with a
    larger batch."""
    batches = [
        next((row["images"] / row["step"] for row in r.rows if row.get("images")), 0) for r in runs
    ]
    over, batches = ("images seen", batches) if all(batches) else ("step", [1.0] * len(runs))
    drawn = ""
    for key, _, title, percent in MEASURED:
        lines = [
            Line(r.path.name[:14], [batch * x for x in s.x], s.y)
            for r, batch in zip(runs, batches, strict=True)
            if (s := series(r, key)).x
        ]
        if lines and (svg := chart(title, lines, x_label=over, percent=percent)):
            drawn += f"<figure><h3>{title}</h3>{svg}</figure>"
    return drawn
