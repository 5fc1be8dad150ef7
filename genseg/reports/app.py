"""The live page: an image, its instances, the one at a place, two runs side by side. For this
machine alone."""

import functools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# else its import asks the network for a newer version
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from genseg.core import interrupts
from genseg.nn.kept_reading import reads_as
from genseg.reports.app_energy import INVITATION as WHAT_TO_CLICK
from genseg.reports.app_energy import EnergyAnswers, with_energies, without_energies
from genseg.reports.app_guard import Asgi, Guard
from genseg.reports.app_seen import (
    SHOWS,
    Seen,
    click,
    count,
    describe,
    downloads,
    drawn,
    enlargement,
    keep,
    look,
    notes,
    preview,
    read,
    start,
)
from genseg.workflows.generate.finder import Wanted
from genseg.workflows.generate.opened import Opened, open_runs

try:
    import gradio as gr
    from gradio.routes import App, ORJSONResponse
except ModuleNotFoundError:
    raise ValueError("the live page needs Gradio: pip install 'genseg[app]'") from None

ADDRESS = "127.0.0.1"  # this machine alone
ROOM = 1000  # megabytes of files that the page may keep while it is served; or 5 of the largest
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
CSS = """
.gradio-container {max-width: 1200px !important; margin: 0 auto !important}
footer {display: none !important}
#result {height: min(560px, 100vw) !important}
"""
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUIET: dict[str, Any] = PRIVATE | {"show_progress": "hidden"}
BUTTONS: list[Any] = ["download", "fullscreen"]  # and none that shares: nothing leaves this machine
NOTHING = "Drop an image, or paste one."
LAST = 60  # seconds that a request at work has to end in after Ctrl-C
INVITATION = "Click a place in the picture to see the instance there."


class Served(App):
    """Gradio's server behind a guard. That has to be the outermost: Gradio's own middleware answers
    other origins."""

    def __init__(self, **guard: Any) -> None:
        super().__init__(default_response_class=ORJSONResponse)
        self.guard = guard

    def build_middleware_stack(self) -> Asgi:
        return Guard(super().build_middleware_stack(), **self.guard)


AT_WORK = threading.Lock()


def one_at_a_time(answer: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """Requests wait for each other, and the end of the process for them: PyTorch and OpenCV abort
    it in a thread that is at work."""

    @functools.wraps(answer)
    def waiting(*given: Any) -> tuple[Any, ...]:
        with AT_WORK:
            return answer(*given)

    return waiting


class Answers:
    """What the page does on each event. Files are written below `folder`, of each session the
    latest alone; an upload is removed as soon as it is read."""

    def __init__(self, runs: Mapping[str, Opened], folder: Path) -> None:
        self.runs, self.folder = runs, folder

    def remove(self, file: str | None) -> None:
        """A file that has a folder of its own below `folder`, with that."""
        if file is not None and Path(file).parent.parent == self.folder:
            shutil.rmtree(Path(file).parent, ignore_errors=True)

    def forget(self, seen: Seen | None) -> None:
        self.remove(seen.preview if seen else None)

    def show(
        self, seen: Seen | None, score: float, how: str, former: str | None
    ) -> tuple[Any, ...]:
        """Picture, count, downloads, the file of these that is kept in mind, and whether there is a
        guess to keep."""
        out: tuple[Any, ...] = (None, NOTHING, None, None, None)
        if seen is not None:
            json_file, zip_file = downloads(seen, score, self.folder)
            out = drawn(seen, score, how), count(seen, score), json_file, zip_file, json_file
        self.remove(former)
        return *out, gr.update(interactive=seen is not None and seen.may_keep(score))

    @one_at_a_time
    def reset(self, seen: Seen | None, *given: Any) -> tuple[Any, ...]:
        """Another threshold, or way to show it: the guess may count now, or no longer."""
        return *self.show(seen, *given), describe(
            seen, given[0]
        ) if seen and seen.guess else gr.skip()

    @one_at_a_time
    def first(
        self,
        name: str,
        given: dict[str, Any] | None,
        score: float,
        how: str,
        former: str | None,
        before: Seen | None,
        channels: str = "",
        pages: str = "",
    ) -> tuple[Any, ...]:
        """A file is dropped, or taken away. Its picture is put in its place, which calls this
        again."""
        file: str | None = given["path"] if given else None
        if file == (before.preview if before else None):
            return tuple(gr.skip() for _ in range(11))
        self.forget(before)
        seen, note = None, ""
        if file is not None:
            try:
                seen = preview(look(self.runs[name], read(file, channels, pages)), self.folder)
                note = notes(self.runs[name], seen)
            except ValueError as error:
                note = str(error)
            self.remove(file)
        score = start(self.runs[name], seen, score) if seen else score
        return (
            seen.preview if seen else None,
            gr.update(value=note, visible=bool(note)),
            seen,
            INVITATION if seen else "",
            score,
            *self.show(seen, score, how, former),
        )

    @one_at_a_time
    def another(
        self, name: str, seen: Seen | None, score: float, how: str, former: str | None
    ) -> tuple[Any, ...]:
        """Another run looks at the same image; one that cannot be read keeps its note."""
        if seen is None:
            return tuple(gr.skip() for _ in range(10))
        after = look(self.runs[name], seen)
        note, score = notes(self.runs[name], after), start(self.runs[name], after, score)
        return (
            gr.update(value=note, visible=bool(note)),
            after,
            INVITATION,
            score,
            *self.show(after, score, how, former),
        )

    @one_at_a_time
    def clicked(
        self,
        name: str,
        seen: Seen | None,
        score: float,
        how: str,
        former: str | None,
        event: gr.SelectData,
    ) -> tuple[Any, ...]:
        said = ""
        if seen is not None:
            x, y = (int(n) // enlargement(seen) for n in event.index)
            seen, said = click(self.runs[name], seen, x, y, score)
        return seen, said, *self.show(seen, score, how, former)

    @one_at_a_time
    def kept(
        self, seen: Seen | None, score: float, how: str, former: str | None
    ) -> tuple[Any, ...]:
        seen, said = (None, "") if seen is None else keep(seen)
        return seen, said, *self.show(seen, score, how, former)


def page(runs: Mapping[str, Opened], folder: Path) -> Any:
    """The Gradio page."""
    names, answers = list(runs), Answers(runs, folder)
    with gr.Blocks(title="genseg", analytics_enabled=False) as blocks:
        gr.Markdown("# Instances of an image\nNothing leaves this machine.")
        seen, made = (
            gr.State(None, delete_callback=answers.forget),
            gr.State(None, delete_callback=answers.remove),
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                with gr.Row():
                    words = [_word("Channels", "1,3 or DAPI"), _word("Pages", "max, 2")]
                file = gr.Image(
                    type="filepath",
                    image_mode=None,
                    label="Your image",
                    sources=["upload", "clipboard"],
                    height=260,
                    elem_id="image",
                    buttons=["fullscreen"],
                )
                note = gr.Textbox(
                    "", label="This file", interactive=False, visible=False, elem_id="note"
                )
                run = gr.Dropdown(
                    names, value=names[0], label="Run", visible=len(names) > 1, elem_id="run"
                )
                score = gr.Slider(
                    0, 1, runs[names[0]].score, step=0.001, label="Score at least", elem_id="score"
                )
                how = gr.Radio(SHOWS, value=SHOWS[0], label="Show as", elem_id="show")
            with gr.Column(scale=2, min_width=320):
                result = _picture(560, label="Instances", elem_id="result")
                total = gr.Textbox(NOTHING, label="Found", interactive=False, elem_id="count")
                said = gr.Textbox(
                    "", label="At the place you clicked", interactive=False, elem_id="said"
                )
                keeper = gr.Button(
                    "Keep the guess: count and export it",
                    interactive=False,
                    elem_id="keep",
                    size="sm",
                )
                with gr.Row():
                    json_file = gr.DownloadButton("Download COCO json", elem_id="json")
                    zip_file = gr.DownloadButton("Download cut-outs", elem_id="cutouts")
        shown = [result, total, json_file, zip_file, made, keeper]
        given = [score, how, made]
        # preprocess=False: else Gradio opens the file with PIL, and says no more than "Error" of
        # what that cannot read
        looked = file.change(
            answers.first,
            [run, file, *given, seen, *words],
            [file, note, seen, said, score, *shown],
            preprocess=False,
            **PRIVATE,
        )
        run.change(
            answers.another, [run, seen, *given], [note, seen, said, score, *shown], **PRIVATE
        )
        for setting in (score, how):
            setting.change(answers.reset, [seen, *given], [*shown, said], **QUIET)
        result.select(answers.clicked, [run, seen, *given], [seen, said, *shown], **QUIET)
        keeper.click(answers.kept, [seen, *given], [seen, said, *shown], **QUIET)
        if (energies := EnergyAnswers(runs)).runs:
            _energy(energies, run, seen, score, result, looked)
        if len(names) > 1:
            _side_by_side(runs, looked, seen, [score, how])
    return blocks


def _word(label: str, example: str) -> Any:
    """What of a file is used that holds more than one picture; empty: as the run was trained."""
    return gr.Textbox("", label=label, placeholder=example, min_width=80, elem_id=label.lower())


def _picture(height: int, **more: Any) -> Any:
    """A picture that the page shows."""
    return gr.Image(interactive=False, format="png", height=height, buttons=BUTTONS, **more)


def _energy(answers: EnergyAnswers, run: Any, seen: Any, score: Any, result: Any, new: Any) -> None:
    """E of what is clicked in `result`, and maps between the codes of two instances; after `new`,
    another image."""

    @one_at_a_time
    def clicked(
        name: str, seen: Any, ends: Any, score: float, y: float, v: float, event: gr.SelectData
    ) -> tuple[Any, ...]:
        at = [int(n) // enlargement(seen) for n in event.index] if seen else [0, 0]
        return answers.clicked(name, seen, ends, score, y, v, (at[0], at[1]))

    gr.Markdown(f"## Energy\n{WHAT_TO_CLICK}")
    ends = gr.State(None)
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            said = gr.Textbox("", label="What you clicked", interactive=False, elem_id="energy")
            place = gr.Slider(0, 1, value=0, step=0.05, label="Place", elem_id="place")
            vector = gr.Slider(0, 1, value=0, step=0.05, label="Vector", elem_id="vector")
            draw = gr.Button("Sample vectors there", elem_id="sample", size="sm")
            walk = gr.Textbox("", label="Of this code", interactive=False, elem_id="walk")
        with gr.Column(scale=2, min_width=320):
            picture = _picture(420, label="What codes draw", elem_id="walked")
    shown, sliders = [ends, said, picture, walk], [place, vector]
    result.select(clicked, [run, seen, ends, score, *sliders], shown, **QUIET)
    asked = [run, seen, ends, score, place]
    draw.click(one_at_a_time(answers.sampled), asked, [picture, walk], **QUIET)
    for slider in sliders:
        slider.change(
            one_at_a_time(answers.walked), [run, ends, *sliders], [picture, walk], **QUIET
        )
    new.then(answers.forgotten, [], shown, **QUIET)
    run.change(answers.forgotten, [], shown, **QUIET)


def _side_by_side(runs: Mapping[str, Opened], looked: Any, seen: Any, given: list[Any]) -> None:
    """Two runs on the same image, after `looked`; `given` are the components of the score and the
    way to show it."""
    names = list(runs)

    @one_at_a_time
    def both(left: str, right: str, seen: Seen | None, score: float, how: str) -> tuple[Any, ...]:
        sides = (look(runs[left], seen), look(runs[right], seen)) if seen else None
        return sides, *redrawn(sides, score, how)

    @one_at_a_time
    def again(sides: tuple[Seen, Seen] | None, score: float, how: str) -> tuple[Any, ...]:
        return redrawn(sides, score, how)

    def redrawn(sides: tuple[Seen, Seen] | None, score: float, how: str) -> tuple[Any, ...]:
        return (
            (None, NOTHING) * 2
            if sides is None
            else tuple(
                part for side in sides for part in (drawn(side, score, how), count(side, score))
            )
        )

    gr.Markdown("## Two runs side by side")
    sides, chosen, pictures = gr.State(None), list[Any](), list[Any]()
    with gr.Row():
        for name in names[:2]:
            with gr.Column(min_width=300):
                chosen.append(gr.Dropdown(names, value=name, label="Run"))
                pictures.append(_picture(420, show_label=False))
                pictures.append(gr.Textbox("", show_label=False, interactive=False))
    looked.then(both, [*chosen, seen, *given], [sides, *pictures], **QUIET)
    for changed in chosen:
        changed.change(both, [*chosen, seen, *given], [sides, *pictures], **QUIET)
    for changed in given:
        changed.change(again, [sides, *given], pictures, **QUIET)


@reads_as("runs", alike=True)
def serve(runs: Sequence[Path], *, port: int, max_mb: int, wanted: Wanted | None = None) -> None:
    """Serve the page until it is interrupted. wanted: what proposers among the runs go by. Raises
    ValueError for what a user can mend."""
    if not 1 <= port <= 65535:
        raise ValueError(f"--port {port}: use a number from 1024 to 65535")
    if max_mb < 1:
        raise ValueError(f"--max-mb {max_mb}: use 1 or more")
    finders, energies = without_energies(runs)
    # energies alone are refused in the words of any run that finds nothing
    opened = with_energies(open_runs(finders or runs, wanted), finders or runs, energies)
    room = max(ROOM, 5 * max_mb)
    with interrupts.raised(), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary).resolve()
        # else Gradio copies each download, and keeps the copies for ever
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        served = page(opened, folder)
        try:
            served.launch(
                server_name=ADDRESS,
                server_port=port,
                share=False,
                allowed_paths=[str(folder)],
                theme=gr.themes.Base(font=list(FONT), font_mono=["ui-monospace", "monospace"]),
                css=CSS,
                footer_links=[],
                quiet=True,
                prevent_thread_lock=True,
                ssr_mode=False,
                show_error=True,
                _app=Served(port=port, max_mb=max_mb, room_mb=room, folder=folder),
            )
        except OSError as error:
            raise ValueError(f"--port {port} cannot be used ({error}); choose another") from None
        print(f"http://{ADDRESS}:{port}  (Ctrl-C ends it)", flush=True)
        print(
            f"images of {max_mb:,} MB at most (--max-mb); {room:,} MB of temporary files, the "
            "oldest are removed",
            flush=True,
        )
        try:
            threading.Event().wait()
        finally:
            # else a request at work writes into the folder while it is removed
            served.close(verbose=False)
            AT_WORK.acquire(timeout=LAST)  # and never released: no other begins
