"""Measure a finished encoder."""

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


def evaluate_knn(run: Path, *, train: str, test: str, limit: int, k: int) -> str:
    """Weighted k-nearest-neighbour accuracy of a run's encoder, beside random weights and raw pixels, as a table."""
    file = encoder_file(run)
    facts = metadata_of(file)
    config = EncoderConfig(**{**facts["encoder"], "weights": None})
    source = ImageSource(list_images(train), None)
    probe = build_probe(ProbeConfig(train=train, test=test, limit=limit, k=k), source)
    assert probe is not None and probe.test is not None
    size, mean, std = facts["size"], tuple(facts["mean"]), tuple(facts["std"])
    torch.manual_seed(0)
    encoder = Encoder(config)

    def embedded(images: LabelledImages) -> Float[Tensor, "n d"]:
        return features(encoder, images.source, images.indices, size=size, mean=mean, std=std)

    rows = {"raw pixels (16 x 16)": probe.measure(raw_pixels), "random weights": probe.measure(embedded)}
    load_weights(encoder, file)
    rows[f"{facts['method']}, {facts['images_seen']} images seen"] = probe.measure(embedded)
    lines = [f"{k}-nearest neighbours: {len(probe.test.indices)} images by {len(probe.train.indices)}"]
    lines += [
        f"  {name:34s} top-1 {100 * a.top1:5.1f} %   balanced {100 * a.balanced:5.1f} %" for name, a in rows.items()
    ]
    return "\n".join(lines)


def raw_pixels(images: LabelledImages) -> Float[Tensor, "n 768"]:
    """Pixels of the images at 16 x 16, mean removed: what needs no network."""
    x = np.stack([centre(images.source.read(i)[0], 16).reshape(-1) for i in images.indices]).astype(np.float32)
    return torch.from_numpy(x - x.mean(1, keepdims=True))
