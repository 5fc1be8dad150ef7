"""Measure a finished encoder."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genseg.data.images import ImageSource, list_images
from genseg.data.pixels import centre
from genseg.measure.features import features
from genseg.nn.encoder import Encoder, EncoderConfig, encoder_file, load_weights, metadata_of
from genseg.recipes.probe import LabelledImages, ProbeConfig, build_probe


def evaluate_knn(runs: Sequence[Path], *, train: str, test: str, limit: int, k: int) -> str:
    """Weighted k-nearest-neighbour accuracy of the encoders of `runs`, beside random weights and raw pixels.

    The random weights are those of the first run's architecture, size and normalisation.
    """
    source = ImageSource(list_images(train), None)
    probe = build_probe(ProbeConfig(train=train, test=test, limit=limit, k=k), source)
    assert probe is not None and probe.test is not None
    found = {"raw pixels (16 x 16)": probe.measure(raw_pixels)}
    found["random weights"] = probe.measure(_embedding(encoder_file(runs[0]), pretrained=False))
    for run in runs:
        facts = metadata_of(encoder_file(run))
        name = f"{run}: {facts['method']}, {facts['images_seen']} images seen"
        found[name] = probe.measure(_embedding(encoder_file(run), pretrained=True))
    width = max(len(name) for name in found)
    lines = [f"{k}-nearest neighbours: {len(probe.test.indices)} images by {len(probe.train.indices)}"]
    for name, a in found.items():
        lines.append(f"  {name:{width}s}  top-1 {100 * a.top1:5.1f} %   balanced {100 * a.balanced:5.1f} %")
    return "\n".join(lines)


def _embedding(file: Path, *, pretrained: bool) -> Callable[[LabelledImages], Float[Tensor, "n d"]]:
    """The encoder of a file as a function of images; with random weights of seed 0 when not `pretrained`."""
    facts = metadata_of(file)
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(**{**facts["encoder"], "weights": None}))
    if pretrained:
        load_weights(encoder, file)
    encoder.to("cuda" if torch.cuda.is_available() else "cpu")
    view = {"size": facts["size"], "mean": tuple(facts["mean"]), "std": tuple(facts["std"])}
    return lambda images: features(encoder, images.source, images.indices, **view)


def raw_pixels(images: LabelledImages) -> Float[Tensor, "n 768"]:
    """Pixels of the images at 16 x 16, mean removed: what needs no network."""
    x = np.stack([centre(images.source.read(i)[0], 16).reshape(-1) for i in images.indices]).astype(np.float32)
    return torch.from_numpy(x - x.mean(1, keepdims=True))
