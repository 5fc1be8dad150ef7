"""The alpha decoder: from the encoder's pyramid to pixel embeddings and codes, and from a code to
the alpha map of one instance.

Codes are proposed by place, as in SOLOv2 (Wang et al., 2020) and CondInst (Tian et al., 2020): each
cell of a few grids says whether an instance of the grid's sizes has its centre there, and gives the
code of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from genseg.alpha.codes import GRIDS, REACH, CodeDecoder, Codes
from genseg.alpha.teacher_level import TeacherLevel
from genseg.core.check import at_least
from genseg.nn.encoder import Encoder

COARSE = (32, 64)  # strides of grids that are made of the encoder's last level


@dataclass(frozen=True)
class DecoderConfig:
    # channels of the decoder at strides 16, 8, 4, 2
    channels: tuple[int, int, int, int] = (96, 64, 48, 24)
    embedding: int = 16  # width of a pixel's embedding
    code: int = 32  # width of the code that says which instance
    hidden: int = 8  # hidden units of the kernel that a code becomes
    tower: int = 48  # width of the layers that propose codes
    # strides of the grids of places; 32 and 64 may follow, for things that are 128 px wide and more
    grids: tuple[int, ...] = GRIDS

    def __post_init__(self) -> None:
        at_least(
            1,
            channels=min(self.channels),
            embedding=self.embedding,
            code=self.code,
            hidden=self.hidden,
        )
        if self.tower < 8 or self.tower % 8:
            raise ValueError(f"tower={self.tower}: use a multiple of 8, the groups of its norms")
        if self.grids not in [(*GRIDS, *COARSE[:n]) for n in range(len(COARSE) + 1)]:
            raise ValueError(
                f"grids={list(self.grids)}: use {list(GRIDS)}, or these and 32, or these, 32 and 64"
            )
        if self.tower == 8 and self.grids != GRIDS:
            raise ValueError(
                "tower=8: use 16 or more with grids of stride 32: one of a single place has too "
                "few numbers for the norms of 8"
            )


@dataclass(frozen=True)
class Places:
    """What every place of all grids proposes: p places an image, grid after grid, row after row."""

    objectness: Float[Tensor, "b p"]  # logits
    # logits of the overlap that the decoded alpha will have with the truth
    quality: Float[Tensor, "b p"]
    vector: Float[Tensor, "b p d"]
    grids: tuple[tuple[int, int, int], ...]  # (stride, rows, columns) of each grid

    def centres(self) -> tuple[Float[Tensor, "p 2"], Float[Tensor, "p"]]:
        """y and x of all places in pixels of the image, and the scale of their grid."""
        places, scales = [], []
        for stride, rows, columns in self.grids:
            y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            places.append((torch.stack([y, x], -1).flatten(0, 1) + 0.5) * stride)
            scales.append(torch.full((rows * columns,), float(REACH * stride)))
        device = self.objectness.device
        return torch.cat(places).to(device), torch.cat(scales).to(device)

    def codes(self, image: Int[Tensor, "n"], place: Int[Tensor, "n"]) -> Codes:
        """The codes proposed at some places."""
        centres, scales = self.centres()
        return Codes(self.vector[image, place], centres[place], scales[place], image)


class AlphaDecoder(CodeDecoder):
    """Pixel embeddings, proposals of codes, and alphas from codes.

    taught: a teacher's features, a further level of the pyramid beside the encoder's of their
        stride; its weights are none of the decoder's
    """

    def __init__(
        self, encoder: Encoder, config: DecoderConfig, taught: TeacherLevel | None = None
    ) -> None:
        super().__init__()
        self.config = c = config
        self.taught = taught
        widths = list(encoder.net.out_channels)
        if taught is not None:
            widths[taught.level] += taught.width
            taught.guard(self)
        self.pixels = UnetDecoder(widths, c.channels, n_blocks=len(c.channels))
        self.embed = nn.Conv2d(c.channels[-1], c.embedding, 1)
        self.levels = nn.ModuleList(
            nn.Conv2d(n, c.tower, 1)
            for n in (
                *c.channels[-2 : -2 - len(GRIDS) : -1],
                *(widths[-1] for _ in c.grids[len(GRIDS) :]),
            )
        )
        self.tower = nn.Sequential(*(layer for _ in range(2) for layer in _layer(c.tower)))
        self.propose = nn.Conv2d(c.tower, 2 + c.code, 1)
        self.make_kernel(code=c.code, embedding=c.embedding, hidden=c.hidden)
        assert self.propose.bias is not None
        # few places have an instance (RetinaNet's prior)
        nn.init.constant_(self.propose.bias[:1], -4.0)

    def forward(
        self, pyramid: Sequence[Float[Tensor, "b _ _ _"]]
    ) -> tuple[Float[Tensor, "b e h w"], Places]:
        """Pixel embeddings at stride 2 and what all places propose, from the encoder's
        `pyramid`."""
        embeddings, heads = self.maps(pyramid)
        found = by_place(heads).float()
        grids = tuple(
            (s, h.shape[2], h.shape[3]) for s, h in zip(self.config.grids, heads, strict=True)
        )
        return embeddings, Places(found[..., 0], found[..., 1], found[..., 2:], grids)

    def maps(
        self, pyramid: Sequence[Float[Tensor, "b _ _ _"]]
    ) -> tuple[Float[Tensor, "b e h w"], list[Float[Tensor, "b _ _ _"]]]:
        """The same as maps: pixel embeddings, and of each grid objectness, quality and code."""
        if self.taught is not None:
            pyramid = self.taught.beside(pyramid)
        skips = list(pyramid[1:-1])[::-1]
        x, levels = pyramid[-1], []
        for block, skip in zip(self.pixels.blocks, skips, strict=True):
            x = block(x, *skip.shape[2:], skip_connection=skip)
            levels.append(x)
        coarse = [_pooled(pyramid[-1], stride) for stride in self.config.grids[len(GRIDS) :]]
        heads = [
            self.propose(self.tower(f(x)))
            for f, x in zip(self.levels, [*levels[-2::-1], *coarse], strict=True)
        ]
        return self.embed(levels[-1]), heads


def by_place(heads: Sequence[Float[Tensor, "b c _ _"]]) -> Float[Tensor, "b p c"]:
    """The maps of all grids as a list of places, grid after grid, row after row."""
    return torch.cat([h.flatten(2) for h in heads], 2).transpose(1, 2)


def _pooled(level: Float[Tensor, "b c h w"], stride: int) -> Float[Tensor, "b c _ _"]:
    """The encoder's last level, of stride COARSE[0], averaged to another one."""
    times = stride // COARSE[0]
    return level if times == 1 else F.avg_pool2d(level, times, ceil_mode=True)


def _layer(width: int) -> tuple[nn.Module, ...]:
    """Group norm, since grids of all sizes share the layer."""
    return (
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.GroupNorm(8, width),
        nn.ReLU(inplace=True),
    )
