"""Masks of boxes: beside grid_sample, which detectron2 pastes with, and torchvision's own loss;
nothing is lost."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads

from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.transfer.box_masks import MaskHeads, mask_targets, pasted
from genseg.transfer.contract import Labelled
from genseg.transfer.detector import Detector, DetectorConfig

SIZE = DetectorConfig(width=16, hidden=32, anchors=(8.0, 16.0, 32.0, 64.0, 128.0))


def by_grid_sample(mask: Tensor, box: Tensor, height: int, width: int) -> np.ndarray:
    """detectron2's _do_paste_mask: the mask at the centres of all pixels of an image."""
    left, top, right, bottom = box.tolist()
    y = (torch.arange(height) + 0.5 - top) / (bottom - top) * 2 - 1
    x = (torch.arange(width) + 0.5 - left) / (right - left) * 2 - 1
    grid = torch.stack([*torch.meshgrid(y, x, indexing="ij")][::-1], -1)[None]
    return np.asarray(F.grid_sample(mask[None], grid, align_corners=False)[0, 0].numpy())


def test_masks_are_pasted_where_detectron2_pastes_them() -> None:
    g = torch.Generator().manual_seed(0)
    masks = torch.rand(7, 1, 28, 28, generator=g)
    boxes = torch.tensor(
        [
            [3.2, 4.1, 20.7, 33.3],
            [-8.0, -3, 6, 7],
            [40, 30, 70, 60],
            [5, 5, 5.4, 5.3],
            [0, 0, 50, 40],
            [10, 3, 12, 39],
            [60, 50, 70, 60],
        ]
    )
    for instance, mask, box in zip(
        pasted(masks, boxes, torch.ones(7), 40, 50), masks, boxes, strict=True
    ):
        alpha = by_grid_sample(mask, box, 40, 50)
        if instance is None:
            assert alpha.max() < 0.5
        else:
            painted = instance.paint(40, 50) / 255
            assert np.abs(painted - alpha)[painted > 0].max() < 0.5 / 255 + 1e-4
            assert alpha[painted == 0].max(initial=0) < 0.5
    assert pasted(masks[:0], boxes[:0], torch.ones(0), 40, 50) == []


def test_targets_of_as_many_points_as_pixels_are_the_mask_itself() -> None:
    masks = torch.from_numpy((np.random.default_rng(0).random((2, 50, 60)) < 0.5).astype(np.uint8))
    boxes = torch.tensor([[10.0, 5, 38, 33], [31, 20, 59, 48]])
    found = mask_targets(masks, boxes, torch.tensor([1, 0]), 28)
    torch.testing.assert_close(
        found, torch.stack([masks[1, 5:33, 10:38], masks[0, 20:48, 31:59]]).float()
    )


@pytest.mark.parametrize("diameter", [8, 12, 24, 48])
def test_the_exact_target_gives_the_mask_back(diameter: int) -> None:
    """Boxes up to 0.4 px off, as a head gives them. torchvision's targets and pasting: 0.78, 0.84,
    0.93, 0.96."""
    rng = np.random.default_rng(0)
    overlaps = []
    for _ in range(20):
        (cy, cx), (ry, rx) = rng.uniform(60, 100, 2), diameter / 2 * rng.uniform(0.8, 1.25, 2)
        y, x = np.mgrid[:160, :160] + 0.5
        mask = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
        ys, xs = np.nonzero(mask)
        exact = torch.tensor(
            [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], dtype=torch.float32
        )
        box = exact + torch.from_numpy(rng.uniform(-0.4, 0.4, (1, 4)).astype(np.float32))
        target = mask_targets(
            torch.from_numpy(mask[None].astype(np.uint8)), box, torch.zeros(1, dtype=torch.long), 28
        )
        (found,) = pasted(target[None], box, torch.ones(1), 160, 160)
        assert found is not None
        again = found.paint(160, 160) >= 128
        overlaps.append((again & mask).sum() / (again | mask).sum())
    assert np.mean(overlaps) > 0.99


def labelled() -> Labelled:
    """Two objects in the first image, whose masks are full and empty; none in the second."""
    g = torch.Generator().manual_seed(0)
    boxes = [torch.tensor([[4.0, 6, 40, 44], [30, 30, 60, 58]]), torch.zeros(0, 4)]
    masks = [torch.ones(2, 64, 64, dtype=torch.uint8), torch.zeros(0, 64, 64, dtype=torch.uint8)]
    masks[0][1] = 0
    return Labelled(
        torch.randn(2, 3, 64, 64, generator=g),
        boxes,
        [torch.tensor([0, 1]), torch.zeros(0).long()],
        masks,
    )


def test_the_loss_is_torchvisions_where_half_a_pixel_does_not_matter() -> None:
    torch.manual_seed(0)
    model = Detector(build_encoder(EncoderConfig("resnet18"))[0], SIZE, classes=2).train()
    torch.manual_seed(1)
    found = model(labelled())
    heads = model.model.roi_heads
    assert isinstance(heads, MaskHeads)
    model.model.roi_heads = RoIHeads.__new__(RoIHeads)
    model.model.roi_heads.__dict__.update(heads.__dict__)
    torch.manual_seed(1)
    wanted = model(labelled())
    assert found.keys() == wanted.keys() and float(wanted["mask"].detach()) > 0
    for name, x in found.items():
        torch.testing.assert_close(x, wanted[name], msg=name)


def test_without_an_object_the_loss_is_0_and_its_gradient_exists() -> None:
    torch.manual_seed(0)
    model = Detector(build_encoder(EncoderConfig("resnet18"))[0], SIZE, classes=2).train()
    batch = labelled()
    nothing = Labelled(
        batch.images, [torch.zeros(0, 4)] * 2, [torch.zeros(0).long()] * 2, [batch.masks[1]] * 2
    )  # type: ignore[index]
    loss = model(nothing)["mask"]
    loss.backward()
    assert float(loss.detach()) == 0 and all(
        p.grad is not None for p in model.model.roi_heads.mask_head.parameters()
    )
