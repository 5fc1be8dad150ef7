"""Frozen features of many images."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genseg.data.images import ImageSource
from genseg.data.pixels import centre, normalise
from genseg.nn.encoder import Encoder


@torch.no_grad()
def features(
    encoder: Encoder,
    source: ImageSource,
    indices: Sequence[int],
    *,
    size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    batch: int = 256,
) -> Float[Tensor, "n d"]:
    """Embeddings (on the CPU) of the centre view of each image in evaluation mode, which is undone afterwards."""
    device = next(encoder.parameters()).device
    training = encoder.training
    encoder.eval()
    found = []
    with ThreadPoolExecutor(2) as pool:
        for first in range(0, len(indices), batch):
            part = indices[first : first + batch]
            pixels = np.stack(list(pool.map(lambda i: centre(source.read(i)[0], size), part)))
            x = normalise(torch.from_numpy(pixels).to(device), mean=mean, std=std)
            found.append(encoder(x).float().cpu())
    encoder.train(training)
    return torch.cat(found)
