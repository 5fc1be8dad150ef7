"""Views: what is drawn for each (`draw_view`), and how it is applied on CPU workers or on a batch
on the device.

All numbers are drawn here, by one function, from (seed, epoch, index, view). The CPU path applies
them with albumentations' functions, the device path with kornia's: both have the same distribution
because they have the same draws. The semantics of the colour operations are torchvision's, which
the four papers' recipes are written in.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

# else its import asks the network for a newer version
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations.augmentations.geometric.functional as geometric  # noqa: E402
import albumentations.augmentations.pixel.functional as pixel  # noqa: E402
import cv2  # noqa: E402
import kornia.enhance as enhance  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from jaxtyping import Float, UInt8  # noqa: E402
from kornia.color import rgb_to_grayscale  # noqa: E402
from kornia.filters import gaussian_blur2d  # noqa: E402
from torch import Tensor  # noqa: E402

from genseg.core.check import at_least, between  # noqa: E402
from genseg.core.reading import RGB  # noqa: E402
from genseg.data.images.decode import resize  # noqa: E402


@dataclass(frozen=True)
class ViewConfig:
    """One kind of view. All entries of one size form a crop size group; the largest has the two
    views compared."""

    count: int = 2  # views of this kind per image
    size: int = 224  # pixels, square
    scale: tuple[float, float] = (0.2, 1.0)  # area of the crop as a share of the image
    ratio: tuple[float, float] = (0.75, 1.3333333333333333)  # range of width / height of the crop
    flip: float = 0.5  # probability of a left-right flip
    # probability of an up-down flip; 0.5 for microscopy and aerial images
    vertical_flip: float = 0.0
    jitter: float = 0.8  # probability of the colour jitter
    brightness: float = 0.4  # strength s of the jitter: a factor from [max(0, 1 - s), 1 + s]
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1  # a shift around the colour circle, from [-s, s]
    gray: float = 0.2  # probability
    blur: float = 0.5  # probability of the Gaussian blur
    # range of the blur's standard deviation, in pixels of the view
    sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0  # probability of inverting values from 128 on
    # Of other than three channels none is a colour: brightness, contrast and a gamma of brightness'
    # strength are then drawn for each, gray is the probability that some channels are blanked, and
    # saturation, hue and solarize are not used.

    def __post_init__(self) -> None:
        at_least(0, count=self.count)
        at_least(8, size=self.size)
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(
                f"scale={self.scale} and ratio={self.ratio} are (smallest, largest), scale at "
                "most 1"
            )
        between(
            0,
            1,
            flip=self.flip,
            vertical_flip=self.vertical_flip,
            jitter=self.jitter,
            gray=self.gray,
            blur=self.blur,
            solarize=self.solarize,
        )
        between(0, 0.5, hue=self.hue)
        between(
            0, 10, brightness=self.brightness, contrast=self.contrast, saturation=self.saturation
        )
        if not 0 <= self.sigma[0] <= self.sigma[1] < math.inf:
            raise ValueError(f"sigma={self.sigma} is (smallest, largest), in pixels")


@dataclass(frozen=True)
class View:
    """What was drawn for one view. `crop` is (top, left, height, width) in pixels of the image that
    was read."""

    crop: tuple[int, int, int, int]
    flip: bool
    vertical_flip: bool
    # of brightness 0, contrast 1, saturation 2, hue 3; empty: no jitter
    order: tuple[int, ...] = ()
    factors: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 0.0)
    gray: bool = False
    sigma: float = 0.0  # 0: no blur
    solarize: bool = False
    # of channels that are no colours, for each: gamma, contrast, brightness, whether it is kept
    channels: tuple[tuple[float, float, float, bool], ...] = ()

    LENGTH = 17

    def vector(self) -> Float[np.ndarray, "n"]:
        """The same as numbers, so that a batch of views is one tensor: crop 4, flips 2, order 4
        (-1: none), factors 4, gray, sigma, solarize; then 4 for each channel that is no colour."""
        order = self.order or (-1, -1, -1, -1)
        rest = (*self.factors, self.gray, self.sigma, self.solarize)
        each = (number for channel in self.channels for number in channel)
        return np.array(
            (*self.crop, self.flip, self.vertical_flip, *order, *rest, *each), np.float32
        )

    @staticmethod
    def length(channels: int) -> int:
        """Numbers of the vector of an image of so many channels."""
        return View.LENGTH + (0 if channels == RGB else 4 * channels)


def draw_view(
    rng: np.random.Generator, config: ViewConfig, height: int, width: int, channels: int = RGB
) -> View:
    """Draw one view of an image of `height` x `width` pixels."""
    crop = _draw_crop(rng, config, height, width)
    flip, vertical, jitter, gray, blur, solarize = rng.random(6) < (
        config.flip,
        config.vertical_flip,
        config.jitter,
        config.gray,
        config.blur,
        config.solarize,
    )
    strengths = (config.brightness, config.contrast, config.saturation)
    shifts = rng.uniform(-1, 1, 4).tolist()
    order = rng.permutation(4)
    sigma = rng.uniform(*config.sigma)
    factors = (
        1 + d * s if s <= 1 else (1 + d) / 2 * (1 + s)
        for s, d in zip(strengths, shifts[:3], strict=True)
    )
    each = (
        () if channels == RGB else _draw_channels(rng, config, channels, bool(jitter), bool(gray))
    )
    return View(
        crop=crop,
        flip=bool(flip),
        vertical_flip=bool(vertical),
        order=tuple(int(i) for i in order) if jitter else (),
        factors=(*factors, config.hue * shifts[3]),
        gray=bool(gray),
        sigma=float(sigma) if blur else 0.0,
        solarize=bool(solarize),
        channels=each,
    )


def _draw_channels(
    rng: np.random.Generator, config: ViewConfig, count: int, jitter: bool, drop: bool
) -> tuple[tuple[float, float, float, bool], ...]:
    """Gamma, contrast, brightness of each channel, 1 without jitter; and whether it is kept: where
    some are blanked each is with a chance of a half, but for one."""
    drawn = rng.uniform(-1, 1, (count, 3))
    kept = rng.random(count) < 0.5
    kept[int(rng.integers(count))] = True
    if not drop:
        kept[:] = True
    if not jitter:
        return tuple((1.0, 1.0, 1.0, bool(k)) for k in kept)
    gamma = (1 + config.brightness) ** drawn[:, 0]
    contrast = 1 + drawn[:, 1] * min(1.0, config.contrast)
    brightness = 1 + drawn[:, 2] * min(1.0, config.brightness)
    numbers = np.stack([gamma, contrast, brightness], 1).tolist()
    return tuple((a, b, c, bool(k)) for (a, b, c), k in zip(numbers, kept, strict=True))


def _draw_crop(
    rng: np.random.Generator, config: ViewConfig, height: int, width: int
) -> tuple[int, int, int, int]:
    """Random resized crop (Inception; torchvision's algorithm): ten tries, then the largest allowed
    centre crop."""
    low, high = np.log(config.ratio[0]), np.log(config.ratio[1])
    tries = rng.random((10, 4))
    for a, r, y, x in tries.tolist():
        area = height * width * (config.scale[0] + a * (config.scale[1] - config.scale[0]))
        ratio = float(np.exp(low + r * (high - low)))
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            return int(y * (height - h + 1)), int(x * (width - w + 1)), h, w
    w = min(width, max(1, round(height * config.ratio[1])))
    h = min(height, max(1, round(width / config.ratio[0])))
    return (height - h) // 2, (width - w) // 2, h, w


def crop_view(
    image: UInt8[np.ndarray, "h w c"], view: View, size: int
) -> UInt8[np.ndarray, "size size c"]:
    """Cut, resize (area averaging when shrinking) and flip."""
    top, left, h, w = view.crop
    cut = image[top : top + h, left : left + w]
    shrinks = h > size and w > size
    out = resize(cut, (size, size), cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if view.flip:
        out = flipped(out, geometric.hflip)
    return flipped(out, geometric.vflip) if view.vertical_flip else out


def flipped(
    x: UInt8[np.ndarray, "h w c"], flip: Callable[[np.ndarray], np.ndarray]
) -> UInt8[np.ndarray, "h w c"]:
    """Flipped; OpenCV drops the axis of a single channel."""
    return flip(x).reshape(x.shape)


def colour_view(image: UInt8[np.ndarray, "h w c"], view: View) -> UInt8[np.ndarray, "h w c"]:
    """The photometric part of a view, on uint8 with albumentations' functions."""
    if image.shape[2] != RGB:
        return _channels_view(image, view)
    operations = (
        pixel.adjust_brightness_torchvision,
        pixel.adjust_contrast_torchvision,
        pixel.adjust_saturation_torchvision,
        pixel.adjust_hue_torchvision,
    )
    for i in view.order:
        image = operations[i](image, view.factors[i])
    if view.gray:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if view.sigma > 0:
        kernel = kernel_size(view.sigma)
        image = cv2.GaussianBlur(
            image, (kernel, kernel), view.sigma, borderType=cv2.BORDER_REFLECT_101
        )
    return pixel.solarize(image, 0.5) if view.solarize else image


def _channels_view(image: UInt8[np.ndarray, "h w c"], view: View) -> UInt8[np.ndarray, "h w c"]:
    """The photometric part for channels that are no colours: gamma, contrast, brightness of each,
    blanked ones, and the blur of all."""
    brightness, contrast = view.factors[:2] if view.order else (1.0, 1.0)
    each = view.channels or ((1.0, contrast, brightness, True),) * image.shape[2]
    numbers = np.array(each, np.float32).T[:, None, None]  # 4 1 1 c
    if (numbers != 1).any():
        x = (image / np.float32(255)) ** numbers[0]
        mean = x.mean((0, 1), keepdims=True)
        x = np.clip(np.clip((x - mean) * numbers[1] + mean, 0, 1) * numbers[2], 0, 1) * numbers[3]
        image = np.rint(x * 255).astype(np.uint8)
    if view.sigma > 0:
        kernel = kernel_size(view.sigma)
        border = cv2.BORDER_REFLECT_101
        soft = cv2.GaussianBlur(image, (kernel, kernel), view.sigma, borderType=border)
        image = soft.reshape(image.shape)
    return image


def _channels_batch(
    x: Float[Tensor, "b c h w"], drawn: Float[Tensor, "b n"]
) -> Float[Tensor, "b c h w"]:
    """The same for a batch in [0, 1]."""
    numbers = drawn[:, View.LENGTH :].unflatten(1, (x.shape[1], 4))[..., None, None]
    gamma, contrast, brightness, kept = numbers.unbind(2)
    x = x**gamma
    mean = x.mean((2, 3), keepdim=True)
    x = (((x - mean) * contrast + mean).clamp(0, 1) * brightness).clamp(0, 1) * kept
    return _blurred(x, drawn[:, 15])


def _blurred(x: Float[Tensor, "b c h w"], sigma: Float[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
    blurred = (sigma > 0).nonzero()[:, 0]
    if not len(blurred):
        return x
    kernel = min(kernel_size(float(sigma.max())), 2 * min(x.shape[-2:]) - 1)
    soft = gaussian_blur2d(
        x[blurred], kernel, sigma[blurred, None].expand(-1, 2), border_type="reflect"
    )
    return x.index_copy(0, blurred, soft)


def kernel_size(sigma: float) -> int:
    """Odd size of a Gaussian kernel that reaches three standard deviations."""
    return 2 * max(1, int(np.ceil(3 * sigma))) + 1


def colour_batch(
    x: Float[Tensor, "b c h w"], drawn: Float[Tensor, "b n"]
) -> Float[Tensor, "b c h w"]:
    """The photometric part of a batch of views in [0, 1] on its device, with kornia; `drawn` are
    `View.vector`s."""
    if x.shape[1] != RGB:
        return _channels_batch(x, drawn)
    order, factors = drawn[:, 6:10].long(), drawn[:, 10:14]
    for place in range(4):
        for i, operation in enumerate(_DEVICE_OPERATIONS):
            chosen = (order[:, place] == i).nonzero()[:, 0]
            if len(chosen):
                x = x.index_copy(0, chosen, operation(x[chosen], factors[chosen, i]))
    gray, sigma, solarized = drawn[:, 14].bool(), drawn[:, 15], drawn[:, 16].bool()
    x = torch.where(gray[:, None, None, None], rgb_to_grayscale(x).expand_as(x), x)
    x = _blurred(x, sigma)
    return torch.where(solarized[:, None, None, None] & (x >= 128 / 255), 1 - x, x)


_DEVICE_OPERATIONS = (
    enhance.adjust_brightness_accumulative,
    enhance.adjust_contrast_with_mean_subtraction,
    enhance.adjust_saturation_with_gray_subtraction,
    lambda x, f: enhance.adjust_hue(x, f * 2 * torch.pi),
)
