"""The blocks of an encoder, one after the other: for what ends in its middle."""

from torch import nn

from genseg.nn.encoder import Encoder


def blocks_of(encoder: Encoder) -> tuple[list[nn.Module], list[nn.Module]]:
    """The encoder's own modules in two lists: its stem, and its blocks. Run in a row they give its
    last feature map.

    ResNets (and ResNeXts) have 8 blocks (18 layers), 16 (34 and 50) or 33 (101); ConvNeXts 12 (atto
    to pico), 14 (nano), 18 (tiny) or 36. What shrinks a ConvNeXt's map belongs to the block behind
    it.

    Raises ValueError for an encoder that is no such chain.
    """
    net = getattr(encoder.net, "model", encoder.net)
    stem: list[nn.Module] = []
    blocks: list[nn.Module] = []
    for name, part in net.named_children():
        if name.startswith("layer") and isinstance(part, nn.Sequential):
            blocks += part
        elif name.startswith("stages") and hasattr(part, "downsample"):
            first, *rest = part.blocks
            blocks += [nn.Sequential(part.downsample, first), *rest]
        elif not blocks and name.startswith(("conv1", "bn1", "relu", "act1", "maxpool", "stem")):
            stem.append(part)
        else:
            blocks.clear()
            break
    if not blocks:
        raise ValueError(
            "the blocks of this encoder are not known, but those of ResNets and ConvNeXts are: use "
            "encoder.name=resnet50 or tu-convnext_tiny, or another method.target.name"
        )
    return stem, blocks
