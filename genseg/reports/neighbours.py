"""What a trained encoder finds alike: a few images and their nearest neighbours among many."""

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from genseg.core.names import ENCODER_NAME
from genseg.data.images.pixels import centre
from genseg.data.images.source import ImageSource
from genseg.measure.features import features
from genseg.nn.encoder import build_encoder
from genseg.nn.encoder_file import facts_of
from genseg.reports.pictures import TILE, small
from genseg.reports.run import Run, chosen
from genseg.reports.training_pictures import Shrunk
from genseg.show.brightness import brightened, display_gain
from genseg.show.page import Section, figure
from genseg.show.viewer import data_uri

MANY = 1000  # images that are embedded
QUERIES, NEAREST = 6, 5


def alike(run: Run) -> Section | None:
    """Some images, each followed by those that the encoder finds most alike."""
    c, images = run.config, run.images
    file = run.path / ENCODER_NAME
    if not run.look or c is None or c.method.name == "none" or images is None or not file.is_file():
        return None
    source = Shrunk(images, c.data.cache)
    numbers = chosen(len(images), MANY)
    embedded = embeddings(file, source, numbers)
    known = [n for n, i in enumerate(numbers) if i not in source.broken]  # the others are stand-ins
    if len(known) < 2:
        return None
    numbers, embedded = [numbers[n] for n in known], embedded[known]
    queries = sorted(
        torch.randperm(len(numbers), generator=torch.Generator().manual_seed(0))[:QUERIES].tolist()
    )
    cosines, nearest = nearest_of(embedded, torch.tensor(queries), NEAREST)
    rows = ""
    for q, found, alikeness in zip(queries, nearest.tolist(), cosines.tolist(), strict=True):
        cells = [_cell(source, numbers[q], "image")]
        cells += [
            _cell(source, numbers[n], f"{cosine:.2f}")
            for n, cosine in zip(found, alikeness, strict=True)
        ]
        rows += f'<div class="alike">{"".join(cells)}</div>'
    return Section(
        "alike",
        "Neighbours",
        "What the encoder finds alike",
        rows,
        f"Each framed image, drawn at random, and the nearest of {len(numbers):,} images to it, "
        "by the cosine of their embeddings. No label was used. Dim images are shown brighter.",
    )


def _cell(source: ImageSource, i: int, text: str) -> str:
    images = source.images
    text += f", {images.classes[images.labels[i]]}" if images.labels is not None else ""
    pixels = source.read(i)[0]
    picture = brightened(small(centre(pixels, TILE)), display_gain(pixels))
    return figure(data_uri(picture, quality=82), text, alt=images.files[i], size=(TILE, TILE))


def embeddings(file: Path, source: ImageSource, numbers: list[int]) -> Float[Tensor, "n d"]:
    """What the encoder of `file` makes of images, as it is evaluated in training."""
    facts = facts_of(file)
    encoder, _ = build_encoder(replace(facts.encoder, weights=str(file)))
    encoder.to("cuda" if torch.cuda.is_available() else "cpu")
    return features(encoder, source, numbers, size=facts.size, mean=facts.mean, std=facts.std)


def nearest_of(
    embedded: Float[Tensor, "n d"], queries: Int[Tensor, "q"], count: int
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """Cosines and numbers of those that lie nearest to each query, itself left out; at most
    `count`."""
    x = F.normalize(embedded.float(), dim=1)
    similarity = x[queries] @ x.T
    similarity[torch.arange(len(queries)), queries] = -torch.inf
    cosines, nearest = similarity.topk(min(count, len(x) - 1), dim=1)
    return cosines, nearest
