"""Instances of images a second: `tools/benchmark.py generate`."""

import argparse
import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from genseg import onnx
from genseg.alpha.model import load_alpha
from genseg.core.precision import fast_precision
from genseg.core.threads import AT_ONCE, in_order, several_at_once
from genseg.data.images.files import list_images
from genseg.data.images.pixels import centre
from genseg.data.images.source import ImageSource
from genseg.data.instances.instance import Instance
from genseg.data.proposals.propose import PROPOSERS
from genseg.onnx.model import OnnxModel
from genseg.workflows.export.export import export
from genseg.workflows.generate.finder import Pixels, alpha_file

Table = Callable[[list[str], list[list[str]]], str]


def generate(o: argparse.Namespace, table: Table, about: Mapping[str, Any]) -> None:
    """Images/s of a run's generation on images that are in memory, several at once as `genseg
    generate` does and one after the other, and of the classical proposer; median of rounds."""
    model, _ = load_alpha(alpha_file(o.run))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).precision = fast_precision(device)
    source = ImageSource(list_images(o.data), None)
    images = [centre(source.read(i)[0], o.size) for i in range(min(o.count, len(source)))]
    finders: dict[str, Callable[[list[Pixels]], Iterable[list[Instance]]]] = {
        "genseg": lambda some: in_order(looking, model.instances, some),
        "one at a time": lambda some: map(model.instances, some),
        "onnx, one at a time": lambda some: map(exported(o.run).instances, some),
        "tree": lambda some: map(PROPOSERS["tree"], some),
    }
    rates: dict[str, list[float]] = {name: [] for name in finders}
    found = dict.fromkeys(finders, 0)
    with several_at_once(device) as looking:
        for _, (name, find) in itertools.product(range(o.rounds), finders.items()):
            list(find(images[:AT_ONCE]))  # not counted: oneDNN's choices
            began = time.perf_counter()
            found[name] = sum(map(len, find(images)))
            rates[name].append(len(images) / (time.perf_counter() - began))
    rows = []
    for name, r in rates.items():
        each = found[name] / len(images)
        rows.append(
            [
                name,
                f"{statistics.median(r):.1f} images/s",
                f"{min(r):.1f} to {max(r):.1f}",
                f"{each:.1f}",
            ]
        )
    print(f"{len(images)} images of {o.size} px, {torch.get_num_threads()} threads, {about['cpu']}")
    print(table(["", "median", "range", "instances an image"], rows))


@functools.cache
def exported(run: Path) -> OnnxModel:
    """The run by onnxruntime, with as many threads as torch has."""
    with tempfile.TemporaryDirectory() as folder:
        out = export(run, Path(folder) / "alpha.onnx").out
        return onnx.load(out, threads=torch.get_num_threads())
