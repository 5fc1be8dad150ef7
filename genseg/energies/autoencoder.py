"""The energy of an image and an alpha map: E(x, a) = tau (d(a, Dec(x, h)) - c) + R(h), with
h = Enc(x, a).

Dec is the alpha decoder's own: it draws what pixel embeddings tell apart, so a code cannot copy a
map. Enc sees one window of the embeddings and of the map. d is the Dice distance. tau and c make
energies of different images comparable; where they are learnt, sigmoid(-E) is a probability.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from genseg.alpha.codes import STRIDE, CodeDecoder, Codes
from genseg.core import dist
from genseg.core.check import above, at_least
from genseg.core.mask_losses import dice
from genseg.energies.draws import Draws
from genseg.energies.maps import Maps, Windows, frame
from genseg.energies.priors import Prior

BLOCK = 1 / 4  # of a map's side: what is hidden at once of a masked one
TABLE = 16  # blocks along a side of the table that says which are hidden
LOOKS = 4  # at a map, each with other blocks hidden, in a masked energy


@dataclass(frozen=True)
class AutoencoderConfig:
    cells: int = 28  # side of the window that the encoder sees, in cells
    width: float = 3.0  # the same in scales of the instance
    hidden: int = 128  # units before the code

    def __post_init__(self) -> None:
        at_least(1, hidden=self.hidden)
        above(0, width=self.width)
        if self.cells < 8 or self.cells % 4:
            raise ValueError(f"cells={self.cells}: use a multiple of 4, from 8 on")


class MapEncoder(nn.Module):
    """Numbers of a window: three convolutions and two layers. SiLU and group norm have derivatives
    of every order."""

    def __init__(self, channels: int, outputs: int, config: AutoencoderConfig) -> None:
        super().__init__()
        c = config
        layers = [*_layer(channels, 32, 2), *_layer(32, 64, 2), *_layer(64, 64, 1)]
        self.body = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(64 * (c.cells // 4) ** 2, c.hidden), nn.SiLU()
        )
        self.head = nn.Linear(c.hidden, outputs)

    def forward(self, x: Float[Tensor, "n c s s"]) -> Float[Tensor, "n k"]:
        out: Tensor = self.head(self.body(x))
        return out


def _layer(before: int, after: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(before, after, 3, stride, 1, bias=False)
    return convolution, nn.GroupNorm(8, after), nn.SiLU()


def _joined(
    pixels: Float[Tensor, "n e s s"], alpha: Float[Tensor, "n 1 s s"]
) -> Float[Tensor, "n _ s s"]:
    """What Enc sees: embeddings and 2 a - 1."""
    return torch.cat([pixels, 2 * alpha - 1], 1)


@dataclass(frozen=True)
class Encoded:
    """Codes of maps, and what they cost: R(h)."""

    codes: Codes
    cost: Float[Tensor, "n"]


class Autoencoder(nn.Module):
    """Enc, a kernel of its own for Dec, R, tau and c. Everything is computed in float32."""

    draws = True  # d is of what Dec draws
    weight: Tensor  # of R, once it is fitted
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        decoder: CodeDecoder,
        prior: Prior,
        config: AutoencoderConfig,
        *,
        embedding: int,
        code: int,
    ) -> None:
        """decoder: what the kernel is copied from"""
        super().__init__()
        self.config = config
        self.decoder = CodeDecoder.with_kernel_of(decoder)
        self.prior = prior
        self.encoder = MapEncoder(embedding + 1, prior.outputs * code, config)
        self.log_tau = nn.Parameter(torch.tensor(2.0))
        self.offset = nn.Parameter(torch.tensor(0.3))
        self.register_buffer("weight", torch.ones(()))
        self.register_buffer("mean", torch.zeros(embedding))
        self.register_buffer("std", torch.ones(embedding))

    @torch.no_grad()
    def observe(self, embeddings: Float[Tensor, "b e h w"], *, part: float = 1.0) -> None:
        """Take the embeddings' mean and deviation as those that windows are whitened by; `part` of
        them, beside what was observed before."""
        pixels = embeddings.float()
        mean = dist.mean(pixels.mean((0, 2, 3)))
        variance = dist.mean((pixels - mean[:, None, None]).square().mean((0, 2, 3)))
        self.mean.lerp_(mean, part)
        self.std.lerp_(variance.sqrt().clamp_min(1e-4), part)

    @property
    def tau(self) -> Float[Tensor, ""]:
        return self.log_tau.exp()

    def windows(
        self, embeddings: Float[Tensor, "b e h w"], maps: Maps
    ) -> tuple[Float[Tensor, "n _ s s"], Float[Tensor, "n 2"], Float[Tensor, "n"]]:
        """What Enc sees of each map: embeddings, whitened, and 2 a - 1; places and scales."""
        place, scale = frame(maps.alpha)
        around = self._around(maps, place, scale)
        pixels = around.of_images(self._white(embeddings), maps.image)
        return _joined(pixels, around.of_each(maps.alpha[:, None])), place, scale

    def _white(self, embeddings: Float[Tensor, "b e h w"]) -> Float[Tensor, "b e h w"]:
        return (embeddings - self.mean[:, None, None]) / self.std[:, None, None]

    def _around(
        self, maps: Maps, place: Float[Tensor, "n 2"], scale: Float[Tensor, "n"]
    ) -> Windows:
        size = (maps.alpha.shape[1], maps.alpha.shape[2])
        c = self.config
        return Windows.around(place, scale, size, cells=c.cells, width=c.width)

    def encode(
        self, embeddings: Float[Tensor, "b e h w"], maps: Maps, draws: Draws | None = None
    ) -> Encoded:
        """h and R(h). draws: for priors that draw codes, in training."""
        seen, place, scale = self.windows(embeddings, maps)
        coded = self.prior(self.encoder(seen), maps.image, draws)
        return Encoded(Codes(coded.vector, place, scale, maps.image), coded.cost)

    def decode(self, embeddings: Float[Tensor, "b e h w"], codes: Codes) -> Float[Tensor, "n h w"]:
        """Logits of the visible alpha of each code."""
        if len(codes.vector):
            return self.decoder.decode(embeddings, codes)[:, 0]
        # nothing, but with a gradient for all that would have made it
        none = 0 * self.decoder.kernel(codes.vector).sum()
        return none + embeddings.new_zeros(0, *embeddings.shape[2:])

    def reconstructed(
        self, embeddings: Float[Tensor, "b e h w"], maps: Maps
    ) -> Float[Tensor, "n h w"]:
        """r(a) = Dec(x, Enc(x, a)), in [0, 1]."""
        return self.decode(embeddings, self.encode(embeddings, maps).codes).sigmoid()

    def parts(
        self, embeddings: Float[Tensor, "b e h w"], maps: Maps, draws: Draws | None = None
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        """d and R of each map."""
        encoded = self.encode(embeddings, maps, draws)
        logits = self.decode(embeddings, encoded.codes)
        return self.between(logits, maps.alpha), encoded.cost

    def between(
        self, logits: Float[Tensor, "n h w"], alpha: Float[Tensor, "n h w"]
    ) -> Float[Tensor, "n"]:
        """d of decoded maps and true ones: Dice."""
        return dice(logits.flatten(1), alpha.flatten(1))

    def forward(
        self, embeddings: Float[Tensor, "b e h w"], maps: Maps, draws: Draws | None = None
    ) -> Float[Tensor, "n"]:
        """E of each map."""
        return self.of(*self.parts(embeddings, maps, draws))

    def of(self, distance: Float[Tensor, "n"], cost: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """E of maps whose d and R are known."""
        return self.tau * (distance - self.offset) + self.weight * cost


class SquaredAutoencoder(Autoencoder):
    """d = |a - r(a)|^2 / 2 over all pixels: a sum, as the energy of a density over pixels has to
    be."""

    def between(
        self, logits: Float[Tensor, "n h w"], alpha: Float[Tensor, "n h w"]
    ) -> Float[Tensor, "n"]:
        return 0.5 * (alpha - logits.sigmoid()).square().sum((1, 2))


class MaskedAutoencoder(Autoencoder):
    """d asks for the hidden half of a map, given the other half: the mean of a few looks, each with
    other blocks hidden (He et al., Masked Autoencoders, 2021)."""

    def parts(
        self, embeddings: Float[Tensor, "b e h w"], maps: Maps, draws: Draws | None = None
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        looks = []
        for look in range(LOOKS):
            # the same for every map, so that energies can be compared
            generator = torch.Generator().manual_seed(look)
            chance = torch.rand(TABLE**2, generator=generator).to(maps.alpha.device)
            hidden = hidden_blocks(maps, chance.expand(len(maps), -1))
            looks.append(self.of_hidden(embeddings, maps, hidden))
        distance = torch.stack(looks).mean(0)
        return distance, torch.zeros_like(distance)

    def of_hidden(
        self,
        embeddings: Float[Tensor, "b e h w"],
        maps: Maps,
        hidden: Bool[Tensor, "n h w"],
    ) -> Float[Tensor, "n"]:
        """d over the hidden pixels. Enc is shown 1/2 there, in its own place."""
        place, scale = frame(maps.alpha)
        around = self._around(maps, place, scale)
        shown = torch.where(hidden, 0.5, maps.alpha)
        pixels = self._white(embeddings)[maps.image] * ~hidden[:, None]
        seen = _joined(around.of_each(pixels), around.of_each(shown[:, None]))
        coded = self.prior(self.encoder(seen), maps.image)
        logits = self.decode(embeddings, Codes(coded.vector, place, scale, maps.image))
        asked = hidden.to(logits)
        # outside nothing is asked: both are 0 there
        return dice(torch.where(hidden, logits, -40.0).flatten(1), (maps.alpha * asked).flatten(1))


def hidden_blocks(maps: Maps, chance: Float[Tensor, "n _"]) -> Bool[Tensor, "n h w"]:
    """Which pixels of each map are hidden: about half of the blocks of a grid around it.

    chance: in [0, 1), of each block of a square of TABLE blocks, which come again beyond it; the
        lower half is hidden
    """
    n, h, w = maps.alpha.shape
    place, scale = frame(maps.alpha)
    block = (BLOCK * scale / STRIDE)[:, None, None]
    device = maps.alpha.device
    y = torch.arange(h, device=device)[None, :, None] + 0.5 - place[:, 0, None, None] / STRIDE
    x = torch.arange(w, device=device)[None, None] + 0.5 - place[:, 1, None, None] / STRIDE
    row, column = ((v / block).floor().long() % TABLE for v in (y, x))
    return (chance < 0.5).gather(1, (row * TABLE + column).flatten(1)).view(n, h, w)


class PairedEncoder(Autoencoder):
    """d = 1 - cos(h, h'), h' the code of the image alone at the map's place: how far a map is from
    what the image says there."""

    draws = False

    def alone(self, embeddings: Float[Tensor, "b e h w"], maps: Maps) -> Float[Tensor, "n d"]:
        """h': the code of each map's window without the map."""
        seen, _, _ = self.windows(embeddings, maps)
        blank = torch.cat([seen[:, :-1], torch.zeros_like(seen[:, -1:])], 1)
        return F.normalize(self.prior(self.encoder(blank), maps.image).vector, dim=1)

    def of_map(self, embeddings: Float[Tensor, "b e h w"], maps: Maps) -> Float[Tensor, "n d"]:
        """The code of each map."""
        return F.normalize(self.encode(embeddings, maps).codes.vector, dim=1)

    def parts(
        self, embeddings: Float[Tensor, "b e h w"], maps: Maps, draws: Draws | None = None
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        cosine = (self.of_map(embeddings, maps) * self.alone(embeddings, maps)).sum(1)
        return 1 - cosine, torch.zeros_like(cosine)


class Critic(Autoencoder):
    """R(x, a) learnt by an encoder of its own, beside d: -log odds that the map is an instance (a
    deep value network: Gygli et al., 2017; mask scoring: Huang et al., 2019)."""

    def __init__(
        self,
        decoder: CodeDecoder,
        prior: Prior,
        config: AutoencoderConfig,
        *,
        embedding: int,
        code: int,
    ) -> None:
        super().__init__(decoder, prior, config, embedding=embedding, code=code)
        self.value = MapEncoder(embedding + 1, 1, config)

    def learnt(self, embeddings: Float[Tensor, "b e h w"], maps: Maps) -> Float[Tensor, "n"]:
        """R of each map."""
        seen, _, _ = self.windows(embeddings, maps)
        return -self.value(seen)[:, 0]

    def parts(
        self, embeddings: Float[Tensor, "b e h w"], maps: Maps, draws: Draws | None = None
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        distance, _ = super().parts(embeddings, maps, draws)
        return distance, self.learnt(embeddings, maps)


class Value(Critic):
    """That alone, without d: the baseline that no autoencoder is in."""

    draws = False

    def parts(
        self, embeddings: Float[Tensor, "b e h w"], maps: Maps, draws: Draws | None = None
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        learnt = self.learnt(embeddings, maps)
        return torch.zeros_like(learnt), learnt
