"""Batch norm that sees groups of a batch apart, as several devices do."""

from torch import Tensor, cat, nn


class Grouped(nn.modules.batchnorm._BatchNorm):
    """What a grouped batch norm does before its own class: in training it takes the groups one
    after the other."""

    groups: int

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        return cat([super(Grouped, self).forward(part) for part in x.chunk(self.groups)])


def group_norms(module: nn.Module, groups: int) -> None:
    """Let each batch norm in `module` normalise every one of `groups` equal runs of a batch by
    itself, in training.

    It is what a pass for each group would give, running statistics included, but convolutions see
    the whole batch: on a CPU they are slow on small ones. Classes that derive from batch norm
    (timm's, which have an activation inside) keep what they do besides.
    """
    if groups == 1:
        return
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.__class__ = type(
                f"Grouped{type(part).__name__}", (Grouped, type(part)), {"groups": groups}
            )
