"""SimMIM: Xie et al., A Simple Framework for Masked Image Modeling, 2022; and the denoising
autoencoder."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genseg.core import dist
from genseg.core.check import at_least, between
from genseg.core.contrast import full_precision
from genseg.core.gradients import hog
from genseg.core.schedule import Plan
from genseg.methods.method import Colour, Key, Predicts
from genseg.nn.encoder import Encoder

CELL, BINS = 8, 9  # pixels of a cell of HOG at most, and directions (MaskFeat, sec. 3.2)
SMALLEST = 4  # pixels of a cell: in fewer there is no histogram


@dataclass(frozen=True)
class SimMIMConfig:
    name: str = "simmim"
    # part of the patches that is masked; 0: none, which wants noise
    ratio: float = 0.6
    patch: int = 0  # side of a masked patch in pixels; 0: the stride of the encoder's last map
    # what a masked patch becomes: a learnt colour, data.mean, or noise of deviation 1 (denoising)
    mask: Literal["token", "mean", "noise"] = "token"
    # deviation of noise that is added to every pixel, in units of data.std; above 0, every pixel is
    # predicted, not the masked ones alone
    noise: float = 0.0
    # what is predicted: normalised pixels, or their histograms of oriented gradients (MaskFeat)
    predict: Literal["pixels", "hog"] = "pixels"

    def __post_init__(self) -> None:
        between(0, 0.99, ratio=self.ratio)
        at_least(0, patch=self.patch, noise=self.noise)
        if not self.ratio and not self.noise:
            raise ValueError(
                "ratio=0 and noise=0: nothing is hidden, so nothing can be predicted; use "
                "ratio=0.6, or noise=0.5 for a denoising autoencoder"
            )
        if not self.ratio and self.mask != "token":
            raise ValueError(
                f"mask={self.mask} has no effect with ratio=0: leave it out, or use ratio=0.6"
            )


class SimMIM(Predicts):
    """A linear head on the encoder's last map predicts the pixels of masked patches; the loss is
    their mean absolute error.

    Every view is masked and predicted by itself, so one view an image is enough. Pixels are those
    of normalised views: the loss is in units of data.std. Deviation: patches are masked in the
    image, where the paper replaces tokens behind the patch embedding. So the encoder may be any,
    and its token is a colour, of three numbers.
    """

    def __init__(self, encoder: Encoder, config: SimMIMConfig, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.stride = encoder.stride()
        self.patch = config.patch or self.stride
        self.cell = self._cell() if config.predict == "hog" else 1
        seen = encoder.config.in_channels
        channels = seen * BINS if config.predict == "hog" else seen
        scale = self.stride // self.cell
        self.head = nn.Sequential(
            nn.Conv2d(encoder.width, channels * scale**2, 1), nn.PixelShuffle(scale)
        )
        self.token: nn.Parameter | None = None
        if config.mask == "token" and config.ratio:
            self.token = nn.Parameter(torch.zeros(seen))
        self.keys: Sequence[Key] = ()
        self.flat = torch.tensor(math.nan)

    def _cell(self) -> int:
        """The largest cell that divides the stride and the patch."""
        sides = range(CELL, SMALLEST - 1, -1)
        fits = [n for n in sides if self.stride % n == 0 and self.patch % n == 0]
        if not fits:
            raise ValueError(
                f"method.predict=hog takes cells of {SMALLEST} to {CELL} px, and none divides the "
                f"encoder's stride of {self.stride} px and patches of {self.patch} px: use "
                "method.predict=pixels"
            )
        return fits[0]

    def expect_views(self, sizes: Sequence[int], *, mean: Colour, std: Colour) -> None:
        """Raise ValueError unless every view is of whole patches, two or more, and of whole cells
        of the last map."""
        for size in sizes:
            if size % self.patch or size % self.stride:
                raise ValueError(
                    f"simmim: views of {size} px are no whole patches of {self.patch} px and "
                    f"strides of {self.stride} px: use {self._fitting(size)} px (views.NAME.size), "
                    "or another method.patch"
                )
            if size == self.patch and self.config.ratio:
                raise ValueError(
                    f"simmim: a view of {size} px is one patch, which would be masked always: set "
                    f"method.patch={size // 4}, or larger views"
                )

    def _fitting(self, size: int) -> int:
        step = math.lcm(self.patch, self.stride)
        return max(1, round(size / step)) * step

    def begin_pass(self, index: Int[Tensor, "b"], keys: Sequence[Key] = ()) -> None:
        self.keys = keys

    def forward(self, views: list[Float[Tensor, "_ b c _ _"]]) -> dict[str, Tensor]:
        losses, trivial, embeddings = [], [], []
        first = 0
        for group in views:
            x = group.flatten(0, 1)
            corrupted, hidden = self.corrupt(group, self.keys, first)
            features = self.encoder.pyramid(corrupted)[-1]
            predicted = self.head(features).float()
            with full_precision(predicted):
                target, where = self.targets(x), self._in_cells(hidden)
                losses += [masked_l1(predicted, target, where)] * len(group)
                mean = dist.mean(masked_mean(target, where)).expand_as(target)
                trivial += [masked_l1(mean, target, where)] * len(group)
            embeddings.append(features[: group.shape[1]].mean((2, 3)).detach())
            first += len(group)
        self.flat = dist.mean(torch.stack(trivial).mean())
        return {
            "loss": torch.stack(losses).mean(),
            "embeddings": embeddings[0],
            "trivial": self.flat,
        }

    def corrupt(
        self, views: Float[Tensor, "v b c h w"], keys: Sequence[Key], first: int = 0
    ) -> tuple[Float[Tensor, "n c h w"], Bool[Tensor, "n 1 h w"]]:
        """Views as the encoder sees them, n = v * b, and the pixels that are to be predicted.

        keys: of the images; first: number of the first view among all of an image. Both are drawn
        from, and nothing else.
        """
        assert len(keys) == views.shape[1], "begin_pass comes before each pass"
        c, side = self.config, views.shape[-1]
        x = views.flatten(0, 1)
        draws = [
            np.random.default_rng([*key, first + n, *b"mask"])
            for n in range(len(views))
            for key in keys
        ]
        masks = torch.from_numpy(np.stack([self._mask(g, side // self.patch) for g in draws]))
        masked = masks.to(x.device).repeat_interleave(self.patch, 1)
        masked = masked.repeat_interleave(self.patch, 2)[:, None]
        if c.mask == "noise":
            x = torch.where(masked, _normal(draws, x), x)
        elif self.token is not None:
            x = torch.where(masked, self.token.to(x.dtype)[:, None, None], x)
        else:
            x = x.masked_fill(masked, 0)
        if not c.noise:
            return x, masked
        return x + c.noise * _normal(draws, x), torch.ones_like(masked)

    def _mask(self, draw: np.random.Generator, side: int) -> np.ndarray:
        """Which patches of a view are masked, `side side`: the same number in each view, and one at
        least stays."""
        masked = min(math.ceil(self.config.ratio * side**2), side**2 - 1)
        flat = np.zeros(side**2, bool)
        flat[draw.permutation(side**2)[:masked]] = True
        return flat.reshape(side, side)

    def targets(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """What is predicted of views."""
        return hog(x, cell=self.cell, bins=BINS) if self.config.predict == "hog" else x

    def _in_cells(self, hidden: Bool[Tensor, "n 1 h w"]) -> Bool[Tensor, "n 1 i j"]:
        return hidden[..., :: self.cell, :: self.cell]

    @torch.no_grad()
    def shown(
        self, views: Float[Tensor, "v b c h w"], keys: Sequence[Key]
    ) -> dict[str, Float[Tensor, "b c h w"]]:
        """Visible pixels are predicted as they are; histograms are no picture."""
        x = views[0]
        corrupted, hidden = self.corrupt(views[:1], keys)
        pictures = {"image": x, "masked": corrupted}
        if self.config.predict == "pixels":
            predicted = self.head(self.encoder.pyramid(corrupted)[-1]).float()
            pictures["predicted"] = torch.where(hidden, predicted, x)
        return pictures

    def trivial(self, batch: int) -> float:
        """Loss of one colour (or histogram) for all pixels that were to be predicted in the last
        pass: their mean."""
        return float(self.flat)


def masked_l1(
    predicted: Float[Tensor, "n d h w"],
    target: Float[Tensor, "n d h w"],
    mask: Bool[Tensor, "n 1 h w"],
) -> Float[Tensor, ""]:
    """Mean absolute error over what is masked (SimMIM, eq. 1)."""
    return ((predicted - target).abs() * mask).sum() / (mask.sum() * target.shape[1])


def masked_mean(
    target: Float[Tensor, "n d h w"], mask: Bool[Tensor, "n 1 h w"]
) -> Float[Tensor, "d 1 1"]:
    """The mean of each channel over what is masked."""
    return ((target * mask).sum((0, 2, 3)) / mask.sum())[:, None, None]


def _normal(draws: Sequence[np.random.Generator], like: Tensor) -> Tensor:
    """Standard normal numbers, one generator for each image, made on the images' device."""
    noise = torch.empty_like(like, memory_format=torch.contiguous_format)
    for draw, image in zip(draws, noise, strict=True):
        generator = torch.Generator(like.device).manual_seed(int(draw.integers(2**63)))
        image.normal_(generator=generator)
    return noise
