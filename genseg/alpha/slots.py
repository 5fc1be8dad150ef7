"""Codes proposed by slot attention, learnt by reconstructing pixels: the alternative to places.

A fixed number of slots compete for the pixels of an image (Locatello et al., Object-Centric
Learning with Slot Attention, 2020). It needs no composites and no proposals, and has no more
instances than slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from genseg.alpha.codes import STRIDE, Codes
from genseg.alpha.decoder import AlphaDecoder, DecoderConfig
from genseg.alpha.generate import GenerateConfig
from genseg.core.check import at_least
from genseg.core.contrast import full_precision
from genseg.data.instances.instance import Instance, cut_instance, resized
from genseg.nn.encoder import Encoder

GRID = 8  # stride of the features that slots attend to
SURFACE = 6  # of a slot's colour: 1, y, x, y^2, x y, x^2


@dataclass(frozen=True)
class SlotAttentionConfig:
    count: int = 11  # slots of an image; one of them becomes the background
    iterations: int = 3  # iterations of the slot attention
    width: int = 64  # width of a slot

    def __post_init__(self) -> None:
        at_least(2, count=self.count)
        at_least(1, iterations=self.iterations, width=self.width)


class SlotAttention(nn.Module):
    """Slots from features (algorithm 1 of the paper)."""

    def __init__(self, features: int, config: SlotAttentionConfig) -> None:
        super().__init__()
        d = config.width
        self.config = config
        self.position = nn.Linear(4, features)
        self.norm = nn.LayerNorm(features)
        self.hidden = nn.Sequential(nn.Linear(features, d), nn.ReLU(), nn.Linear(d, d))
        self.norm_inputs, self.norm_slots, self.norm_mlp = (
            nn.LayerNorm(d),
            nn.LayerNorm(d),
            nn.LayerNorm(d),
        )
        self.k, self.v, self.q = (nn.Linear(d, d, bias=False) for _ in range(3))
        self.gru = nn.GRUCell(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, d))
        self.mean, self.log_deviation = (
            nn.Parameter(torch.randn(d) * d**-0.5),
            nn.Parameter(torch.zeros(d)),
        )

    def forward(
        self, x: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b k d"], Float[Tensor, "b k n"]]:
        """Slots, and the share of each slot's attention that a pixel has (they sum to one over
        pixels)."""
        h, w = x.shape[2:]
        inputs = self.norm_inputs(
            self.hidden(self.norm(x.flatten(2).transpose(1, 2) + self.position(_corners(h, w, x))))
        )
        k, v = self.k(inputs), self.v(inputs)
        noise = self._noise(len(x)).to(x.device)
        slots = self.mean + self.log_deviation.exp() * noise
        for _ in range(self.config.iterations):
            before = slots
            q = self.q(self.norm_slots(slots)) * slots.shape[-1] ** -0.5
            share = (q @ k.transpose(1, 2)).softmax(1) + 1e-8  # over slots: they compete
            share = share / share.sum(2, keepdim=True)
            slots = self.gru((share @ v).flatten(0, 1), before.flatten(0, 1)).view_as(before)
            slots = slots + self.mlp(self.norm_mlp(slots))
        return slots, share

    def _noise(self, images: int) -> Float[Tensor, "b k d"]:
        """What tells slots apart at first. In generation the same for each image, so that it is
        found again alike."""
        shape = (self.config.count, self.config.width)
        if self.training:
            return torch.randn(images, *shape)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).expand(images, *shape)


def _corners(h: int, w: int, like: Tensor) -> Float[Tensor, "n 4"]:
    """y, x, 1 - y, 1 - x of all pixels in [0, 1]: the paper's soft position embedding."""
    y, x = torch.meshgrid(torch.linspace(0, 1, h), torch.linspace(0, 1, w), indexing="ij")
    at = torch.stack([y, x, 1 - y, 1 - x], -1).flatten(0, 1)
    return at.to(like.device)


class SlotDecoder(nn.Module):
    """Slots as codes of the alpha decoder; each also has a colour, a second-degree surface over the
    image."""

    def __init__(
        self, encoder: Encoder, config: SlotAttentionConfig, decoder: DecoderConfig
    ) -> None:
        super().__init__()
        self.config = config
        self.decoder = AlphaDecoder(encoder, decoder)
        for unused in (self.decoder.levels, self.decoder.tower, self.decoder.propose):
            unused.requires_grad_(False)  # DDP would wait for their gradients
        self.attend = SlotAttention(encoder.net.out_channels[3], config)
        self.code = nn.Linear(config.width, decoder.code)
        self.channels = encoder.config.in_channels
        self.colour = nn.Linear(config.width, self.channels * SURFACE)

    def forward(
        self, pyramid: Sequence[Float[Tensor, "b _ _ _"]]
    ) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, "b c h w"], Codes]:
        """Alphas that sum to one over slots, the image that they make, and the codes."""
        embeddings, _ = self.decoder(pyramid)
        with full_precision(embeddings):
            slots, share = self.attend(pyramid[3].float())
            codes = self._codes(slots, share, pyramid[3].shape[3])
            logits = self.decoder.decode(embeddings.float(), codes)[:, 0]
            alpha = logits.unflatten(0, slots.shape[:2]).softmax(1)
            y, x = torch.meshgrid(
                *(torch.linspace(-1, 1, n, device=alpha.device) for n in alpha.shape[2:]),
                indexing="ij",
            )
            surface = torch.stack([torch.ones_like(y), y, x, y * y, x * y, x * x])
            colour = torch.einsum(
                "bkcs,shw->bkchw",
                self.colour(slots).unflatten(2, (self.channels, SURFACE)),
                surface,
            )
            return alpha, torch.einsum("bkhw,bkchw->bchw", alpha, colour), codes

    def _codes(
        self, slots: Float[Tensor, "b k d"], share: Float[Tensor, "b k n"], width: int
    ) -> Codes:
        """A slot is placed at the mean of its attention, and as large as that is wide."""
        n = share.shape[2]
        at = (
            torch.stack([torch.arange(n) // width, torch.arange(n) % width], -1)
            .float()
            .to(share.device)
        )
        place = share @ (at + 0.5) * GRID
        square = share @ (at + 0.5).square() * GRID**2
        scale = 2 * (square - place.square()).sum(-1).clamp_min(GRID**2).sqrt()
        image = torch.arange(len(slots), device=share.device).repeat_interleave(slots.shape[1])
        return Codes(self.code(slots).flatten(0, 1), place.flatten(0, 1), scale.flatten(), image)


def reconstruction(
    made: Float[Tensor, "b c h w"], image: Float[Tensor, "b c s t"]
) -> Float[Tensor, ""]:
    """Mean squared error of the normalised pixels at the stride of the alphas (the paper's
    objective)."""
    return F.mse_loss(made, F.avg_pool2d(image.float(), STRIDE))


def slots_found(alpha: Float[Tensor, "b k h w"], config: GenerateConfig) -> list[list[Instance]]:
    """Each slot as an instance: the pixels that it wins, all opaque since its alpha there may be
    little, scored by how sure it is of them, its mean alpha there; best first. The slot with the
    longest part of the image's edge is the background, and left out."""
    results = []
    size = (alpha.shape[2], alpha.shape[3])
    for maps in alpha:
        winner = maps.argmax(0)
        edge = torch.cat([winner[0], winner[-1], winner[:, 0], winner[:, -1]])
        background = int(torch.bincount(edge, minlength=len(maps)).argmax())
        found = []
        for k, part in enumerate(maps):
            mask = winner == k
            area = int(mask.sum())
            score = float((part * mask).sum()) / max(area, 1)
            if k != background and area * STRIDE**2 >= config.min_area and score >= config.score:
                small = cut_instance(mask.cpu().numpy(), score)
                assert small is not None
                found.append(resized(small, size, (size[0] * STRIDE, size[1] * STRIDE)))
        results.append(sorted((a for a in found if a is not None), key=lambda a: -a.score))
    return results
