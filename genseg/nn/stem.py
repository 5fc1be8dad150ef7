"""The stem of encoders for small images."""

from typing import Any

from torch import nn


def small_stem(net: nn.Module, name: str) -> None:
    """The CIFAR stem of the ResNet paper's followers: 3x3 convolution of stride 1, no max-pool."""
    owner: Any = net.model if hasattr(net, "model") else net
    if not (isinstance(getattr(owner, "conv1", None), nn.Conv2d) and hasattr(owner, "maxpool")):
        raise ValueError(
            f"encoder.stem=small is made for ResNets; {name} has another stem: use "
            "encoder.stem=imagenet"
        )
    out = owner.conv1.out_channels
    owner.conv1 = nn.Conv2d(owner.conv1.in_channels, out, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(owner.conv1.weight, mode="fan_out", nonlinearity="relu")
    owner.maxpool = nn.Identity()
