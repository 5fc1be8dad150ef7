"""The plugin of napari: its manifest, and what its widget makes of layers; napari itself is not
needed."""

import importlib
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import genseg
from genseg.napari.widget import find_instances, label_planes

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "genseg" / "napari" / "napari.yaml"


class Layer:
    """Of napari's Image what the widget asks for."""

    def __init__(self, data: Any, *, rgb: bool, multiscale: bool = False) -> None:
        self.data, self.rgb, self.multiscale, self.name = data, rgb, multiscale, "cells"
        shape = (data[0] if multiscale else data).shape
        n = len(shape) - rgb
        self.scale, self.translate = np.full(n, 0.5), np.full(n, 3.0)


@pytest.fixture(autouse=True)
def napari(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of napari that annotations have."""
    layers, kinds = types.ModuleType("napari.layers"), types.ModuleType("napari.types")
    layers.Image, kinds.LayerDataTuple = Layer, tuple  # type: ignore[attr-defined]
    whole = types.ModuleType("napari")
    whole.layers, whole.types = layers, kinds  # type: ignore[attr-defined]
    for module in (whole, layers, kinds):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def blobs(seed: int = 0) -> np.ndarray:
    """Bright squares on a dark ground."""
    image = np.full((64, 96, 3), 20, np.uint8)
    for y, x in np.random.default_rng(seed).permutation(15).reshape(5, 3)[:, :2]:
        image[4 + 4 * y % 48 :, 4 + 6 * x % 80 :][:9, :11] = 220
    return image


def test_an_rgb_layer_becomes_labels_with_scores() -> None:
    image = blobs()
    labels, about, kind = find_instances(Layer(image, rgb=True), Path("otsu"), 0.0)
    wanted = genseg.load("otsu").instances(image)
    assert kind == "labels" and len(wanted) > 1
    assert np.array_equal(labels, wanted.labels())
    assert about["features"]["index"] == list(range(len(wanted) + 1))
    assert about["features"]["score"][1:] == wanted.scores.tolist()
    assert about["features"]["area"][1:] == wanted.areas.tolist()
    assert set(about["features"]["category"][1:]) == {"instance"}
    assert np.isnan(about["features"]["score"][0]), "the first row is the background's"
    assert about["name"] == "cells instances"
    assert about["scale"] == (0.5, 0.5) and about["translate"] == (3.0, 3.0)


def test_each_plane_of_a_stack_is_an_image_and_numbers_go_on() -> None:
    planes = [blobs(seed) for seed in range(3)]
    planes[1][:] = 20
    stack = np.stack(planes)
    model = genseg.load("otsu")
    labels, features = label_planes(stack, model, rgb=True, score=0.0)
    first, _, last = (model.instances(x) for x in planes)
    assert np.array_equal(labels[0], first.labels()) and not labels[1].any()
    assert np.array_equal(labels[2] > 0, last.labels() > 0)
    assert labels[2].max() == len(first) + len(last) == len(features["index"]) - 1
    grey = label_planes(stack[None, ..., 0], model, rgb=False, score=0.0)
    assert np.array_equal(grey[0][0], labels)


def test_a_pyramid_is_looked_at_in_full_and_a_line_refused() -> None:
    image = blobs()
    layer = Layer([image, image[::2, ::2]], rgb=True, multiscale=True)
    labels, _, _ = find_instances(layer, Path("otsu"), 0.0)
    assert labels.shape == (64, 96)
    with pytest.raises(ValueError, match="has rows and columns"):
        find_instances(Layer(np.zeros(7), rgb=False), Path("otsu"), 0.0)
    with pytest.raises(ValueError, match="holds neither"):
        find_instances(Layer(image, rgb=True), Path("no run"), 0.0)


def test_the_manifest_names_what_is_there() -> None:
    content = yaml.safe_load(MANIFEST.read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["napari.manifest"] == {"genseg": "genseg.napari:napari.yaml"}
    assert content["name"] == project["name"]
    (command,) = content["contributions"]["commands"]
    module, _, name = command["python_name"].partition(":")
    assert getattr(importlib.import_module(module), name) is find_instances
    (widget,) = content["contributions"]["widgets"]
    assert widget["command"] == command["id"] and widget["autogenerate"] is True


@pytest.mark.skipif(shutil.which("npe2") is None, reason="npe2 is not installed")
def test_npe2_finds_the_manifest_right() -> None:
    done = subprocess.run(["npe2", "validate", str(MANIFEST)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
