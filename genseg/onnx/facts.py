"""What an ONNX file of genseg says of itself: with it, one file is enough to find instances."""

import json
from dataclasses import dataclass
from typing import Literal

from genseg.alpha.calibration import Calibration
from genseg.alpha.kept import GenerateConfig
from genseg.core.check import above, at_least, normalisation
from genseg.core.reading import Reading
from genseg.data.labels.categories import Categories
from genseg.schema import ConfigError, build

KEY = "genseg"  # of the file's metadata_props; its value is JSON


@dataclass(frozen=True)
class Drawing:
    """How places and their kernels become alpha maps.

    The outputs list the places of all grids, grid after grid, row after row. The kernel of a place
    has the weights (hidden, embedding + 3) and the offsets (hidden) of a hidden layer over
    embedding, dy, dx and r^2, then the weights (2, hidden) and the offsets (2) of the logits of the
    visible and the amodal alpha. dy and dx are distances from the place's centre, in units of
    `reach` times the stride of its grid.
    """

    embedding: int  # channels of the embeddings
    hidden: int
    stride: int  # of the embeddings; alphas are drawn there and enlarged
    grids: tuple[int, ...]  # strides of the grids of places
    reach: int
    large: int  # stride of the first grid whose instances are looked for everywhere
    coarser: int  # times `stride`: where these are looked for at first
    faint: float  # logit from which on something is seen there

    def __post_init__(self) -> None:
        sizes = {"embedding": self.embedding, "hidden": self.hidden, "stride": self.stride}
        at_least(1, **sizes, reach=self.reach, coarser=self.coarser)
        above(0, grids=min(self.grids, default=0))

    @property
    def numbers(self) -> int:
        """In the kernel of a place."""
        return self.hidden * (self.embedding + 3) + self.hidden + 2 * self.hidden + 2


@dataclass(frozen=True)
class OnnxFacts:
    """The file's input `image` (batch, channels, height, width) is (pixels / 255 - mean) / std of
    pixels of 8 bits, RGB or the channels of `reading`, mirrored at the lower and right edge to
    sides that `multiple` divides."""

    kind: Literal["alpha", "places"]  # found without labels; or by genseg finetune
    mean: tuple[float, ...]
    std: tuple[float, ...]
    side: int  # larger images are shrunk to this short side; 0: never
    fit: int  # images are resized to this long side; 0: they stay as they are
    stretch: bool  # values are spread over the whole range
    multiple: int
    drawing: Drawing
    generate: GenerateConfig
    categories: Categories  # id and name
    calibration: Calibration = Calibration()
    reading: Reading = Reading()  # how files are read
    genseg: str = ""  # the version that has written it

    def __post_init__(self) -> None:
        normalisation(self.mean, self.std)
        at_least(0, side=self.side, fit=self.fit)
        at_least(1, multiple=self.multiple, categories=len(self.categories))


def facts_in(text: str) -> OnnxFacts:
    """The facts of a file. Raises ValueError for what is not as genseg writes it."""
    try:
        return build(OnnxFacts, json.loads(text))
    except (ConfigError, RecursionError, ValueError) as error:
        raise ValueError(f"its facts cannot be read ({error}); export it anew") from None
