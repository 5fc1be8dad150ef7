"""Faster R-CNN and Mask R-CNN of torchvision over our encoder; their state dict loads into plain
torchvision."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from genseg.core.check import above, at_least
from genseg.data.instances.instance import Instance
from genseg.nn.encoder import Encoder
from genseg.nn.norms import GroupNorm, Norm, with_norms
from genseg.nn.regions import RegionAlign
from genseg.transfer.box_masks import MaskHeads, pasted
from genseg.transfer.box_tiles import detections_by_tiles
from genseg.transfer.contract import Detection, Labelled, Windows

SEEN = 20_000  # boxes to which anchors are fitted, at most
BINS = 7  # across a region, as its box head sees it
LEVELS = 5  # of the pyramid: strides 4, 8, 16, 32, and 64 for proposals alone
PROPOSALS = 1000  # torchvision's: so many of an image, and of a level, are looked at
BACKGROUND = 0.3  # torchvision's: anchors that overlap objects by less are none


@dataclass(frozen=True)
class DetectorConfig:
    name: str = "mask_rcnn"
    # norms of the encoder; sync: over processes; frozen: as pretraining left them
    norm: Norm = "bn"
    # norms of pyramid and mask head; without them random weights learn slowly
    head_norm: Literal["none", "group"] = "none"
    width: int = 256  # channels of the pyramid and of the mask head; torchvision's heads have 256
    hidden: int = 1024  # units of the box head
    # anchor sides in pixels at the five levels; null: from the training boxes
    anchors: tuple[float, ...] | None = None
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height over width of the anchors
    rpn_batch: int = 256  # anchors of an image that are trained in an update
    # least overlap of an anchor with the object it has to find; less for small objects
    match: float = 0.7
    # proposals of an image that are trained in an update; a quarter are objects
    box_batch: int = 512
    score: float = 0.05  # least score of a detection
    # of two detections of a class with a higher IoU only the better one is kept
    overlap: float = 0.5
    detections: int = 100  # at most this many in an image, or in a tile of one
    tile: int = 1024  # larger images are processed in overlapping tiles of this many pixels

    def __post_init__(self) -> None:
        at_least(
            1,
            width=self.width,
            hidden=self.hidden,
            rpn_batch=self.rpn_batch,
            box_batch=self.box_batch,
        )
        at_least(1, detections=self.detections)
        at_least(32, tile=self.tile)
        if not BACKGROUND <= self.match <= 1:
            raise ValueError(
                f"match={self.match}: give {BACKGROUND} to 1; anchors that overlap by less are "
                "background"
            )
        above(0, ratios=min(self.ratios, default=0))
        if self.anchors is not None and (len(self.anchors) != LEVELS or min(self.anchors) <= 0):
            raise ValueError(
                f"anchors={self.anchors}: give one side for each of the {LEVELS} levels, or null"
            )


@dataclass(frozen=True)
class BoxDetectorConfig(DetectorConfig):
    """Boxes alone."""

    name: str = "faster_rcnn"


class Pyramid(nn.Module):
    """Feature pyramid (Lin et al., 2017) over an encoder, with the key names of torchvision's
    BackboneWithFPN."""

    def __init__(self, encoder: Encoder, config: DetectorConfig) -> None:
        super().__init__()
        widths = list(encoder.net.out_channels[-4:])
        self.body = encoder.net
        norm = head_norm(config)
        self.fpn = FeaturePyramidNetwork(
            widths, config.width, extra_blocks=LastLevelMaxPool(), norm_layer=norm
        )
        self.out_channels = config.width

    def forward(self, x: Float[Tensor, "b c h w"]) -> OrderedDict[str, Tensor]:
        levels = self.body(x)[-4:]
        return OrderedDict(self.fpn(OrderedDict((str(i), level) for i, level in enumerate(levels))))


class Detector(nn.Module):
    """One of torchvision's detectors, from crops of one size in training to images of any size."""

    def __init__(self, encoder: Encoder, config: DetectorConfig, *, classes: int) -> None:
        super().__init__()
        assert config.anchors is not None, "anchors are fitted to the training boxes before"
        encoder.net = with_norms(encoder.net, config.norm)
        self.config = config
        self.masks = config.name == "mask_rcnn"
        self.model = build_model(Pyramid(encoder, config), config, classes=classes)
        self._encoder = [encoder]  # in a list: its parameters are those of model.backbone.body

    @property
    def encoder(self) -> Encoder:
        return self._encoder[0]

    def forward(self, batch: Labelled) -> dict[str, Tensor]:
        targets = []
        for i, (boxes, classes) in enumerate(zip(batch.boxes, batch.classes, strict=True)):
            target = {"boxes": boxes, "labels": classes + 1}  # torchvision's background is 0
            if self.masks:
                assert batch.masks is not None
                target["masks"] = batch.masks[i]
            targets.append(target)
        terms = {
            name.removeprefix("loss_"): x
            for name, x in self.model(list(batch.images), targets).items()
        }
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    @torch.no_grad()
    def detect(self, image: Float[Tensor, "c h w"] | Windows) -> list[Detection]:
        """Objects of a normalised image, best first. Large images are seen by overlapping tiles."""
        return detections_by_tiles(
            image, self._tile, tile=self.config.tile, overlap=self.config.overlap
        )

    def _tile(self, image: Float[Tensor, "c h w"]) -> list[Detection]:
        """The objects of a part of an image."""
        (found,) = self.model([image])
        boxes, scores, labels = (
            found[name].float().cpu() for name in ("boxes", "scores", "labels")
        )
        instances: Sequence[Instance | None] = [None] * len(boxes)
        if self.masks:
            instances = pasted(found["masks"].float().cpu(), boxes, scores, *image.shape[1:])
        rows = zip(boxes.tolist(), labels.long().tolist(), scores.tolist(), instances, strict=True)
        return [
            Detection(tuple(b), c - 1, s, i)
            for b, c, s, i in rows
            if i is not None or not self.masks
        ]


class _AsIs(GeneralizedRCNNTransform):
    """Leaves sizes and values alone, and what is found as the heads gave it: scaling and pasting is
    done outside."""

    def __init__(self) -> None:
        super().__init__(1, 1, [0.0] * 3, [1.0] * 3)

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        return image, target

    def normalize(self, image: Tensor) -> Tensor:
        return image

    def postprocess(self, result: Any, image_shapes: Any, original_image_sizes: Any) -> Any:
        return result


class _Anchors(AnchorGenerator):
    """torchvision's, in full precision whatever the features have: in bf16 there are no odd pixels
    beyond 256."""

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        super().set_cell_anchors(torch.float32, device)


class _Matcher(Matcher):
    """torchvision's, without its trap: a box that overlaps no anchor, such as what a crop leaves of
    an object at its right or lower border, has a best overlap of 0, and all anchors that have it
    too become matches."""

    def set_low_quality_matches_(
        self, matches: Tensor, all_matches: Tensor, match_quality_matrix: Tensor
    ) -> None:
        touched = match_quality_matrix.max(1).values > 0
        if touched.any():
            super().set_low_quality_matches_(matches, all_matches, match_quality_matrix[touched])


def build_model(backbone: Pyramid, config: DetectorConfig, *, classes: int) -> FasterRCNN:
    """torchvision's model with the number of classes, anchors and widths of a config."""
    assert config.anchors is not None
    anchors = _Anchors(tuple((side,) for side in config.anchors), (config.ratios,) * LEVELS)
    proposals = max(PROPOSALS, config.detections)
    shared: dict[str, Any] = {
        "rpn_anchor_generator": anchors,
        "rpn_batch_size_per_image": config.rpn_batch,
        "rpn_fg_iou_thresh": config.match,
        "rpn_bg_iou_thresh": BACKGROUND,
        "box_head": TwoMLPHead(config.width * BINS**2, config.hidden),
        "box_predictor": FastRCNNPredictor(config.hidden, classes + 1),
        "box_roi_pool": RegionAlign(BINS),
        "box_score_thresh": config.score,
        "box_nms_thresh": config.overlap,
        "box_detections_per_img": config.detections,
        "rpn_pre_nms_top_n_test": proposals,
        "rpn_post_nms_top_n_test": proposals,
        "box_batch_size_per_image": config.box_batch,
    }
    if config.name == "faster_rcnn":
        model: FasterRCNN = FasterRCNN(backbone, **shared)
    else:
        head = MaskRCNNHeads(config.width, (config.width,) * 4, 1, norm_layer=head_norm(config))
        model = MaskRCNN(
            backbone,
            mask_roi_pool=RegionAlign(2 * BINS),
            mask_head=head,
            mask_predictor=MaskRCNNPredictor(config.width, config.width, classes + 1),
            **shared,
        )
    if isinstance(model, MaskRCNN):
        model.roi_heads = MaskHeads.over(model.roi_heads)
    model.transform = _AsIs()
    for head in (model.rpn.head, model.roi_heads.box_predictor):
        head.register_forward_hook(_precisely)
    matcher = model.rpn.proposal_matcher
    model.rpn.proposal_matcher = _Matcher(
        matcher.high_threshold, matcher.low_threshold, allow_low_quality_matches=True
    )
    return model


def _precisely(head: nn.Module, given: Any, found: tuple[Any, Any]) -> tuple[Any, Any]:
    """What a head has found, in full precision: torchvision turns anchors and proposals into the
    type of the offsets that are added to them."""
    first, second = ([y.float() for y in x] if isinstance(x, list) else x.float() for x in found)
    return first, second


def head_norm(config: DetectorConfig) -> Callable[[int], nn.Module] | None:
    """The layer behind each convolution of pyramid and mask head. Encoders differ in the scale of
    their features by far, and normalised ones learn from scratch (He et al., 2019). Up to 32
    groups, of four channels or more."""
    if config.head_norm == "none":
        return None
    return lambda channels: GroupNorm(max(1, math.gcd(128, channels) // 4), channels)


def fitted_anchors(boxes: Float[np.ndarray, "n 4"], ratios: Sequence[float]) -> tuple[float, ...]:
    """Sides s, 2s, 4s, 8s, 16s for the five levels whose anchors overlap the boxes best, s being 4
    to 64 pixels.

    The overlap is that of a box with its best anchor, averaged over where the box lies between
    the places of a
    level: anchors that fit in size alone, as in YOLOv2 (Redmon and Farhadi, 2017), may stand too
    far apart to touch the boxes. Without boxes, torchvision's 32 to 512; of many boxes SEEN, drawn
    by chance, always the same.
    """
    if not len(boxes):
        return tuple(32.0 * 2**level for level in range(LEVELS))
    if len(boxes) > SEEN:
        boxes = boxes[np.random.default_rng(0).choice(len(boxes), SEEN, replace=False)]
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    steps = 4 * 2 ** (np.arange(9) / 2)
    overlaps = [
        _anchor_overlap(sides, [s * 2**level for level in range(LEVELS)], ratios) for s in steps
    ]
    best = float(steps[int(np.argmax(overlaps))])
    return tuple(round(best * 2**level, 2) for level in range(LEVELS))


def _anchor_overlap(
    sides: Float[np.ndarray, "n 2"], anchors: Sequence[float], ratios: Sequence[float]
) -> float:
    """Mean over boxes (width, height) and their places of the intersection over union with the best
    anchor."""
    shapes = np.array([(a / r**0.5, a * r**0.5) for a in anchors for r in ratios])
    strides = np.repeat([4.0 * 2**level for level in range(LEVELS)], len(ratios))
    union = sides.prod(-1)[:, None] + shapes.prod(-1)
    away = (0.125, 0.375)  # of a box from the nearest place, in strides: halves of a half
    along = [  # what a box and an anchor share along each axis, for each of the distances
        [
            np.clip(
                np.minimum(
                    np.minimum(sides[:, None, i], shapes[:, i]),
                    (sides[:, None, i] + shapes[:, i]) / 2 - a * strides,
                ),
                0,
                None,
            )
            for a in away
        ]
        for i in (0, 1)
    ]
    shared = [across * down for across in along[0] for down in along[1]]
    return float(np.mean([(s / (union - s)).max(1) for s in shared]))
