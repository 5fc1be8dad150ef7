"""The live page: an image, its instances, the one at a place, two runs side by side. For this machine alone."""

import json
import os
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # else its import asks the network for a newer version

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from genseg.alpha.model import AlphaModel, load_alpha
from genseg.core.precision import fast_precision
from genseg.data.annotations import annotation
from genseg.data.images import ImageError, decode
from genseg.data.instances import HALF, OPAQUE, Instance, resized
from genseg.measure.masks import mask_overlap
from genseg.recipes.finder import alpha_file
from genseg.show.draw import cut_outs, overlay

try:
    import gradio as gr
except ModuleNotFoundError:
    raise ValueError("the live page needs Gradio: pip install 'genseg[app]'") from None

Pixels = UInt8[np.ndarray, "_ _ 3"]
ADDRESS = "127.0.0.1"  # this machine alone
LONGEST = 2048  # pixels of the longer side of an image; larger ones are shrunk, so that a click answers soon
SHORTEST = 720  # up to which a small image is enlarged: Gradio's component shows none larger than it is
SHOWS = ("Soft alpha", "Hard mask", "Cut-outs", "Image")
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
CSS = """
.gradio-container {max-width: 1200px !important; margin: 0 auto !important}
footer {display: none !important}
"""
BUTTONS: list[Any] = ["download", "fullscreen"]  # and none that shares: nothing leaves this machine
SAME = 0.5  # overlap from which on what was picked is an instance that is shown already
NOTHING = "Drop an image, or paste one."


@dataclass(frozen=True)
class Seen:
    """An image and what a run found in it; `picked` are instances that were asked for by a click."""

    name: str
    pixels: Pixels
    found: tuple[Instance, ...]
    picked: tuple[Instance, ...] = ()
    whole: tuple[int, int] | None = None  # height and width of the file's image, where `pixels` are shrunk

    def counted(self, score: float) -> list[Instance]:
        """The instances from a score on, and what was picked unless it is one of them."""
        shown = [a for a in self.found if a.score >= score]
        if not shown or not self.picked:
            return [*shown, *self.picked]
        new = mask_overlap(self.picked, shown, np.zeros(len(shown), bool)).max(1) < SAME
        return [*shown, *(a for a, is_new in zip(self.picked, new, strict=True) if is_new)]


def look(model: AlphaModel, file: str | None) -> Seen | None:
    """What a model finds in an image file. Raises gradio's Error, which the page shows, for one that is no image."""
    if not file:
        return None
    try:
        pixels = decode(file)
    except ImageError as error:
        raise gr.Error(f"This is no image that can be read: {str(error).removeprefix(f'{file}: ')}") from None
    whole = h, w = pixels.shape[:2]
    if max(h, w) > LONGEST:
        size = (round(w * LONGEST / max(h, w)), round(h * LONGEST / max(h, w)))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    return Seen(Path(file).name, pixels, tuple(model.instances(pixels)), whole=whole)


def pick(model: AlphaModel, seen: Seen, x: int, y: int) -> tuple[Seen, str]:
    """The instance whose code is proposed at a place is added, and a word on it."""
    under = [a for a in seen.found if a.paint(*seen.pixels.shape[:2])[y, x] >= HALF]
    one = model.instance_at(seen.pixels, y, x) or (under[0] if under else None)
    if one is None:
        return replace(seen, picked=()), f"At {x}, {y} no instance is proposed."
    left, top, w, h = one.box
    said = f"At {x}, {y}: an instance of {one.area:,} px, {w} x {h}, score {one.score:.2f}. It is outlined in white."
    return replace(seen, picked=(one,)), said


def enlargement(seen: Seen) -> int:
    """By how much the picture of an image is larger than the image, in each direction."""
    return max(1, SHORTEST // max(seen.pixels.shape[:2]))


def drawn(seen: Seen, score: float, show: str) -> Pixels:
    """The image as `show` says, enlarged; what was picked has a white line."""
    times, before = enlargement(seen), seen.pixels.shape[:2]
    after = (before[0] * times, before[1] * times)
    pixels = np.asarray(cv2.resize(seen.pixels, after[::-1], interpolation=cv2.INTER_CUBIC))
    instances, picked = (
        [large for a in found if (large := resized(a, before, after)) is not None]
        for found in (seen.counted(score), seen.picked)
    )
    if show == "Cut-outs":
        out = cut_outs(pixels, instances)
    elif show == "Image":
        out = pixels.copy()
    else:
        hard = [replace(a, alpha=a.mask.astype(np.uint8) * OPAQUE) for a in instances]
        out = overlay(pixels, hard if show == "Hard mask" else instances)
    for a in picked:
        lines, _ = cv2.findContours(
            a.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(a.left, a.top)
        )
        cv2.drawContours(out, lines, -1, (0, 0, 0), 5)
        cv2.drawContours(out, lines, -1, (255, 255, 255), 2)
    return out


def coco(seen: Seen, score: float) -> dict[str, Any]:
    """COCO json of the instances that are shown, in the pixels of the file's image."""
    small = seen.pixels.shape[:2]
    h, w = seen.whole or small
    large = [a if small == (h, w) else resized(a, small, (h, w)) for a in seen.counted(score)]
    found = [
        annotation(a, number=n, image=1, height=h, width=w)
        for n, a in enumerate(large, start=1)
        if a is not None and a.area
    ]
    images = [{"id": 1, "file_name": seen.name, "height": h, "width": w}]
    return {"images": images, "annotations": found, "categories": [{"id": 1, "name": "instance"}]}


def downloads(seen: Seen, score: float, folder: Path) -> tuple[str, str]:
    """instances.json and cutouts.zip, of the instances that are shown."""
    place = Path(tempfile.mkdtemp(dir=folder))
    (place / "instances.json").write_text(json.dumps(coco(seen, score)))
    with zipfile.ZipFile(place / "cutouts.zip", "w") as archive:  # PNGs are compressed already
        for n, a in enumerate(seen.counted(score), start=1):
            bgr = cv2.cvtColor(np.ascontiguousarray(seen.pixels[a.window]), cv2.COLOR_RGB2BGR)
            done, content = cv2.imencode(".png", np.dstack([bgr, a.alpha]))
            assert done
            archive.writestr(f"cutout-{n}.png", content.tobytes())
    return str(place / "instances.json"), str(place / "cutouts.zip")


def _remove(file: str | None) -> None:
    """The folder of a file that `downloads` has written."""
    if file is not None:
        shutil.rmtree(Path(file).parent, ignore_errors=True)


def load(runs: Sequence[Path]) -> dict[str, AlphaModel]:
    """The models of some runs by name; half of a model's usual score is kept, for the threshold."""
    models: dict[str, AlphaModel] = {}
    for run in runs:
        model, _ = load_alpha(alpha_file(run))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model.precision = fast_precision(device)
        model.config = replace(model.config, score=model.config.score / 2)
        name = run.absolute().name if run.is_dir() else run.absolute().parent.name
        models[name if name not in models else str(run)] = model.to(device)
    return models


def page(models: dict[str, AlphaModel], folder: Path) -> Any:
    """The Gradio page. Downloads are written below `folder`, of each session the latest alone."""
    names = list(models)
    usual = 2 * models[names[0]].config.score

    def show(seen: Seen | None, score: float, how: str, former: str | None) -> tuple[Any, ...]:
        out: tuple[Any, ...] = (None, NOTHING, None, None, None)
        if seen is not None:
            json_file, zip_file = downloads(seen, score, folder)
            out = drawn(seen, score, how), _count(seen, score), json_file, zip_file, json_file
        _remove(former)
        return out

    def first(name: str, file: str | None, score: float, how: str, former: str | None) -> tuple[Any, ...]:
        seen = look(models[name], file)
        return seen, *show(seen, score, how, former), "Click a place in the picture to get the instance there."

    def clicked(
        name: str, seen: Seen | None, score: float, how: str, former: str | None, event: gr.SelectData
    ) -> tuple[Any, ...]:
        if seen is None:
            return seen, *show(seen, score, how, former), ""
        x, y = (int(n) // enlargement(seen) for n in event.index)
        after, said = pick(models[name], seen, x, y)
        return after, *show(after, score, how, former), said

    with gr.Blocks(title="genseg", analytics_enabled=False) as blocks:
        gr.Markdown("# Instances of an image\nNothing leaves this machine.")
        seen, made = gr.State(None), gr.State(None, delete_callback=_remove)
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                file = gr.Image(type="filepath", image_mode=None, label="Your image", sources=["upload", "clipboard"],
                                height=260, elem_id="image", buttons=["fullscreen"])  # fmt: skip
                run = gr.Dropdown(names, value=names[0], label="Run", visible=len(names) > 1, elem_id="run")
                score = gr.Slider(0, 1, value=usual, step=0.01, label="Score at least", elem_id="score")
                how = gr.Radio(SHOWS, value=SHOWS[0], label="Show as", elem_id="show")
            with gr.Column(scale=2, min_width=320):
                result = gr.Image(label="Instances", interactive=False, format="png", height=560, elem_id="result",
                                  buttons=BUTTONS)  # fmt: skip
                count = gr.Textbox(NOTHING, label="Found", interactive=False, elem_id="count")
                with gr.Row():
                    json_file = gr.DownloadButton("COCO json", elem_id="json")
                    zip_file = gr.DownloadButton("Cut-outs", elem_id="cutouts")
                said = gr.Textbox("", label="At the place you clicked", interactive=False, elem_id="said")
        shown = [result, count, json_file, zip_file, made]
        for source in (file, run):
            source.change(first, [run, file, score, how, made], [seen, *shown, said], api_visibility="private")
        for setting in (score, how):
            setting.change(show, [seen, score, how, made], shown, show_progress="hidden", api_visibility="private")
        result.select(clicked, [run, seen, score, how, made], [seen, *shown, said], show_progress="hidden",
                      api_visibility="private")  # fmt: skip
        if len(names) > 1:
            _side_by_side(models, [file, score, how])
    return blocks


def _side_by_side(models: dict[str, AlphaModel], given: list[Any]) -> None:
    """Two runs on the same image; `given` are the components of the file, the score and the way to show it."""
    names = list(models)

    def both(left: str, right: str, file: str | None, score: float, how: str) -> tuple[Any, ...]:
        out: list[Any] = []
        for name in (left, right):
            seen = look(models[name], file)
            out += [None, NOTHING] if seen is None else [drawn(seen, score, how), _count(seen, score)]
        return tuple(out)

    gr.Markdown("## Two runs side by side")
    sides: list[Any] = []
    pictures: list[Any] = []
    with gr.Row():
        for name in names[:2]:
            with gr.Column():
                sides.append(gr.Dropdown(names, value=name, label="Run"))
                pictures.append(gr.Image(show_label=False, interactive=False, format="png", height=420,
                                         buttons=BUTTONS))  # fmt: skip
                pictures.append(gr.Textbox("", show_label=False, interactive=False))
    for changed in (*given, *sides):
        changed.change(both, [*sides, *given], pictures, show_progress="hidden", api_visibility="private")


def _count(seen: Seen, score: float) -> str:
    shown = seen.counted(score)
    return f"{len(shown)} of {len({*map(id, seen.found), *map(id, shown)})} instances"


def serve(runs: Sequence[Path], *, port: int, max_mb: int) -> None:
    """Serve the page until it is interrupted. Raises ValueError for what a user can mend."""
    if not 1 <= port <= 65535:
        raise ValueError(f"--port {port}: use a number from 1024 to 65535")
    if max_mb < 1:
        raise ValueError(f"--max-mb {max_mb}: use 1 or more")
    models = load(runs)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # else Gradio copies each download, and keeps the copies for ever
        served = page(models, Path(folder))
        try:
            served.launch(
                server_name=ADDRESS, server_port=port, share=False, max_file_size=f"{max_mb}mb", allowed_paths=[folder],
                theme=gr.themes.Base(font=list(FONT), font_mono=["ui-monospace", "monospace"]), css=CSS,
                footer_links=[], quiet=True, prevent_thread_lock=True, ssr_mode=False,
            )  # fmt: skip
        except OSError as error:
            raise ValueError(f"--port {port} cannot be used ({error}); choose another") from None
        print(f"http://{ADDRESS}:{port}  (Ctrl-C ends it)", flush=True)
        try:
            threading.Event().wait()
        finally:
            served.close(verbose=False)  # else a request at work writes into the folder while it is removed
