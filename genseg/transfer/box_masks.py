"""Masks of boxes, sampled and pasted where their pixels are, as detectron2 does it.

torchvision samples targets half a pixel off (`roi_align` without `aligned`) and pastes at whole
pixels: even its exact target overlaps with an ellipse of 8 px by 0.78 on average, with one of 24
px by 0.93. Here it is 1.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import roi_align

from genseg.data.instances.instance import OPAQUE, Instance, cut_instance


class MaskHeads(RoIHeads):
    """torchvision's heads but for the targets of masks; its parameters and their names are the
    same."""

    @classmethod
    def over(cls, heads: RoIHeads) -> "MaskHeads":
        """The same modules."""
        made = cls.__new__(cls)
        made.__dict__.update(heads.__dict__)
        return made

    def has_mask(self) -> bool:
        """In training the loss of masks is taken here and not by the class above."""
        return not self.training

    def select_training_samples(
        self, proposals: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], Sequence[Tensor]]:
        """Remembers which boxes were drawn, and what they were matched with."""
        self.drawn = super().select_training_samples(proposals, targets)
        return self.drawn

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """As above: what is found, and the terms of the loss."""
        found, terms = super().forward(features, proposals, image_shapes, targets)
        if targets is not None and self.training:
            terms["loss_mask"] = self._mask_loss(features, image_shapes, targets)
        return found, terms

    def _mask_loss(
        self,
        features: dict[str, Tensor],
        image_shapes: list[tuple[int, int]],
        targets: Sequence[Mapping[str, Tensor]],
    ) -> Float[Tensor, ""]:
        """Binary cross-entropy of the mask of each object's box, that of its class (Mask R-CNN,
        section 3)."""
        boxes, which, labels, _ = self.drawn
        positive = [torch.where(x > 0)[0] for x in labels]
        boxes, which, labels = (
            [x[p] for x, p in zip(xs, positive, strict=True)] for xs in (boxes, which, labels)
        )
        logits = self.mask_predictor(
            self.mask_head(self.mask_roi_pool(features, boxes, image_shapes))
        )
        wanted = torch.cat(
            [
                mask_targets(t["masks"], b, i, logits.shape[-1])
                for t, b, i in zip(targets, boxes, which, strict=True)
            ]
        )
        if not len(wanted):
            return logits.sum() * 0
        of_class = logits[torch.arange(len(logits), device=logits.device), torch.cat(labels)]
        return F.binary_cross_entropy_with_logits(of_class, wanted)


def mask_targets(
    masks: UInt8[Tensor, "m h w"], boxes: Float[Tensor, "n 4"], which: Int[Tensor, "n"], side: int
) -> Float[Tensor, "n {side} {side}"]:
    """For each box (left, top, right, bottom) the mask `which` in it, at side x side points."""
    rois = torch.cat([which[:, None].to(boxes), boxes], 1)
    return roi_align(masks[:, None].to(boxes), rois, (side, side), aligned=True)[:, 0]


def pasted(
    masks: Float[Tensor, "n 1 m m"],
    boxes: Float[Tensor, "n 4"],
    scores: Float[Tensor, "n"],
    height: int,
    width: int,
) -> list[Instance | None]:
    """The mask of each box where it lies in the image, bilinear at the centres of pixels; None when
    nothing of it is above a half. Only the box is ever in memory: 375 masks of a large image would
    take gigabytes."""
    found: list[Instance | None] = []
    for mask, (left, top, right, bottom), score in zip(
        masks[:, 0].numpy(), boxes.tolist(), scores.tolist(), strict=True
    ):
        first_row, down = _weights(top, bottom, height, len(mask))
        first_column, across = _weights(left, right, width, len(mask))
        part = (np.clip(down @ mask @ across.T, 0, 1) * OPAQUE).round().astype(np.uint8)
        cut = cut_instance(part, score) if part.size else None
        found.append(
            None
            if cut is None
            else Instance(cut.alpha, cut.top + first_row, cut.left + first_column, score)
        )
    return found


def _weights(
    low: float, high: float, length: int, side: int
) -> tuple[int, Float[np.ndarray, "n {side}"]]:
    """The first pixel of an axis that a box from low to high reaches, and by how much each pixel
    from there takes part in each of the `side` bins of the box. Beyond the outer bins' centres a
    mask fades to nothing."""
    bin_ = max(high - low, 1e-6) / side
    first, end = max(math.floor(low - bin_), 0), min(math.ceil(high + bin_), length)
    place = (np.arange(first, end) + 0.5 - low) / bin_ - 0.5
    weight = np.clip(1 - np.abs(place[:, None] - np.arange(side)), 0, None)
    return first, weight.astype(np.float32)
