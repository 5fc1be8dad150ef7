"""Plain vision transformers of timm: encoders of one level, and of a pyramid."""

from typing import Any

import timm
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

PATCHES = 4  # on a side of the square image for trying one
STRIDE = 16  # of a pyramid's level that is the map of the patches
DETAIL = (48, 96, 192)  # channels of its finer levels, of strides 2, 4 and 8 (ViTMatte, sec. 3.3)


class PlainViT(nn.Module):
    """The patch tokens behind the last block and its norm, as a map, for images of any whole number
    of patches."""

    def __init__(self, name: str, *, pretrained: bool, channels: int = 3) -> None:
        """Raises TypeError where timm's model of that name is no plain ViT, and what timm raises
        where there is none."""
        super().__init__()
        model: Any = timm.create_model(
            name,
            pretrained=pretrained,
            num_classes=0,
            dynamic_img_size=True,
            in_chans=channels,
        )
        if not hasattr(model, "forward_intermediates"):
            raise TypeError(f"{name} is no plain ViT")
        self.model = model
        self.out_channels = [channels, int(model.embed_dim)]
        self.side = PATCHES * int(model.patch_embed.patch_size[0])

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """The image, and the map."""
        maps = self.model.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)
        return [x, maps[-1]]


class DetailedViT(PlainViT):
    """A plain ViT as the fifth level of a pyramid, of stride 16, with finer levels of convolutions
    from the image: the detail of its edges, which patches do not have.

    After ViTMatte (Yao et al., 2023). The image is resized so that each place of that level is one
    patch; the level of stride 32 is its mean. Like those of another size, position embeddings are
    interpolated. Names of the transformer's weights stay timm's.
    """

    def __init__(self, plain: PlainViT) -> None:
        nn.Module.__init__(self)
        self.model = plain.model
        self.patch, self.side = plain.side // PATCHES, PATCHES * STRIDE
        width = plain.out_channels[-1]
        channels = plain.out_channels[0]
        self.out_channels = [channels, *DETAIL, width, width]
        self.detail = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            )
            for before, after in zip((channels, *DETAIL), DETAIL, strict=False)
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """The image, and five levels. Sides are multiples of 32."""
        levels = [x]
        for layer in self.detail:
            levels.append(layer(levels[-1]))
        size = [n // STRIDE * self.patch for n in x.shape[2:]]
        if size != list(x.shape[2:]):
            x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        patches = super().forward(x)[-1]
        return [*levels, patches, F.avg_pool2d(patches, 2)]


def detailed(net: nn.Module, name: str) -> DetailedViT:
    """The pyramid of a plain ViT. Raises ValueError for another network, called `name`."""
    if isinstance(net, PlainViT):
        return DetailedViT(net)
    raise ValueError(f"encoder.stem=detail is for plain ViTs; {name} has a pyramid of its own")
