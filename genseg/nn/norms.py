"""Which normalisation layers a fine-tuned network has, and batch norms whose statistics are made anew."""

from torch import nn
from torchvision.ops import FrozenBatchNorm2d

NORMS = ("bn", "sync", "frozen", "group")


def with_norms(module: nn.Module, norm: str) -> nn.Module:
    """The module with each batch norm kept (bn), over all processes (sync), frozen (frozen) or by groups (group).

    Frozen ones keep the statistics and the affine part that pretraining has left, as detectron2 does; they are no use
    with random weights, whose statistics are nobody's. Group norms (Wu and He, 2018: 32 groups) take over the affine
    part alone. Raises ValueError for another word.
    """
    if norm not in NORMS:
        raise ValueError(f"norm={norm}: choose one of {', '.join(NORMS)}")
    if norm == "sync":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    if norm == "bn":
        return module
    if isinstance(module, nn.BatchNorm2d):
        return _frozen(module) if norm == "frozen" else _grouped(module)
    for name, child in module.named_children():
        setattr(module, name, with_norms(child, norm))
    return module


def _frozen(norm: nn.BatchNorm2d) -> FrozenBatchNorm2d:
    made = FrozenBatchNorm2d(norm.num_features, eps=norm.eps)
    made.load_state_dict({k: v for k, v in norm.state_dict().items() if k != "num_batches_tracked"})
    return made


def _grouped(norm: nn.BatchNorm2d) -> nn.GroupNorm:
    made = nn.GroupNorm(min(32, norm.num_features), norm.num_features, eps=norm.eps)
    made.load_state_dict({k: v for k, v in norm.state_dict().items() if k in ("weight", "bias")})
    return made


def average_anew(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Have the module's batch norms forget their statistics and average plainly over the batches that follow (precise
    batch norm, Wu and Johnson, 2021, sec. 3). They are in training mode until the module's eval()."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
        m.train()
    return norms
