"""Projection and prediction heads."""

from torch import nn

HEADS = ("mlp", "mlp_bn")


def ends_in_norm(head: str) -> bool:
    """Whether `head` (mlp or mlp_bn) has a batch norm behind its last layer. Raises ValueError for another word."""
    if head not in HEADS:
        raise ValueError(f"method.head={head}: choose one of {', '.join(HEADS)}")
    return head == "mlp_bn"


def mlp(
    *widths: int, norm: bool = True, hidden_bias: bool = True, last_bias: bool = True, last_norm: bool = False
) -> nn.Sequential:
    """Linear layers through `widths` with (batch norm and) ReLU between them.

    `hidden_bias` holds for every layer but the last; `last_norm` puts a batch norm without offset behind the
    last layer, as in SimCLR.
    """
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        last = i == len(widths) - 2
        layers.append(nn.Linear(a, b, bias=last_bias if last else hidden_bias))
        if not last:
            layers += [nn.BatchNorm1d(b), nn.ReLU(inplace=True)] if norm else [nn.ReLU(inplace=True)]
    if last_norm:
        scale = nn.BatchNorm1d(widths[-1])
        scale.bias.requires_grad_(False)
        layers.append(scale)
    return nn.Sequential(*layers)
