"""An ONNX file of genseg as a thing that gives the instances of whole images, without torch."""

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from genseg.alpha.kept import unpadded
from genseg.alpha.merging import by_tiles
from genseg.alpha.tiles import Tile
from genseg.core.paths import expand
from genseg.data.images.decode import resize, shrunk
from genseg.data.images.inputs import as_inputs, stretch
from genseg.data.instances.instance import Instance, resized
from genseg.onnx.decode import Dense, generate
from genseg.onnx.facts import KEY, OnnxFacts, facts_in

Pixels = UInt8[np.ndarray, "h w c"]
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # the first that is there is used
OUTPUTS = ("embeddings", "objectness", "quality", "kernel", "categories")


class OnnxModel:
    """A network that onnxruntime runs, and what its file says of images and instances."""

    def __init__(self, session: Any, facts: OnnxFacts) -> None:
        self.session, self.facts = session, facts
        self.config = facts.generate

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by `Instance.category`; one, "instance", without labels."""
        return tuple(name for _, name in self.facts.categories)

    def instances(self, image: Pixels) -> list[Instance]:
        """All instances of an image, best first, in its own pixels, as the model gives them that
        was exported. Large images are seen by overlapping tiles. Set `config` for another least
        score."""
        image = as_inputs(image, len(self.facts.mean))
        small, whole, c = self.prepared(image), image.shape[:2], self.config
        h, w = small.shape[:2]
        found = by_tiles(
            h,
            w,
            lambda t: self._tile(small, t),
            tile=c.tile,
            overlap=c.overlap,
            inside=c.inside,
        )
        if small.shape[:2] != whole:
            found = [a for a in (resized(a, (h, w), whole) for a in found) if a is not None]
        if self.facts.kind == "places":  # fine-tuned models count what they look at
            return found
        return [a for a in found if a.area >= c.min_area]

    def prepared(self, image: Pixels) -> UInt8[np.ndarray, "_ _ c"]:
        """An image as the network sees it: resized, its values spread, as in training."""
        f = self.facts
        if f.kind == "alpha":
            small = shrunk(image, f.side)
            return stretch(small) if f.stretch else small
        image = stretch(image) if f.stretch else image
        h, w = image.shape[:2]
        scale = f.fit / max(h, w) if f.fit else 1.0
        if scale == 1:
            return image
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        size = max(1, round(w * scale)), max(1, round(h * scale))
        return resize(image, size, how)

    def dense(self, pixels: Pixels) -> Dense:
        """What the network says of prepared pixels, mirrored at the edges to its multiple."""
        x = self.tensor(pixels)
        embeddings, objectness, quality, kernel, categories = self.session.run(
            list(OUTPUTS), {"image": x}
        )
        return Dense(embeddings[0], objectness[0], quality[0], kernel[0], categories[0])

    def tensor(self, pixels: Pixels) -> Float32[np.ndarray, "1 _ _ _"]:
        """Pixels as the network takes them."""
        h, w = pixels.shape[:2]
        below, right = -h % self.facts.multiple, -w % self.facts.multiple
        small = self.facts.kind == "places" and (below >= h or right >= w)
        how = cv2.BORDER_REPLICATE if small else cv2.BORDER_REFLECT_101
        if below or right:
            wider = cv2.copyMakeBorder(pixels, 0, below, 0, right, how)
            pixels = wider.reshape(*wider.shape[:2], pixels.shape[2])
        mean, std = (np.array(v, np.float32) * 255 for v in (self.facts.mean, self.facts.std))
        x = (pixels.astype(np.float32) - mean) / std
        return np.ascontiguousarray(x.transpose(2, 0, 1)[None])

    def _tile(self, small: Pixels, tile: Tile) -> list[Instance]:
        config, calibration = self.config, self.facts.calibration
        if self.facts.kind == "alpha":  # its least area counts pixels of the image
            config = replace(config, score=calibration.score(config.score), min_area=1)
        found = generate(self.dense(small[tile.window]), self.facts.drawing, config)
        whole = unpadded(found, tile.height, tile.width, config)
        return [replace(a, score=calibration.probability(a.score)) for a in whole]


def load(file: str | Path, *, threads: int = 0) -> OnnxModel:
    """The model of a file that `genseg export RUN --out FILE.onnx` has written.

    threads: of one image; 0: as many as onnxruntime takes

    Raises ValueError for any other file, and without onnxruntime.
    """
    path = expand(file)
    if not path.is_file():
        raise ValueError(f"there is no {path}: give a file of genseg export RUN --out FILE.onnx")
    try:
        runtime: Any = importlib.import_module("onnxruntime")
    except ImportError:
        raise ValueError(f"{path} needs onnxruntime: pip install 'genseg[onnx]'") from None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; a file's are raised
    there = [p for p in PROVIDERS if p in runtime.get_available_providers()]
    try:
        session = runtime.InferenceSession(path.read_bytes(), options, providers=there)
    except Exception as error:  # onnxruntime has a kind of error for each reason
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is no ONNX file that onnxruntime can run ({reason})") from None
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    if text is None or {o.name for o in session.get_outputs()} != set(OUTPUTS):
        raise ValueError(
            f"{path} holds no alpha decoder that genseg has written; genseg export RUN --out "
            "FILE.onnx writes one, of a run with the alpha task or of places"
        )
    try:
        facts = facts_in(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    shapes = {o.name: o.shape for o in session.get_outputs()}
    if shapes["kernel"][-1] != facts.drawing.numbers:
        raise ValueError(
            f"{path}: its kernels have {shapes['kernel'][-1]} numbers, and its facts say "
            f"{facts.drawing.numbers}; export it anew"
        )
    return OnnxModel(session, facts)
