"""Which normalisation layers a network has, and batch norms whose statistics are made anew."""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from timm.layers.norm_act import (
    BatchNormAct2d,
    FrozenBatchNormAct2d,
    GroupNormAct,
    SyncBatchNormAct,
    convert_sync_batchnorm,
)
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

Norm = Literal["bn", "sync", "frozen", "group"]


class GroupNorm(nn.GroupNorm):
    """Group norm (Wu and He, 2018) that is fast on CPUs, too: torch's kernel for channels_last
    takes ten times and more as long there as the one for channels first with two copies
    (docs/log/). The same numbers, in the input's layout.
    """

    def forward(self, input: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        last = input.ndim == 4 and not input.is_contiguous()
        if input.device.type != "cpu" or not last:
            return super().forward(input)
        return super().forward(input.contiguous()).contiguous(memory_format=torch.channels_last)


def with_norms(module: nn.Module, norm: Norm) -> nn.Module:
    """The module with each batch norm kept (bn), over all processes (sync), frozen (frozen) or by
    groups (group).

    Frozen ones keep the statistics and the affine part that pretraining has left, as detectron2
    does; they are no use with random weights, whose statistics are nobody's. Group norms (Wu and
    He, 2018: 32 groups, or fewer where the width does not divide) take over the affine part alone.
    timm's batch norms hold an activation, which stays.
    """
    assert norm in get_args(Norm)
    # made before: two parts of a module may share an encoder
    if norm == "bn" or isinstance(module, nn.SyncBatchNorm):
        return module
    if norm == "sync" and isinstance(module, nn.modules.batchnorm._BatchNorm):
        return convert_sync_batchnorm(module)  # timm's: torch's own loses the activations
    if norm != "sync" and isinstance(module, nn.BatchNorm2d):
        return _frozen(module) if norm == "frozen" else _grouped(module)
    for name, child in module.named_children():
        setattr(module, name, with_norms(child, norm))
    return module


def unsynced(module: nn.Module) -> None:
    """Make the batch norms over all processes in `module` those of this process again, in place:
    for what one process does alone, where the others would never answer. `module` itself is none,
    and what they see are maps."""
    for name, child in module.named_children():
        if isinstance(child, nn.SyncBatchNorm):
            kind = BatchNormAct2d if isinstance(child, SyncBatchNormAct) else nn.BatchNorm2d
            made = kind(child.num_features, eps=child.eps).to(child.weight)
            made.momentum = child.momentum
            setattr(module, name, _in_place_of(child, made))
        else:
            unsynced(child)


def _frozen(norm: nn.BatchNorm2d) -> nn.Module:
    kind = FrozenBatchNormAct2d if isinstance(norm, BatchNormAct2d) else FrozenBatchNorm2d
    return _in_place_of(norm, kind(norm.num_features, eps=norm.eps))


def _grouped(norm: nn.BatchNorm2d) -> nn.Module:
    width, groups = norm.num_features, math.gcd(32, norm.num_features)
    if isinstance(norm, BatchNormAct2d):
        return _in_place_of(norm, GroupNormAct(width, groups, eps=norm.eps))
    return _in_place_of(norm, GroupNorm(groups, width, eps=norm.eps))


def _in_place_of(norm: nn.BatchNorm2d | nn.SyncBatchNorm, made: nn.Module) -> nn.Module:
    """With what `made` can hold of a batch norm: its tensors, and timm's activation."""
    if isinstance(norm, BatchNormAct2d | SyncBatchNormAct):
        made.drop, made.act = norm.drop, norm.act
    made.load_state_dict({k: v for k, v in norm.state_dict().items() if k in made.state_dict()})
    return made


def average_anew(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Have the module's batch norms forget their statistics and average plainly over the batches
    that follow (precise batch norm, Wu and Johnson, 2021, sec. 3). They are in training mode until
    the module's eval()."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
        m.train()
    return norms
