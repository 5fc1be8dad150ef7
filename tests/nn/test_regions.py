"""Regions of a pyramid against torchvision's MultiScaleRoIAlign."""

from collections import OrderedDict

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from genseg.nn.regions import RegionAlign, level_of


def pyramid(images: int, channels: int, height: int, width: int) -> OrderedDict[str, torch.Tensor]:
    """Random levels of strides 4 to 32."""
    shapes = [(-(-height // s), -(-width // s)) for s in (4, 8, 16, 32)]
    return OrderedDict(
        (
            str(i),
            torch.randn(images, channels, *s)
            .to(memory_format=torch.channels_last)
            .requires_grad_(),
        )
        for i, s in enumerate(shapes)
    )


def boxes_in(count: int, height: int, width: int) -> torch.Tensor:
    """Boxes of all sizes, some beyond the borders, some without an extent."""
    start = (torch.rand(count, 2) * 1.2 - 0.1) * torch.tensor([width, height])
    extent = torch.rand(count, 2) ** 3 * torch.tensor([width, height])
    extent[::7] = 0
    return torch.cat([start, start + extent], 1)


@pytest.mark.parametrize("bins", [7, 14])
@pytest.mark.parametrize(("height", "width"), [(192, 256), (64, 96), (32, 32), (640, 800)])
def test_is_torchvisions_with_its_gradient(bins: int, height: int, width: int) -> None:
    torch.manual_seed(bins + height)
    x = pyramid(2, 5, height, width)
    boxes = [boxes_in(40, height, width), boxes_in(9, height, width)]
    shapes = [(height, width)] * 2
    own = RegionAlign(bins)(x, boxes, shapes)
    theirs = MultiScaleRoIAlign(["0", "1", "2", "3"], bins, 2)(x, boxes, shapes)
    torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4)
    weight = torch.randn_like(own)
    for a, b in zip(
        torch.autograd.grad((own * weight).sum(), list(x.values()), allow_unused=True),
        torch.autograd.grad((theirs * weight).sum(), list(x.values()), allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, rtol=1e-3, atol=1e-3)


def test_levels_double_with_the_side() -> None:
    sides = torch.tensor([1.0, 55, 56, 111, 112, 223, 224, 447, 448, 5000])
    boxes = torch.stack([torch.zeros(10), torch.zeros(10), sides, sides], 1)
    assert level_of(boxes, first=2, count=4).tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]


def test_no_boxes() -> None:
    x = pyramid(2, 5, 64, 64)
    assert RegionAlign(7)(x, [torch.zeros(0, 4)] * 2, [(64, 64)] * 2).shape == (0, 5, 7, 7)


def test_a_box_inside_one_pixel_has_the_value_of_a_constant_map() -> None:
    x = OrderedDict((str(i), torch.full((1, 3, 8 >> i, 8 >> i), 2.0)) for i in range(4))
    out = RegionAlign(7)(x, [torch.tensor([[9.0, 9.0, 9.5, 9.5]])], [(32, 32)])
    torch.testing.assert_close(out, torch.full((1, 3, 7, 7), 2.0))
