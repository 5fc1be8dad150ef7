"""Frozen features of many images."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from genseg.data.images.inputs import as_inputs
from genseg.data.images.pixels import Numbers, centre, normalise
from genseg.data.images.source import Readable
from genseg.data.instances.instance import Instance
from genseg.data.labels.box_crops import square_around
from genseg.data.regions.scene import Scene
from genseg.nn.encoder import Encoder
from genseg.nn.norms import average_anew

Colour = Numbers


@torch.no_grad()
def features(
    encoder: Encoder,
    source: Readable,
    indices: Sequence[int],
    *,
    size: int,
    mean: Colour,
    std: Colour,
    batch: int = 256,
) -> Float[Tensor, "n d"]:
    """Embeddings (on the CPU) of the centre view of each image in evaluation mode, which is undone
    afterwards."""
    training = encoder.training
    encoder.eval()
    found = [
        encoder(x).float().cpu() for x in _batches(encoder, source, indices, size, mean, std, batch)
    ]
    encoder.train(training)
    return torch.cat(found)


@torch.no_grad()
def stage_features(
    encoder: Encoder,
    views: Callable[[int], UInt8[np.ndarray, "v s s c"]],
    indices: Sequence[int],
    *,
    mean: Colour,
    std: Colour,
    batch: int = 256,
) -> list[Float[Tensor, "n v _"]]:
    """Embeddings (on the CPU) of all views of each image after each stage of the encoder, the last
    one being what `features` gives: the maps of the stage averaged over places. In evaluation mode,
    which is undone afterwards.

    views: the views of an image, all of one size
    """
    training = encoder.training
    encoder.eval()
    device = next(encoder.parameters()).device
    found: list[list[Tensor]] = []
    count, each = 1, 1
    with ThreadPoolExecutor(2) as pool:
        first = 0
        while first < len(indices):
            pixels = np.stack(list(pool.map(views, indices[first : first + each])))
            count = pixels.shape[1]
            x = normalise(torch.from_numpy(pixels).to(device).flatten(0, 1), mean=mean, std=std)
            levels = [level for level in encoder.pyramid(x)[1:] if level.shape[1]]
            found.append(
                [level.float().mean((2, 3)).cpu().unflatten(0, (-1, count)) for level in levels]
            )
            first, each = first + each, max(1, batch // count)
    encoder.train(training)
    return [torch.cat(stage) for stage in zip(*found, strict=True)]


@torch.no_grad()
def instance_features(
    encoder: Encoder,
    pixels: UInt8[np.ndarray, "h w c"] | Scene,
    found: Sequence[Instance],
    *,
    size: int,
    mean: Colour,
    std: Colour,
    margin: float = 0.1,
    batch: int = 256,
) -> Float[Tensor, "n d"]:
    """Embeddings (on the CPU) of the instances of an image: of each the last map of the square
    around its box, with `margin` of the longer side on each side, averaged over its alpha map.

    An alpha of 1 everywhere gives what `features` gives of the square. Evaluation mode is undone
    afterwards.
    """
    device, training = next(encoder.parameters()).device, encoder.training
    encoder.eval()
    vectors = []
    pixels = pixels.inputs(len(mean)) if isinstance(pixels, Scene) else as_inputs(pixels, len(mean))
    for first in range(0, len(found), batch):
        cut = [_square(pixels, a, size, margin) for a in found[first : first + batch]]
        squares, alphas = (
            torch.from_numpy(np.stack(part)).to(device) for part in zip(*cut, strict=True)
        )
        maps = encoder.pyramid(normalise(squares, mean=mean, std=std))[-1].float()
        weights = F.adaptive_avg_pool2d(alphas[:, None].float(), (maps.shape[-2], maps.shape[-1]))
        total = weights.sum((2, 3)).clamp(min=1e-6)
        vectors.append(((maps * weights).sum((2, 3)) / total).cpu())
    encoder.train(training)
    return torch.cat(vectors) if vectors else torch.zeros(0, int(encoder.net.out_channels[-1]))


def _square(
    pixels: UInt8[np.ndarray, "h w c"] | Scene, instance: Instance, size: int, margin: float
) -> tuple[UInt8[np.ndarray, "size size c"], UInt8[np.ndarray, "size size"]]:
    """The square around an instance and its alpha there, resized."""
    left, top, w, h = instance.box_xywh
    height, width = pixels.shape[:2]
    rows, columns = square_around((left, top, left + w, top + h), height, width, margin)
    alpha = instance.within(rows, columns)
    larger = len(alpha) > size
    kind = cv2.INTER_AREA if larger else cv2.INTER_LINEAR
    return (
        centre(pixels[rows, columns], size),
        np.asarray(cv2.resize(alpha, (size, size), interpolation=kind)),
    )


@torch.no_grad()
def fit_batch_norms(
    encoder: Encoder,
    source: Readable,
    indices: Sequence[int],
    *,
    size: int,
    mean: Colour,
    std: Colour,
    batch: int = 256,
) -> None:
    """Give the batch norms the statistics of the centre views of these images, and leave evaluation
    mode.

    Every training does this to random weights in its first updates, for better or worse
    (docs/log/): with fitted statistics they are the baseline of what it has learnt since; they
    start with a mean of 0 and a variance of 1.
    """
    encoder.eval()
    average_anew(encoder)
    for n, x in enumerate(_batches(encoder, source, indices, size, mean, std, batch)):
        if n == 0 or len(x) == batch:  # a short last batch would weigh as much as a full one
            encoder(x)
    encoder.eval()


def _batches(
    encoder: Encoder,
    source: Readable,
    indices: Sequence[int],
    size: int,
    mean: Colour,
    std: Colour,
    batch: int,
) -> Iterator[Float[Tensor, "b c size size"]]:
    device = next(encoder.parameters()).device

    def view(image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "size size c"]:
        return centre(as_inputs(image, len(mean)), size)

    with ThreadPoolExecutor(2) as pool:
        for first in range(0, len(indices), batch):
            part = indices[first : first + batch]
            pixels = np.stack(list(pool.map(lambda i: view(source.read(i)[0]), part)))
            yield normalise(torch.from_numpy(pixels).to(device), mean=mean, std=std)
