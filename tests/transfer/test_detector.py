"""Detectors against torchvision's own: the same weights, the same masks; anchors that fit the
boxes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.nn.norms import with_norms
from genseg.transfer.contract import Labelled
from genseg.transfer.detector import (
    BoxDetectorConfig,
    Detector,
    DetectorConfig,
    fitted_anchors,
    head_norm,
)

ANCHORS = (32.0, 64.0, 128.0, 256.0, 512.0)


def batch(masks: bool = True) -> Labelled:
    g = torch.Generator().manual_seed(0)
    # the second image is empty
    boxes = [torch.tensor([[4.0, 6, 40, 44], [30, 30, 60, 58]]), torch.zeros(0, 4)]
    drawn = [torch.zeros(2, 64, 64, dtype=torch.uint8), torch.zeros(0, 64, 64, dtype=torch.uint8)]
    for mask, box in zip(drawn[0], boxes[0].long().tolist(), strict=True):
        mask[box[1] : box[3], box[0] : box[2]] = 1
    classes = [torch.tensor([0, 1]), torch.zeros(0, dtype=torch.long)]
    return Labelled(
        torch.randn(2, 3, 64, 64, generator=g), boxes, classes, drawn if masks else None
    )


def detector(config: DetectorConfig) -> Detector:
    torch.manual_seed(0)
    return Detector(build_encoder(EncoderConfig("resnet18"))[0], config, classes=2)


def plain(kind: type[FasterRCNN]) -> FasterRCNN:
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, trainable_layers=5, norm_layer=nn.BatchNorm2d
    )
    anchors = AnchorGenerator(tuple((a,) for a in ANCHORS), ((0.5, 1.0, 2.0),) * 5)
    model: FasterRCNN = kind(
        backbone, num_classes=3, rpn_anchor_generator=anchors, box_detections_per_img=20
    )
    return model


@pytest.mark.parametrize(
    "config, kind", [(DetectorConfig(), MaskRCNN), (BoxDetectorConfig(), FasterRCNN)]
)
def test_the_state_loads_into_plain_torchvision_which_then_finds_the_same(
    config: DetectorConfig, kind: type[FasterRCNN]
) -> None:
    ours = detector(replace(config, anchors=ANCHORS, detections=20)).eval()
    theirs = plain(kind).eval()
    theirs.load_state_dict(ours.model.state_dict())
    theirs.transform = torchvision.models.detection.transform.GeneralizedRCNNTransform(
        64, 64, [0.0] * 3, [1.0] * 3
    )
    theirs.transform.eval()
    # masks as the heads give them: pasting is our own
    theirs.transform.postprocess = lambda found, *_: found
    image = torch.randn(3, 64, 64)
    with torch.no_grad():
        (found,), (wanted,) = ours.model([image]), theirs([image])
    assert found.keys() == wanted.keys() and ("masks" in found) is (kind is MaskRCNN)
    for name, x in found.items():
        torch.testing.assert_close(x, wanted[name], atol=1e-3, rtol=1e-4)
    detections = ours.detect(image)
    assert 3 < len(detections) <= len(wanted["boxes"])
    for d in detections:
        i = int((wanted["boxes"] - torch.tensor(d.box_xyxy)).abs().sum(1).argmin())
        assert d.box_xyxy == pytest.approx(wanted["boxes"][i].tolist(), abs=1e-3)
        assert d.category == int(wanted["labels"][i]) - 1 and d.score == pytest.approx(
            float(wanted["scores"][i])
        )


@pytest.mark.parametrize(
    "config", [DetectorConfig(width=16, hidden=32), BoxDetectorConfig(width=16, hidden=32)]
)
def test_an_update_lowers_the_loss_and_every_parameter_has_a_gradient(
    config: DetectorConfig,
) -> None:
    model = detector(replace(config, anchors=(8.0, 16.0, 32.0, 64.0, 128.0))).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        torch.manual_seed(1)  # which regions are drawn
        outputs = model(batch(masks=model.masks))
        outputs["loss"].backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        optimizer.step()
        optimizer.zero_grad()
        values = {k: float(v.detach()) for k, v in outputs.items()}
        losses.append(values.pop("loss"))
        assert losses[-1] == pytest.approx(sum(values.values()))
    assert losses[-1] < 0.7 * losses[0]
    assert ("mask" in outputs) == model.masks


def quality(sides: np.ndarray, anchors: tuple[float, ...], ratios: tuple[float, ...]) -> float:
    """Mean overlap of boxes, wherever they lie, with torchvision's own anchors around them."""
    made = AnchorGenerator(tuple((a,) for a in anchors), (ratios,) * 5)
    maps = [torch.zeros(1, 1, 512 // s, 512 // s) for s in (4, 8, 16, 32, 64)]
    (all_anchors,) = made(ImageList(torch.zeros(1, 3, 512, 512), [(512, 512)]), maps)
    centres = torch.rand(len(sides), 2, generator=torch.Generator().manual_seed(1)) * 256 + 128
    half = torch.from_numpy(sides).float() / 2
    boxes = torch.cat([centres - half, centres + half], 1)
    return float(box_iou(boxes, all_anchors).max(1).values.mean())


@pytest.mark.parametrize("largest", [20, 60, 200])
def test_anchors_are_those_of_largest_mean_overlap(largest: int) -> None:
    rng = np.random.default_rng(0)
    corner, side = rng.uniform(0, 50, (60, 2)), rng.uniform(largest / 4, largest, (60, 2))
    ratios = (0.5, 1.0, 2.0)
    found = fitted_anchors(np.concatenate([corner, corner + side], 1), ratios)
    assert all(b == pytest.approx(2 * a, abs=0.02) for a, b in zip(found, found[1:], strict=False))
    others = [tuple(4 * 2 ** (i / 2) * 2**level for level in range(5)) for i in range(9)]
    # boxes have a finer lattice to lie on than places do, and anchors are rounded to pixels
    assert quality(side, found, ratios) > max(quality(side, o, ratios) for o in others) - 0.03


def test_anchors_stand_close_enough_to_touch_the_boxes() -> None:
    """Boxes of 20 px had anchors of 22.6 px, at places 16 px apart; four in five proposals then
    missed them."""
    sides = np.random.default_rng(0).uniform(16, 28, (50, 2))
    boxes = np.concatenate([np.zeros((50, 2)), sides], 1)
    first, second, *_ = fitted_anchors(boxes, (0.5, 1.0, 2.0))
    assert first >= 11 and second >= 22
    assert fitted_anchors(np.zeros((0, 4)), (1.0,)) == (32, 64, 128, 256, 512)
    assert fitted_anchors(np.tile(boxes, (1_000, 1)), (0.5, 1.0, 2.0))[0] == first  # of a draw


@pytest.mark.parametrize("norm", ["frozen", "group", "bn"])
def test_norms(norm: str) -> None:
    torch.manual_seed(0)
    net = build_encoder(EncoderConfig("resnet18"))[0].net
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.weight.data.uniform_(0.5, 2)
            m.running_mean = torch.randn(m.num_features)
    x = torch.randn(2, 3, 64, 64)
    before = net.eval()(x)[-1]
    after = with_norms(net, norm)
    if norm == "frozen":  # the same function, also in training, and no statistic moves
        assert torch.allclose(after.train()(x)[-1], before, rtol=1e-3, atol=0.01)
        assert not any("running" in name for name, _ in after.named_parameters())
    kinds = {type(m).__name__ for m in after.modules()}
    assert {"frozen": "FrozenBatchNorm2d", "group": "GroupNorm", "bn": "BatchNorm2d"}[norm] in kinds
    assert (norm == "bn") == ("BatchNorm2d" in kinds)


@pytest.mark.parametrize("norm", ["sync", "frozen", "group"])
def test_activations_inside_of_timms_batch_norms_stay(norm: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 24, 1), BatchNormAct2d(24, act_layer=nn.PReLU, drop_layer=nn.Dropout)
    ).eval()
    x, bare = torch.randn(2, 3, 5, 5), net[1]
    bare.running_mean.normal_()
    want = (
        nn.functional.group_norm(net[0](x), 8)
        if norm == "group"
        else net[0](x) - bare.running_mean[:, None, None]
    )
    want = nn.functional.leaky_relu(want, 0.25).detach()
    state = net.state_dict()
    made = with_norms(net, norm).eval()
    assert made.state_dict().keys() <= state.keys()
    assert isinstance(made[1].drop, nn.Dropout)
    if norm != "sync":  # whose forward pass needs a GPU
        torch.testing.assert_close(made(x).detach(), want, rtol=1e-4, atol=1e-4)
    assert isinstance(made[1].act, nn.PReLU)


@pytest.mark.parametrize(
    "channels, groups", [(16, 4), (18, 1), (24, 2), (100, 1), (128, 32), (256, 32), (2, 1)]
)
def test_groups_divide_any_width(channels: int, groups: int) -> None:
    made = head_norm(DetectorConfig(head_norm="group"))
    assert made is not None
    norm = made(channels)
    assert isinstance(norm, nn.GroupNorm) and norm.num_groups == groups
    assert (
        with_norms(nn.BatchNorm2d(channels), "group")(torch.randn(1, channels, 2, 2)).shape[1]
        == channels
    )


def test_a_wrong_number_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="match=0.2: give 0.3 to 1"):
        DetectorConfig(match=0.2)
    with pytest.raises(ValueError, match="give one side for each of the 5 levels"):
        DetectorConfig(anchors=(8.0, 16.0))


def test_boxes_keep_their_corners_under_autocast() -> None:
    """Offsets of nothing leave anchors where they are; bf16 has no odd pixels beyond 256."""
    model = (
        detector(DetectorConfig(anchors=(34.0, 70.0, 130.0, 258.0, 514.0), ratios=(1.0,)))
        .eval()
        .model
    )
    nn.init.zeros_(model.rpn.head.bbox_pred.weight)
    for p in model.roi_heads.box_predictor.bbox_pred.parameters():
        nn.init.zeros_(p)
    images = ImageList(
        torch.randn(1, 3, 64, 640, generator=torch.Generator().manual_seed(0)), [(64, 640)]
    )
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        levels = model.backbone(images.tensors)
        (proposals,), _ = model.rpn(images, levels)
        (found,), _ = model.roi_heads(levels, [proposals], images.image_sizes)
    sides = proposals[:, 0::2]
    assert (sides[(sides > 0) & (sides < 640)] % 2 == 1).all()
    assert {tuple(b) for b in found["boxes"].tolist()} <= {tuple(b) for b in proposals.tolist()}


def test_bf16_and_fp32_find_the_same_loss() -> None:
    model = detector(replace(DetectorConfig(width=16, hidden=32), anchors=ANCHORS)).train()

    def loss(enabled: bool) -> Tensor:
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found: Tensor = model(batch())["loss"].detach()
        return found

    assert float(loss(True)) == pytest.approx(float(loss(False)), rel=0.1)


def test_a_box_that_no_anchor_touches_makes_no_anchor_a_match() -> None:
    """What a crop leaves at its right border: torchvision's own matcher takes all anchors for
    it."""
    model = detector(
        replace(BoxDetectorConfig(width=16, hidden=32), anchors=(4.0, 8.0, 16.0, 32.0, 64.0))
    ).model
    # the last of a row of 64
    anchors = model.rpn.anchor_generator.cell_anchors[0] + torch.tensor([60.0, 20, 60, 20])
    apart, inside = torch.tensor([[63.5, 20, 64, 24]]), torch.tensor([[58.0, 18, 62, 22]])
    for boxes, matched in ((apart, 0), (torch.cat([apart, inside]), 1)):
        labels, _ = model.rpn.assign_targets_to_anchors([anchors], [{"boxes": boxes}])
        assert int((labels[0] >= 1).sum()) == matched
