"""Semantic segmentation with the architectures of segmentation-models-pytorch over our encoder."""

from collections.abc import Iterator
from dataclasses import dataclass

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from genseg.core import dist
from genseg.core.check import at_least
from genseg.core.contrast import full_precision
from genseg.data.labels.class_maps import IGNORED
from genseg.nn.encoder import Encoder, EncoderConfig
from genseg.nn.norms import Norm, with_norms
from genseg.transfer.contract import Labelled, Windows, padded
from genseg.transfer.logit_tiles import logits_by_rows, logits_by_tiles


@dataclass(frozen=True)
class SegmenterConfig:
    name: str = "unet"
    # norms of the encoder; sync: over processes; frozen: as pretraining left them
    norm: Norm = "bn"
    dice: float = 1.0  # weight of the dice loss beside the cross-entropy; 0 leaves it out
    tile: int = 1024  # larger images are processed in overlapping tiles of this many pixels

    def __post_init__(self) -> None:
        at_least(0, dice=self.dice)
        at_least(32, tile=self.tile)


@dataclass(frozen=True)
class FPNConfig(SegmenterConfig):
    """Feature pyramid: cheaper, coarser by 4."""

    name: str = "fpn"


@dataclass(frozen=True)
class DeepLabConfig(SegmenterConfig):
    """DeepLabV3+: dilated, for large context."""

    name: str = "deeplabv3plus"


class Segmenter(nn.Module):
    """An smp model (`model`, which has `save_pretrained`) with our encoder's weights in it."""

    def __init__(
        self,
        encoder: Encoder,
        config: SegmenterConfig,
        architecture: EncoderConfig,
        *,
        classes: int,
    ) -> None:
        super().__init__()
        if architecture.stem != "imagenet":
            raise ValueError(
                f"encoder stem {architecture.stem}: smp builds its models with the stem of "
                "ImageNet alone"
            )
        self.config, self.classes = config, classes
        self.model = smp.create_model(
            config.name,
            architecture.name,
            encoder_weights=None,
            in_channels=architecture.in_channels,
            classes=classes + 1,
        )
        self.model.encoder.load_state_dict(encoder.net.state_dict())
        for name, p in encoder.net.named_parameters():  # what no level needs stays out of training
            self.model.encoder.get_parameter(name).requires_grad_(p.requires_grad)
        encoder.net = self.model.encoder = with_norms(self.model.encoder, config.norm)
        self._encoder = [encoder]  # in a list: its parameters are those of model.encoder
        self.dice = smp.losses.DiceLoss("multiclass", from_logits=True, ignore_index=IGNORED)

    @property
    def encoder(self) -> Encoder:
        return self._encoder[0]

    def forward(self, batch: Labelled) -> dict[str, Tensor]:
        assert batch.semantic is not None
        logits = self.model(batch.images)
        with full_precision(logits):
            logits = logits.float()
            asked = dist.over_ranks((batch.semantic != IGNORED).sum())
            crossed = (
                F.cross_entropy(logits, batch.semantic, ignore_index=IGNORED, reduction="sum")
                / asked
            )
            terms = {"cross_entropy": crossed}
            if self.config.dice:
                terms["dice"] = self.config.dice * self.dice(logits, batch.semantic)
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    @torch.no_grad()
    def segment(self, image: Float[Tensor, "c h w"]) -> Float[Tensor, "n h w"]:
        """Logits of the background and each class. Large images are seen by overlapping tiles."""
        return logits_by_tiles(image, self._tile, tile=self.config.tile)

    def segment_rows(self, image: Windows) -> Iterator[Float[Tensor, "n _ w"]]:
        """The same from the first row to the last in parts, of an image that is read by windows;
        where nothing was looked at it may be of the background alone."""
        for part in logits_by_rows(image, self._tile, tile=self.config.tile):
            missing = self.classes + 1 - len(part)
            yield F.pad(part, (0, 0, 0, 0, 0, missing))

    @torch.no_grad()
    def _tile(self, image: Float[Tensor, "c h w"]) -> Float[Tensor, "n h w"]:
        """The logits of a part of an image."""
        h, w = image.shape[1:]
        logits: Tensor = self.model(padded(image))
        return logits[0, :, :h, :w].float()
