"""Frozen features of many images."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from genseg.data.images.pixels import centre, normalise
from genseg.data.images.source import Readable
from genseg.nn.encoder import Encoder
from genseg.nn.norms import average_anew

Colour = tuple[float, float, float]


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
    views: Callable[[int], UInt8[np.ndarray, "v s s 3"]],
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
) -> Iterator[Float[Tensor, "b 3 size size"]]:
    device = next(encoder.parameters()).device
    with ThreadPoolExecutor(2) as pool:
        for first in range(0, len(indices), batch):
            part = indices[first : first + batch]
            pixels = np.stack(list(pool.map(lambda i: centre(source.read(i)[0], size), part)))
            yield normalise(torch.from_numpy(pixels).to(device), mean=mean, std=std)
