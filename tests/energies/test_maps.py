"""Frames, windows and overlaps of alpha maps against loops."""

import pytest
import torch
import torch.nn.functional as F
from discs import SIZE, disc, truth_of
from torch import Tensor

from genseg.alpha.codes import GRIDS, STRIDE
from genseg.alpha.decoder import Places
from genseg.alpha.objective import assign
from genseg.core.mask_losses import overlap
from genseg.energies.maps import Maps, Windows, frame, nearest, soft_overlap


def soft(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("radius", [2.0, 6.0, 8.8, 9.2, 14.0, 17.9, 18.3, 40.0])
def test_the_frame_of_a_map_is_that_of_the_places_that_are_to_propose_it(radius: float) -> None:
    """The scale is that of their grid; and the place, its centroid, is within one stride of one of
    them."""
    grids = tuple((stride, SIZE // stride, SIZE // stride) for stride in GRIDS)
    count = sum(rows * columns for _, rows, columns in grids)
    places = Places(torch.zeros(1, count), torch.zeros(1, count), torch.zeros(1, count, 1), grids)
    whole = disc(62.0, 70.0, radius)[None]
    layer = assign(places, whole, truth_of([(0, 62.0, 70.0, radius)])).layer[0]
    centres, scales = (x[layer == 0] for x in places.centres())
    place, scale = frame(F.avg_pool2d(whole, STRIDE))
    assert len(scales) and scales.unique().tolist() == scale.tolist()
    torch.testing.assert_close(place, torch.tensor([[62.0, 70.0]]), atol=0.1, rtol=0)
    stride = float(scale) / 4
    assert float((centres - place).norm(dim=1).min()) <= stride


@pytest.mark.parametrize(("side", "scale"), [(15, 16), (16, 32), (31, 32), (32, 64)])
def test_a_side_at_the_limit_is_of_the_larger_grid(side: int, scale: int) -> None:
    """As `assign` has it: a grid of stride s holds sides below REACH s."""
    whole = torch.zeros(1, 1, 64, 64)
    whole[..., 8 : 8 + side, 8 : 8 + side] = 1
    found = frame(F.avg_pool2d(whole, STRIDE)[:, 0])[1]
    assert found.tolist() == [scale]


def test_a_frame_has_no_gradient_and_stands_an_empty_map() -> None:
    alpha = torch.zeros(2, 8, 8, requires_grad=True)
    place, scale = frame(alpha)
    assert not place.requires_grad and not scale.requires_grad
    assert place.isfinite().all() and scale.tolist() == [16.0, 16.0]
    none, sizes = frame(torch.zeros(0, 8, 8))
    assert none.shape == (0, 2) and sizes.shape == (0,)


def window(x: Tensor, place: Tensor, scale: Tensor, *, cells: int, width: float) -> Tensor:
    """Windows, each in a picture of its own."""
    size = (x.shape[2], x.shape[3])
    return Windows.around(place, scale, size, cells=cells, width=width).of_each(x)


def naive_window(x: Tensor, place: Tensor, scale: float, cells: int, width: float) -> Tensor:
    """Of one channel: each cell is the mean of the pixels within a cell's length of its centre, or
    within a pixel's where cells are smaller, the nearer the more."""
    step = width * scale / (cells * STRIDE)
    reach = max(step, 1.0)
    out = torch.zeros(cells, cells, dtype=x.dtype)
    for i in range(cells):
        for j in range(cells):
            y, z = (
                float(p) / STRIDE + (k + 0.5 - cells / 2) * step
                for p, k in zip(place, (i, j), strict=True)
            )
            for row in range(x.shape[0]):
                for column in range(x.shape[1]):
                    near = [
                        max(0.0, 1 - abs(a - b) / reach)
                        for a, b in ((row + 0.5, y), (column + 0.5, z))
                    ]
                    out[i, j] += near[0] * near[1] / reach**2 * x[row, column]
    return out


@pytest.mark.parametrize(
    ("scale", "width"),
    [(16.0, 3.0), (4.0, 0.5), (8.0, 1.0)],
    ids=["shrunk", "enlarged", "as it is"],
)
def test_a_window_is_the_mean_of_pixels_near_each_cell(scale: float, width: float) -> None:
    x = soft(2, 1, 10, 12).double()
    place = torch.tensor([[7.0, 11.0], [1.0, 23.5]], dtype=torch.float64)
    scales = torch.full((2,), scale, dtype=torch.float64)
    found = window(x, place, scales, cells=4, width=width)
    for k in range(2):
        wanted = naive_window(x[k, 0], place[k], scale, 4, width)
        torch.testing.assert_close(found[k, 0], wanted)


def test_windows_of_a_few_images_are_those_of_copies_of_them() -> None:
    x, image = soft(3, 2, 10, 12), torch.tensor([2, 0, 2, 2, 0])
    place, scale = 20 * torch.rand(5, 2), torch.tensor([4.0, 8.0, 16.0, 8.0, 4.0])
    around = Windows.around(place, scale, (10, 12), cells=4, width=2.0)
    torch.testing.assert_close(around.of_images(x, image), around.of_each(x[image]))
    nothing = Windows.around(place[:0], scale[:0], (10, 12), cells=4, width=2.0)
    assert nothing.of_images(x, image[:0]).shape == (0, 2, 4, 4)


def test_a_window_that_enlarges_is_bilinear() -> None:
    """As `grid_sample` has it."""
    x, place = soft(1, 3, 12, 12), torch.tensor([[13.0, 10.0]])
    found = window(x, place, torch.tensor([8.0]), cells=8, width=1.5)
    step = 1.5 * 8.0 / (8 * STRIDE)
    at = (torch.arange(8) + 0.5 - 4) * step
    y, column = (2 * (p / STRIDE + at) / 12 - 1 for p in place[0])
    grid = torch.stack(torch.meshgrid(column, y, indexing="xy"), -1)[None]
    torch.testing.assert_close(found, F.grid_sample(x, grid, align_corners=False))


def test_a_window_keeps_what_is_constant_and_sees_nothing_beyond_the_image() -> None:
    x = torch.ones(1, 1, 64, 64)
    scale = torch.tensor([32.0])
    inside = window(x, torch.tensor([[64.0, 64.0]]), scale, cells=8, width=2.0)
    torch.testing.assert_close(inside, torch.ones(1, 1, 8, 8))
    corner = window(x, torch.tensor([[0.0, 0.0]]), scale, cells=8, width=2.0)
    assert not corner[..., :3, :].any() and not corner[..., :3].any()
    torch.testing.assert_close(corner[..., 5:, 5:], torch.ones(1, 1, 3, 3))


def test_a_window_has_derivatives_of_the_second_order() -> None:
    """Which those of `grid_sample` have not."""
    x = soft(2, 1, 6, 6).double().requires_grad_(True)
    place, scale = (
        torch.tensor([[5.0, 7.0], [6.0, 6.0]]).double(),
        torch.tensor([8.0, 16.0]).double(),
    )

    def cubed(x: Tensor) -> Tensor:
        return window(x, place, scale, cells=3, width=1.0).pow(3)

    assert torch.autograd.gradcheck(cubed, (x,))
    assert torch.autograd.gradgradcheck(cubed, (x,))


def test_the_soft_overlap_of_hard_masks_is_their_intersection_over_union() -> None:
    a, b = soft(6, 8, 8) > 0.5, soft(6, 8, 8, seed=1) > 0.5
    a[4] = b[5] = False
    wanted = overlap(a.flatten(1), b.flatten(1))
    torch.testing.assert_close(soft_overlap(a.float(), b.float()), wanted)
    alpha = soft(3, 8, 8)
    torch.testing.assert_close(soft_overlap(alpha, alpha), torch.ones(3))
    assert not soft_overlap(torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)).any()


def test_the_nearest_is_the_largest_in_the_same_image() -> None:
    maps = Maps(soft(5, 6, 6), torch.tensor([0, 0, 1, 2, 3]))
    truth = Maps(soft(4, 6, 6, seed=1), torch.tensor([0, 0, 0, 2]))
    wanted = []
    for alpha, image in zip(maps.alpha, maps.image, strict=True):
        mine = [0.0]
        for other, where in zip(truth.alpha, truth.image, strict=True):
            if image == where:
                mine.append(float(soft_overlap(alpha[None], other[None])))
        wanted.append(max(mine))
    assert nearest(maps, truth)[0].tolist() == pytest.approx(wanted, abs=1e-6)
    assert wanted[2] == wanted[4] == 0 < min(wanted[0], wanted[1], wanted[3])
    none = truth[torch.zeros(0, dtype=torch.long)]
    assert nearest(maps, none)[0].tolist() == [0.0] * 5
    assert nearest(none, truth)[0].shape == (0,)
