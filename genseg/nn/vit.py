"""Plain vision transformers of timm: encoders of one level."""

from typing import Any

import timm
from jaxtyping import Float
from torch import Tensor, nn

PATCHES = 4  # on a side of the square image for trying one


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
